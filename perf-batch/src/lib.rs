#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod batcher;
mod copy;
mod delete;
mod engine;
mod error;
mod insert;
mod job;
mod key;
mod left_out;
mod loader;
mod metrics;
mod options;
mod order;
mod page;
mod phase;
mod pieces;
mod report;
mod retry;
mod returned;
mod returning;
mod row;
mod setters;
mod sizes;
mod source;
mod table;
mod ticket;
mod update;
mod verb;
mod write;

pub use batcher::{AddError, Batcher, BatcherBuilder, DrainError, Ticket};
pub use delete::BulkDelete;
pub use engine::BulkDatabase;
pub use error::BatchError;
pub use insert::BulkInsert;
pub use loader::{LoadError, Loader, LoaderBuilder};
pub use options::{Duplicates, OnConflict, OnRowError, Progress, TxScope};
pub use page::{Page, PageError, PageQuery};
#[cfg(feature = "derive")]
pub use perf_batch_derive::BulkRow;
pub use report::{BatchReport, Path, RowFailure};
pub use retry::Retry;
pub use returning::Returning;
pub use row::{BulkKey, BulkKeyValues, BulkRow, BulkValues, ValueSink};
pub use source::Source;
pub use table::{Column, Table};
pub use update::BulkUpdate;

/// What the derive's output names; no part of the API.
#[doc(hidden)]
pub mod __private {
    pub use crate::key::{AnyKey, Key, OptionKey};
    pub use sqlx::error::BoxDynError;
    pub use sqlx::{Database, Encode, Type};
}
