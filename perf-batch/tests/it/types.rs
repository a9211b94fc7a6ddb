use std::fmt::Debug;

use perf_batch::{
    BatchError, BatchReport, BulkInsert, Column, LoadError, Loader, LoaderBuilder, OnConflict,
    OnRowError, Page, PageError, Path, RowFailure, Table,
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
    check::<Loader<u8, String>>();
    check::<LoaderBuilder<u8, String>>();
    check::<LoadError>();
    check::<Page<String>>();
    check::<PageError>();
    #[cfg(feature = "sqlite")]
    check::<perf_batch::PageQuery<sqlx::Sqlite>>();
    #[cfg(feature = "postgres")]
    check::<perf_batch::PageQuery<sqlx::Postgres>>();
}
