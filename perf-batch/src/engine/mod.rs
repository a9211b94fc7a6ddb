//! What differs between the databases.

mod class;
#[cfg(feature = "postgres")]
mod postgres;
pub(crate) mod savepoint;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod sql;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(feature = "postgres")]
mod unnest;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod values;

use std::future::Future;

use sqlx::error::BoxDynError;
use sqlx::{Database, Transaction};

pub(crate) use class::{Class, Refusal, commit_is_open};

use crate::order::Indexed;
use crate::pieces::Shape;
use crate::{BulkValues, OnConflict, Path, Table};

/// A database that the crate writes to: `sqlx::Sqlite` with the feature `sqlite`,
/// `sqlx::Postgres` with the feature `postgres`.
#[diagnostic::on_unimplemented(
    message = "perf-batch does not write to `{Self}`",
    note = "switch on the feature of the database in Cargo.toml: `sqlite` or `postgres`"
)]
pub trait BulkDatabase: Engine {}

/// The verbs of a database; sealed, as the module is private.
pub trait Engine: Database {
    /// The statements for one batch.
    type Plan: Plan;

    /// Plans the statements by the values of `sample`.
    fn plan<R: BulkValues<Self>>(
        table: &Table,
        conflict: &OnConflict,
        sample: &R,
    ) -> Result<Self::Plan, String>;

    /// Inserts the rows by one statement; returns how many the database counts as written.
    fn insert<R: BulkValues<Self> + Sync>(
        conn: &mut Self::Connection,
        plan: &mut Self::Plan,
        rows: &[Indexed<'_, R>],
    ) -> impl Future<Output = Result<u64, InsertError>> + Send;

    /// Runs a statement, or several, without arguments.
    fn command(
        conn: &mut Self::Connection,
        sql: &'static str,
    ) -> impl Future<Output = sqlx::Result<()>> + Send;

    /// Starts a transaction that takes its locks so that it cannot fail half way for want of one.
    fn begin(
        conn: &mut Self::Connection,
    ) -> impl Future<Output = sqlx::Result<Transaction<'_, Self>>> + Send;

    /// Called when the future of [`begin`](Self::begin) was dropped before it was done.
    fn abandon_begin(conn: &mut Self::Connection);

    /// Whether a transaction of one's own should first make deferred constraints immediate.
    const DEFERS_CONSTRAINTS: bool;

    /// Whether concurrent transactions lock row by row, so that the order of keys matters.
    const LOCKS_ROWS: bool;

    /// Makes the transaction's ROLLBACK go through after an error.
    fn before_rollback(conn: &mut Self::Connection) -> impl Future<Output = ()> + Send;

    /// Brings sqlx's idea of the transaction in line with the database's after a failed COMMIT.
    fn after_failed_commit(conn: &mut Self::Connection) -> impl Future<Output = ()> + Send;
}

/// What the writing loop asks a plan.
pub trait Plan: Send + Sync {
    /// How many rows a statement takes.
    fn shape(&self) -> Shape;

    /// How the rows go in.
    fn path(&self) -> Path;
}

/// Why a statement did not go in.
#[derive(Debug)]
pub enum InsertError {
    /// The row at this offset cannot be encoded; nothing was sent.
    Encode { offset: usize, source: BoxDynError },
    /// The database or the connection said no.
    Database(sqlx::Error),
}
