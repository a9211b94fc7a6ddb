mod builder;
mod driver;
mod options;

use std::path::Path;

use sqlx::Sqlite;

pub use self::builder::SqlitePoolsBuilder;
use crate::{ConnectError, Pool};

/// Two pools on one SQLite file in WAL mode: a single writer, and readers that run beside it.
///
/// SQLite lets one connection write at a time, and its own lock neither queues fairly nor wakes
/// who waits. Here writers queue for the one connection in their order, transactions on it begin
/// with `BEGIN IMMEDIATE`, and readers cannot write; so within the process nobody ever sees
/// `SQLITE_BUSY`. A second process that writes to the file is waited for up to
/// [`busy_timeout`](SqlitePoolsBuilder::busy_timeout).
///
/// A cheap handle: clones share the pools.
#[derive(Debug, Clone)]
pub struct SqlitePools {
    writer: Pool<Sqlite>,
    readers: Pool<Sqlite>,
}

impl SqlitePools {
    /// Opens the database file at `path`, created if missing, with the defaults of
    /// [`builder`](Self::builder).
    ///
    /// # Errors
    ///
    /// As [`SqlitePoolsBuilder::open`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: what was opened is closed. The file may have been created.
    ///
    /// # Panics
    ///
    /// Panics outside a tokio runtime.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, ConnectError> {
        Self::builder(path).open().await
    }

    /// Pools on the file at `path` to configure; [`SqlitePoolsBuilder::open`] opens them.
    pub fn builder(path: impl AsRef<Path>) -> SqlitePoolsBuilder {
        SqlitePoolsBuilder::new(path.as_ref())
    }

    /// The readers. Writing through them fails: `attempt to write a readonly database`. A reader
    /// sees what was committed before its statement (or its transaction) began.
    pub fn read(&self) -> &Pool<Sqlite> {
        &self.readers
    }

    /// The writer: one connection. `begin` is `BEGIN IMMEDIATE`; keep transactions short, for
    /// everybody else who writes waits meanwhile.
    pub fn write(&self) -> &Pool<Sqlite> {
        &self.writer
    }

    /// Closes both pools, the writer last, so that it leaves a checkpointed file without WAL.
    /// Waits for connections in use, without a bound. May be called any number of times.
    ///
    /// # Cancel safety
    ///
    /// As [`Pool::close`]; the writer is closed only once the readers are.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}
