//! What differs between the databases.

#[cfg(feature = "postgres")]
mod call;
mod class;
#[cfg(feature = "postgres")]
mod copy;
#[cfg(feature = "postgres")]
mod join;
#[cfg(feature = "postgres")]
mod outcome;
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
use std::ops::DerefMut;
use std::sync::Arc;

use sqlx::error::BoxDynError;
use sqlx::{Database, Transaction};

pub(crate) use class::{Class, Refusal, commit_is_open, is_lost, is_refused_as_such, is_transient};

use crate::order::Indexed;
use crate::pieces::Shape;
use crate::ticket::{Outcome, TransactionId};
use crate::verb::Verb;
use crate::{BulkValues, Path, Table};

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

    /// The copy for one batch.
    type Copying: Send + Sync;

    /// Plans the statements by the values of `sample`.
    fn plan<R: BulkValues<Self> + Sync>(
        conn: &mut Self::Connection,
        wanted: &Wanted<'_>,
        sample: &R,
    ) -> impl Future<Output = Result<Self::Plan, PlanError>> + Send;

    /// Encodes rows from the front into one statement: all of them, unless they are too large for
    /// one.
    fn statement<R: BulkValues<Self>>(
        plan: &mut Self::Plan,
        rows: &[Indexed<'_, R>],
    ) -> Result<Statement<Self>, EncodeError>;

    /// Runs the statement; returns how many rows the database counts as written.
    fn run(
        conn: &mut Self::Connection,
        statement: Statement<Self>,
    ) -> impl Future<Output = sqlx::Result<u64>> + Send;

    /// Runs the statement of a plan that returns values, and tells them; returns how many rows the
    /// database counts as written, or `None` where it is open which value is which row's.
    ///
    /// For one row it is never open.
    fn fetch(
        conn: &mut Self::Connection,
        statement: Statement<Self>,
        told: Told<'_, Self>,
    ) -> impl Future<Output = sqlx::Result<Option<u64>>> + Send;

    /// A value of a row.
    fn value(row: &Self::Row, column: usize) -> sqlx::Result<Self::ValueRef<'_>>;

    /// Runs the statement as a transaction by itself.
    ///
    /// Only where [`ATOMIC_ALONE`](Self::ATOMIC_ALONE).
    fn run_alone(
        conn: &mut Self::Connection,
        statement: Statement<Self>,
    ) -> impl Future<Output = Result<u64, Unfinished>> + Send {
        async {
            let ran = Self::run(conn, statement).await;
            ran.map_err(|error| Unfinished { error, done: true })
        }
    }

    /// Writes what can be written of the rows in one call of the server's own language; only for a
    /// plan that [`calls`](Plan::calls). A plan that returns values has them told.
    fn call<R: BulkValues<Self> + Sync>(
        conn: &mut Self::Connection,
        plan: &mut Self::Plan,
        rows: &[Indexed<'_, R>],
        how: How,
        told: Told<'_, Self>,
    ) -> impl Future<Output = sqlx::Result<Called>> + Send {
        let _ = (conn, plan, rows, how, told);
        async { Err(sqlx::Error::Protocol("the plan has no call".into())) }
    }

    /// Removes what calls left behind.
    fn tidy(
        conn: &mut Self::Connection,
        plan: &mut Self::Plan,
    ) -> impl Future<Output = sqlx::Result<()>> + Send {
        let _ = (conn, plan);
        async { Ok(()) }
    }

    /// How to copy so many rows in, where that is the best way, or the one that is wanted.
    fn copying<R: BulkValues<Self> + Sync>(
        conn: &mut Self::Connection,
        wanted: &Wanted<'_>,
        sample: &R,
        rows: usize,
    ) -> impl Future<Output = Result<Option<Self::Copying>, PlanError>> + Send;

    /// Encodes rows from the front into one copy; returns how many it takes.
    fn encode_copy<R: BulkValues<Self>>(
        copying: &Self::Copying,
        rows: &[Indexed<'_, R>],
    ) -> Result<(Vec<u8>, usize), EncodeError>;

    /// The copy's statement.
    fn copy_sql(copying: &Self::Copying) -> Arc<str>;

    /// Makes sure, inside a transaction, that the table is as it was planned for until that ends.
    fn hold(
        conn: &mut Self::Connection,
        copying: &Self::Copying,
    ) -> impl Future<Output = sqlx::Result<()>> + Send;

    /// Copies encoded rows in, inside a transaction. The connection comes back where it is of use.
    ///
    /// Dropped, it rolls the transaction back and leaves the connection in order.
    fn copy<C>(
        conn: C,
        sql: Arc<str>,
        data: Vec<u8>,
    ) -> impl Future<Output = (Option<C>, sqlx::Result<u64>)> + Send
    where
        C: DerefMut<Target = Self::Connection> + Send + 'static;

    /// Which row of a copy the error blames.
    fn refused_row(copying: &Self::Copying, error: &sqlx::Error) -> Option<usize>;

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

    /// What the order of the rows has to do with which of them are refused.
    fn order(
        conn: &mut Self::Connection,
        wanted: &Wanted<'_>,
    ) -> impl Future<Output = sqlx::Result<Order>> + Send;

    /// The id by which the outcome of the running transaction can be asked for later.
    fn transaction_id(
        conn: &mut Self::Connection,
    ) -> impl Future<Output = sqlx::Result<Option<TransactionId>>> + Send;

    /// What became of a transaction.
    fn outcome(
        conn: &mut Self::Connection,
        id: &TransactionId,
    ) -> impl Future<Output = sqlx::Result<Outcome>> + Send;

    /// Writes a row into the marker table.
    fn mark(
        conn: &mut Self::Connection,
        table: &str,
        id: &str,
    ) -> impl Future<Output = sqlx::Result<()>> + Send;

    /// What became of the transaction that wrote that row; waits for its end.
    fn marked(
        conn: &mut Self::Connection,
        table: &str,
        id: &str,
    ) -> impl Future<Output = sqlx::Result<Outcome>> + Send;

    /// Whether a statement that fails outside a transaction leaves nothing behind.
    const ATOMIC_ALONE: bool;

    /// Whether a transaction of one's own should first make deferred constraints immediate.
    const DEFERS_CONSTRAINTS: bool;

    /// Whether concurrent transactions lock row by row, so that the order of keys matters.
    const LOCKS_ROWS: bool;

    /// Makes the transaction's ROLLBACK go through after an error.
    fn before_rollback(conn: &mut Self::Connection) -> impl Future<Output = ()> + Send;

    /// Brings sqlx's idea of the transaction in line with the database's after a failed COMMIT.
    fn after_failed_commit(conn: &mut Self::Connection) -> impl Future<Output = ()> + Send;
}

/// Told the value that a row returned: its place among the rows, and where the value is.
pub(crate) type Told<'a, DB> =
    &'a mut (dyn FnMut(usize, &<DB as Database>::Row, usize) -> sqlx::Result<()> + Send + 'a);

/// A statement that is a transaction by itself, and ended with an error.
#[derive(Debug)]
pub struct Unfinished {
    /// The error.
    pub(crate) error: sqlx::Error,
    /// The statement itself may be done, so its commit may be too.
    pub(crate) done: bool,
}

/// What a plan is made for.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(
    not(any(feature = "postgres", feature = "sqlite")),
    expect(dead_code, reason = "there is no database to plan for")
)]
pub struct Wanted<'a> {
    /// The table and its columns.
    pub(crate) table: &'a Table,
    /// What to do with the rows.
    pub(crate) verb: &'a Verb,
    /// The way the caller insists on.
    pub(crate) path: Option<Path>,
    /// A number of rows that may have a statement text of its own.
    pub(crate) exact: usize,
    /// There are so few rows that they do best as values, all in one statement.
    #[cfg_attr(
        all(feature = "sqlite", not(feature = "postgres")),
        expect(dead_code, reason = "SQLite takes rows of any number alike")
    )]
    pub(crate) few: bool,
    /// The column whose values the rows return.
    pub(crate) returning: Option<&'a str>,
}

