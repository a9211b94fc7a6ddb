use std::fmt::Debug;

use perf_batch::{
    BatchError, BatchReport, BulkInsert, Column, OnConflict, OnRowError, Path, RowFailure, Table,
};

#[test]
fn public_types_are_send_sync_and_debug() {
    fn check<T: Send + Sync + Debug>() {}
    check::<BatchError>();
    check::<BatchReport<String>>();
    check::<RowFailure<String>>();
    check::<BulkInsert<String>>();
    check::<OnConflict>();
    check::<OnRowError>();
    check::<Path>();
    check::<Table>();
    check::<Column>();
}
