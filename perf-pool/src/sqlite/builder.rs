use std::fmt;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_core::future::BoxFuture;
use sqlx::sqlite::{SqliteConnectOptions, SqliteSynchronous};
use sqlx::{Sqlite, SqliteConnection};

use super::{SqlitePools, options};
use crate::hooks::AfterConnect;
use crate::{BuildError, ConnectError, Pool, PoolBuilder};

/// SQLite counts the milliseconds in an `int`.
const LONGEST_BUSY_TIMEOUT: Duration = Duration::from_millis(i32::MAX as u64);

/// Settings of [`SqlitePools`]; [`open`](Self::open) checks them and opens the database.
#[must_use = "a builder does nothing until `open`"]
pub struct SqlitePoolsBuilder {
    path: PathBuf,
    name: String,
    readers: Option<u32>,
    synchronous: SqliteSynchronous,
    acquire_timeout: Duration,
    busy_timeout: Duration,
    after_connect: Option<AfterConnect<Sqlite>>,
}

impl SqlitePoolsBuilder {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            name: "sqlite".to_owned(),
            readers: None,
            synchronous: SqliteSynchronous::Full,
            acquire_timeout: Duration::from_secs(30),
            busy_timeout: Duration::from_secs(5),
            after_connect: None,
        }
    }

    /// The pools' names are this with `_write` and `_read` appended; they are the metrics' label
    /// `pool`. Defaults to `sqlite`.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// How many readers may run at a time. Defaults to the number of cores.
    pub fn readers(mut self, readers: u32) -> Self {
        self.readers = Some(readers);
        self
    }

    /// How safe a commit is. Defaults to [`SqliteSynchronous::Full`]: what was committed survives
    /// a power failure. With [`SqliteSynchronous::Normal`] commits no longer wait for the disk, and
    /// a power failure may take the last ones back; the database stays consistent either way.
    pub fn synchronous(mut self, synchronous: SqliteSynchronous) -> Self {
        self.synchronous = synchronous;
        self
    }

    /// The longest to wait for the writer or for a reader. Writers queue for one connection, so
    /// give it the time of as many transactions as may stand in the queue. Defaults to 30 seconds.
    pub fn acquire_timeout(mut self, timeout: Duration) -> Self {
        self.acquire_timeout = timeout;
        self
    }

    /// How long SQLite waits for a lock that another process holds, at most 24 days. Defaults to
    /// 5 seconds.
    pub fn busy_timeout(mut self, timeout: Duration) -> Self {
        self.busy_timeout = timeout.min(LONGEST_BUSY_TIMEOUT);
        self
    }

    /// Runs on every new connection before its first use, the writer's and the readers' alike.
    /// Defaults to nothing. See [`PoolBuilder::after_connect`].
    pub fn after_connect<F>(mut self, hook: F) -> Self
    where
        F: for<'c> Fn(&'c mut SqliteConnection) -> BoxFuture<'c, Result<(), sqlx::Error>>
            + Send
            + Sync
            + 'static,
    {
        self.after_connect = Some(std::sync::Arc::new(hook));
        self
    }

    /// Opens the database: the writer first, which creates the file and sets WAL mode, then the
    /// readers.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Build`] for zero readers, an in-memory database (its connections cannot
    /// share it) or a URL; else what SQLite says, or the `after_connect` hook.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: what was opened is closed. The file may have been created.
    ///
    /// # Panics
    ///
    /// Panics outside a tokio runtime.
    pub async fn open(self) -> Result<SqlitePools, ConnectError> {
        check_path(&self.path)?;
        let readers = self.readers.unwrap_or_else(cores);
        if readers == 0 {
            return Err(BuildError::NoReaders.into());
        }
        let options = options::writer(&self.path, self.busy_timeout, self.synchronous);
        let writer = self.pool("write", 1).begin_statement("BEGIN IMMEDIATE");
        let writer = self.connect(writer, options).await?;
        let options = options::reader(&self.path, self.busy_timeout);
        let readers = self.connect(self.pool("read", readers), options).await?;
        Ok(SqlitePools { writer, readers })
    }

    fn pool(&self, kind: &str, connections: u32) -> PoolBuilder<Sqlite> {
        let pool = Pool::builder()
            .name(format!("{}_{kind}", self.name))
            .min_connections(connections)
            .max_connections(connections)
            .acquire_timeout(self.acquire_timeout)
            // The database is in this process: a connection does not age, and no test can find
            // its peer gone. And a second writer must never be opened because the first one is
            // still busy with a statement whose caller has left.
            .idle_timeout(None)
            .max_lifetime(None)
            .return_timeout(None);
        match self.after_connect.clone() {
            Some(hook) => pool.after_connect(move |conn| hook(conn)),
            None => pool,
        }
    }

    async fn connect(
        &self,
        pool: PoolBuilder<Sqlite>,
        options: SqliteConnectOptions,
    ) -> Result<Pool<Sqlite>, ConnectError> {
        // Opening may have to recover a WAL or wait for a lock.
        let pool = pool.connect_timeout(self.busy_timeout.max(Duration::from_secs(5)) * 2);
        pool.open(options, self.path.display().to_string()).await
    }
}

impl fmt::Debug for SqlitePoolsBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlitePoolsBuilder")
            .field("path", &self.path)
            .field("name", &self.name)
            .field("readers", &self.readers)
            .field("synchronous", &self.synchronous)
            .field("acquire_timeout", &self.acquire_timeout)
            .field("busy_timeout", &self.busy_timeout)
            .finish_non_exhaustive()
    }
}

fn cores() -> u32 {
    std::thread::available_parallelism()
        .map_or(1, NonZero::get)
        .try_into()
        .unwrap_or(u32::MAX)
}

fn check_path(path: &Path) -> Result<(), BuildError> {
    let text = path.to_string_lossy();
    if text.is_empty() || text.contains(":memory:") || text.contains("mode=memory") {
        return Err(BuildError::InMemory {
            path: path.to_owned(),
        });
    }
    if text.starts_with("sqlite:") || text.starts_with("file:") {
        return Err(BuildError::UrlForPath {
            path: path.to_owned(),
        });
    }
    Ok(())
}