/// How rows must go in, so that those are refused which are when they go in one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Order {
    /// In any order, as many in a statement as may be.
    Any,
    /// In the order of the input.
    Input,
    /// One by one: rows of one statement could pass that fail one after the other, or the other
    /// way round, as something is seen or checked only when the statement ends.
    Singly,
}

impl Order {
    /// As the queries say it: 0, 1, 2.
    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    pub(crate) fn of(code: i32) -> Self {
        match code {
            0 => Self::Any,
            1 => Self::Input,
            _ => Self::Singly,
        }
    }
}

/// Why there is no plan.
#[derive(Debug)]
pub enum PlanError {
    /// The table and the wishes do not go together.
    Invalid(String),
    /// The database was asked and failed.
    Database(sqlx::Error),
}

/// How a call goes about its rows.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(
    not(feature = "postgres"),
    expect(dead_code, reason = "only Postgres has calls")
)]
pub struct How {
    /// One after the other, never several in a statement.
    pub(crate) singly: bool,
    /// A bad row is known to be among them.
    pub(crate) suspect: bool,
    /// It ends once more rows than this were refused.
    pub(crate) room: usize,
}

/// What a call came to.
#[derive(Debug, Default)]
pub struct Called {
    /// How many of the rows it was about, from the front; at least 1.
    pub(crate) taken: usize,
    /// Rows the database counts as written.
    pub(crate) affected: u64,
    /// The refused rows, by their place among the rows.
    pub(crate) failed: Vec<(usize, Refusal)>,
}

/// What the writing loop asks a plan.
pub trait Plan: Send + Sync {
    /// How many rows a statement takes.
    fn shape(&self) -> Shape;

    /// How the rows go in.
    fn path(&self) -> Path;

    /// Whether the server can look for the bad rows by itself.
    fn calls(&self) -> bool {
        false
    }

    /// Whether statements of several rows return values too.
    fn returns_many(&self) -> bool {
        false
    }

    /// Whether it can be open which value is which row's.
    fn may_mix_up(&self) -> bool {
        false
    }

    /// How many requests it took to make.
    fn requests(&self) -> u64 {
        0
    }
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
