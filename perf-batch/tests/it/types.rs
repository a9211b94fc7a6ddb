use std::fmt::Debug;

use perf_batch::{
    AddError, BatchError, BatchReport, Batcher, BatcherBuilder, BulkInsert, Column, DrainError,
    OnConflict, OnRowError, Path, RowFailure, Table, Ticket,
};

#[test]
fn public_types_are_send_sync_and_debug() {
    fn check<T: Send + Sync + Debug>() {}
    check::<Batcher<String>>();
    check::<BatcherBuilder<(), String>>();
    check::<Ticket<String>>();
    check::<AddError<String>>();
    check::<DrainError>();
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
