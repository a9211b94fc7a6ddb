//! Enqueue as part of a transaction of the application's.

use std::error::Error;
#[cfg(feature = "sqlite")]
use std::path::PathBuf;
use std::sync::Arc;

use sqlx::Transaction;

use crate::BackendError;
use crate::backend::Why;

/// A job was not added to a transaction of the application's.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnqueueInError {
    /// The queue's jobs are not in the database of the transaction: they are elsewhere, or in a database
    /// of another kind.
    #[error(
        "the queue's jobs are not in this kind of database: build it on the one that the transaction is in"
    )]
    OtherDatabase,
    /// The connection is to another file than the queue's, so that the job could not commit with the
    /// transaction.
    #[cfg(feature = "sqlite")]
    #[error(
        "the transaction is on {}, the queue in {}: open both on the same file",
        .found.display(),
        .queue.display()
    )]
    OtherFile {
        /// The file of the connection; empty for a database in memory.
        found: PathBuf,
        /// The file of the queue.
        queue: PathBuf,
    },
    /// No transaction is open on the connection, as far as sqlx knows.
    #[error("no transaction is open on this connection: begin one with sqlx's begin")]
    NoTransaction,
    /// The transaction is `REPEATABLE READ` or `SERIALIZABLE`, and so does not see at its commit which
    /// workers wait to be woken, nor what others have changed. Nothing was added, and the transaction is
    /// as it was.
    #[cfg(feature = "postgres")]
    #[error(
        "the transaction is repeatable read or serializable, and the queue needs read committed: begin it \
         with sqlx's begin where that is the default, or begin_with(\"BEGIN ISOLATION LEVEL READ COMMITTED\")"
    )]
    Isolation,
    /// The transaction has read from the file before somebody else has written to it, which the queue
    /// does all the time, and SQLite lets no such transaction write.
    #[cfg(feature = "sqlite")]
    #[error(
        "the file was written after this transaction had begun to read from it: begin it with \
         begin_with(\"BEGIN IMMEDIATE\"), or write before you read"
    )]
    Stale {
        /// The error of the database.
        source: sqlx::Error,
    },
    /// The queue is full. It cannot be waited for room inside of a transaction.
    #[error("the queue is full: roll back and try again later, raise its bound or add workers")]
    Full,
    /// The queue takes no more jobs.
    #[error("the queue is closed: it takes no more jobs here")]
    Closed,
    /// The job is too large for the queue.
    #[error(
        "the job takes {size} bytes, the queue at most {max}: raise max_payload or keep a reference in the job"
    )]
    PayloadTooLarge {
        /// The bytes that it takes.
        size: usize,
        /// The queue's `max_payload`.
        max: usize,
    },
    /// The job cannot be made into bytes.
    #[error("the job cannot be serialized: give it a Serialize that JSON takes")]
    Encode {
        /// What kept it from that.
        source: Arc<dyn Error + Send + Sync>,
    },
    /// The database refused; the transaction may have failed with it.
    #[error("the job was not added to the transaction: roll it back, and try again")]
    Database {
        /// Why.
        source: sqlx::Error,
    },
    /// The backend refused; the transaction may have failed with it.
    #[error("the job was not added to the transaction: roll it back, and try again")]
    Backend {
        /// Why.
        #[from]
        source: BackendError,
    },
}

impl From<Why> for EnqueueInError {
    fn from(why: Why) -> Self {
        match why {
            Why::Full | Why::TooMany { .. } => Self::Full,
            Why::Closed => Self::Closed,
            Why::TooLarge { size, max } => Self::PayloadTooLarge { size, max },
            Why::Encode(source) => Self::Encode { source },
            Why::Backend(source) => Self::Backend { source },
        }
    }
}

/// A connection of the application's.
#[derive(Debug)]
pub enum Connection<'c> {
    /// To SQLite.
    #[cfg(feature = "sqlite")]
    Sqlite(&'c mut sqlx::SqliteConnection),
    /// To Postgres.
    #[cfg(feature = "postgres")]
    Postgres(&'c mut sqlx::PgConnection),
}

/// What [`Queue::enqueue_in`](crate::Queue::enqueue_in) takes: a transaction of sqlx's, or a
/// connection on which one is open.
pub trait InTransaction: Send {
    /// The connection. Not to be called outside of this crate.
    #[doc(hidden)]
    fn connection(&mut self) -> Connection<'_>;
}

#[cfg(feature = "sqlite")]
impl InTransaction for sqlx::SqliteConnection {
    fn connection(&mut self) -> Connection<'_> {
        Connection::Sqlite(self)
    }
}

#[cfg(feature = "sqlite")]
impl InTransaction for Transaction<'_, sqlx::Sqlite> {
    fn connection(&mut self) -> Connection<'_> {
        Connection::Sqlite(self)
    }
}

#[cfg(feature = "postgres")]
impl InTransaction for sqlx::PgConnection {
    fn connection(&mut self) -> Connection<'_> {
        Connection::Postgres(self)
    }
}

#[cfg(feature = "postgres")]
impl InTransaction for Transaction<'_, sqlx::Postgres> {
    fn connection(&mut self) -> Connection<'_> {
        Connection::Postgres(self)
    }
}
