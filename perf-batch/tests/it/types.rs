use std::fmt::Debug;

use perf_batch::{
    AddError, BatchError, BatchReport, Batcher, BatcherBuilder, BulkDelete, BulkInsert, BulkUpdate,
    Column, DrainError, Duplicates, LoadError, Loader, LoaderBuilder, OnConflict, OnRowError, Page,
    PageError, Path, Progress, Retry, Returning, RowFailure, Table, Ticket, TxScope,
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
    check::<Returning<String>>();
    check::<BulkUpdate<String>>();
    check::<BulkDelete<String>>();
    check::<Duplicates>();
    check::<TxScope>();
    check::<Progress>();
    check::<Retry>();
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
