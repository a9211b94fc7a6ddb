use std::any::Any;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use sqlx::AssertSqlSafe;
use sqlx::postgres::{PgPool, PgPoolOptions};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use tempfile::TempDir;

use super::Failure;

/// A table to write to. A handle that is cheap to clone.
pub trait Target: Clone + Send + 'static {
    /// Makes room for so many rows and returns the number of the first; outside the time.
    fn make_room(&self, rows: usize) -> impl Future<Output = Result<i64, Failure>> + Send;
}

/// A table of SQLite: a file of its own in WAL mode with `synchronous=FULL`, over one connection.
#[derive(Debug, Clone)]
pub struct Lite {
    /// The pool of one connection.
    pub pool: SqlitePool,
    table: &'static str,
    dir: Arc<TempDir>,
}

impl Lite {
    /// Makes the file and, by the SQL of `create`, the table.
    ///
    /// # Errors
    ///
    /// What kept it from that.
    pub async fn open(table: &'static str, create: &'static str) -> Result<Self, Failure> {
        let dir = TempDir::new()?;
        let options = SqliteConnectOptions::new()
            .filename(dir.path().join("bench.db"))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full);
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .test_before_acquire(false);
        let pool = pool.connect_with(options).await?;
        sqlx::raw_sql(create).execute(&pool).await?;
        let dir = Arc::new(dir);
        Ok(Self { pool, table, dir })
    }

    /// The file.
    pub fn path(&self) -> std::path::PathBuf {
        self.dir.path().join("bench.db")
    }
}

impl Target for Lite {
    async fn make_room(&self, _rows: usize) -> Result<i64, Failure> {
        let sql = format!(
            "DELETE FROM {}; PRAGMA wal_checkpoint(TRUNCATE)",
            self.table
        );
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(&self.pool)
            .await?;
        Ok(0)
    }
}

/// How a connection reaches Postgres.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// By TCP, on 127.0.0.1.
    Tcp,
    /// By the server's Unix socket.
    Socket,
}

impl Transport {
    /// The part of a group's name that says the database: `postgres` or `postgres_socket`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Tcp => "postgres",
            Self::Socket => "postgres_socket",
        }
    }
}

/// A table of Postgres, in a schema of its own, over one connection.
#[derive(Clone)]
pub struct Pg {
    /// The pool of one connection.
    pub pool: PgPool,
    url: Arc<str>,
    table: &'static str,
    /// The next row's number, and so the rows that the table holds.
    next: Arc<AtomicI64>,
    _server: Option<Arc<dyn Any + Send + Sync>>,
}

/// How many rows a table holds before it is emptied.
const FULL: i64 = 100_000;

impl Pg {
    /// Makes the table in the shared server, by the SQL of `create`; `None` where there is no
    /// server, or no socket of it.
    ///
    /// # Errors
    ///
    /// What kept it from that.
    pub async fn open(
        transport: Transport,
        table: &'static str,
        create: &'static str,
    ) -> Result<Option<Self>, Failure> {
        let Some(server) = testkit::Postgres::shared().await else {
            return Ok(None);
        };
        let url = match transport {
            Transport::Tcp => server.schema_url().await,
            Transport::Socket => match server.schema_socket_url().await {
                Some(url) => url,
                None => return Ok(None),
            },
        };
        Self::at(url, table, create, None).await.map(Some)
    }

    /// Makes the table at `url`, and holds on to `server` as long as it is used.
    pub(crate) async fn at(
        url: String,
        table: &'static str,
        create: &'static str,
        server: Option<Arc<dyn Any + Send + Sync>>,
    ) -> Result<Self, Failure> {
        let pool = Self::pool_at(&url, 1).await?;
        sqlx::raw_sql(create).execute(&pool).await?;
        Ok(Self {
            pool,
            url: url.into(),
            table,
            next: Arc::default(),
            _server: server,
        })
    }

    /// Another pool to the same table, of so many connections, all open.
    ///
    /// # Errors
    ///
    /// What kept it from connecting.
    pub async fn pool_of(&self, connections: u32) -> Result<PgPool, Failure> {
        Self::pool_at(&self.url, connections).await
    }

    async fn pool_at(url: &str, connections: u32) -> Result<PgPool, Failure> {
        let pool = PgPoolOptions::new()
            .max_connections(connections)
            .min_connections(connections)
            .test_before_acquire(false);
        Ok(pool.connect(url).await?)
    }

    /// The URL that the connections were made with.
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl fmt::Debug for Pg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pg")
            .field("url", &self.url)
            .field("table", &self.table)
            .finish_non_exhaustive()
    }
}

impl Target for Pg {
    async fn make_room(&self, rows: usize) -> Result<i64, Failure> {
        let rows = i64::try_from(rows)?;
        let first = self.next.fetch_add(rows, Ordering::Relaxed);
        if first == 0 || first + rows <= FULL {
            return Ok(first);
        }
        let sql = format!("TRUNCATE {}", self.table);
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(&self.pool)
            .await?;
        self.next.store(rows, Ordering::Relaxed);
        Ok(0)
    }
}
