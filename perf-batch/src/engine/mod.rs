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
use std::sync::Arc;

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
pub trait Engine: crate::batcher::Measure {
    /// The statements for one batch.
    type Plan: Plan;

    /// Plans the statements by the values of `sample`.
    fn plan<R: BulkValues<Self>>(
        table: &Table,
        conflict: &OnConflict,
        sample: &R,
    ) -> Result<Self::Plan, String>;

    /// Encodes rows from the front into one statement: all of them, unless they are too large for
    /// one.
    fn statement<R: BulkValues<Self>>(
        plan: &mut Self::Plan,
        rows: &[Indexed<'_, R>],
    ) -> Result<Statement<Self>, EncodeError>;

    /// Runs the statement; returns how many rows the database counts as written.
    fn insert(
        conn: &mut Self::Connection,
        statement: Statement<Self>,
    ) -> impl Future<Output = sqlx::Result<u64>> + Send;

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

/// A statement that has yet to be sent.
#[derive(Debug)]
pub struct Statement<DB: Database> {
    /// Its text.
    pub sql: Arc<str>,
    /// Its values.
    pub arguments: DB::Arguments,
    /// How many of the rows it takes, from the front; at least 1.
    pub rows: usize,
}

/// A row that cannot be encoded; nothing was sent.
#[derive(Debug)]
pub struct EncodeError {
    /// Its place among the rows.
    pub offset: usize,
    /// Why.
    pub source: BoxDynError,
}
