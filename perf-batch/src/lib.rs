#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod batcher;
mod engine;
mod error;
mod insert;
mod key;
mod metrics;
mod options;
mod order;
mod pieces;
mod report;
mod row;
mod table;
mod write;

pub use batcher::{AddError, Batcher, BatcherBuilder, DrainError, Ticket};
pub use engine::BulkDatabase;
pub use error::BatchError;
pub use insert::BulkInsert;
pub use options::{OnConflict, OnRowError};
#[cfg(feature = "derive")]
pub use perf_batch_derive::BulkRow;
pub use report::{BatchReport, Path, RowFailure};
pub use row::{BulkRow, BulkValues, ValueSink};
pub use table::{Column, Table};

/// What the derive's output names; no part of the API.
#[doc(hidden)]
pub mod __private {
    pub use crate::key::{AnyKey, Key, OptionKey};
    pub use sqlx::error::BoxDynError;
    pub use sqlx::{Database, Encode, Type};
}
