mod options;
mod own;
mod url;

use std::env;
use std::fmt;
use std::fs;
use std::sync::{Arc, OnceLock};

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use crate::account;
use crate::availability::{Kind, Unavailable, or_skip};
use crate::binaries;
use crate::unique;
use crate::watchdog::{Program, Watched};

pub use options::PostgresOptions;
pub use own::OwnPostgres;

const URL: &str = "PERF_TEST_POSTGRES_URL";

const KIND: Kind = Kind {
    name: "Postgres",
    remedy: "install `postgresql`, or set PERF_TEST_POSTGRES_URL, or run `make test`",
};

// `--no-sync` concerns the fresh directory alone; the server itself keeps fsync on, since
// benches compare durable commits.
const PREPARE: &str = r#""$TESTKIT_BIN/initdb" -D "$dir/data" --username=postgres --auth=trust \
    --encoding=UTF8 --no-locale --no-sync"#;

/// A Postgres server for tests: trust authentication, `fsync` on, 200 connections.
///
/// A cheap handle. Nothing in it belongs to a tokio runtime, so tests that each have a runtime of
/// their own can share it.
#[derive(Clone)]
pub struct Postgres {
    inner: Arc<Inner>,
}

#[derive(Debug)]
enum Inner {
    External(String),
    Private(Watched),
}

impl Inner {
    fn server(&self) -> Option<&Watched> {
        match self {
            Self::Private(server) => Some(server),
            Self::External(_) => None,
        }
    }
}

impl Postgres {
    /// The server that all tests of this process share: the one at `PERF_TEST_POSTGRES_URL` where
    /// that is set, else a private one that the first caller starts from the binaries on the
    /// machine and that ends with the process, however it ends.
    ///
    /// `None` where the binaries are missing, after a line on standard error that names the test.
    ///
    /// # Panics
    ///
    /// If the binaries are missing while `PERF_REQUIRE_SERVERS=1` is set, and if the server does
    /// not start.
    pub async fn shared() -> Option<Self> {
        static SHARED: OnceLock<Result<Postgres, Unavailable>> = OnceLock::new();
        let outcome = blocking(|| SHARED.get_or_init(Self::external_or_private).clone()).await;
        or_skip(outcome, &KIND)
    }

    /// A private server for one test, which may stop and restart it. Dropping the last handle
    /// stops it and removes its files; that waits for the server's end, a few milliseconds.
    ///
    /// `None` where the binaries are missing, as with [`Postgres::shared`].
    ///
    /// # Panics
    ///
    /// As [`Postgres::shared`].
    pub async fn start() -> Option<OwnPostgres> {
        Self::start_with(PostgresOptions::new()).await
    }

    /// As [`Postgres::start`], with settings and environment variables of the test's own.
    ///
    /// # Panics
    ///
    /// As [`Postgres::shared`]; a setting that Postgres does not know keeps it from starting.
    pub async fn start_with(options: PostgresOptions) -> Option<OwnPostgres> {
        let outcome = blocking(move || Self::private(&options)).await;
        or_skip(outcome, &KIND).map(|postgres| OwnPostgres { postgres })
    }

    fn external_or_private() -> Result<Self, Unavailable> {
        match env::var(URL) {
            Ok(url) if !url.is_empty() => Ok(Self {
                inner: Arc::new(Inner::External(url)),
            }),
            _ => Self::private(&PostgresOptions::new()),
        }
    }

    fn private(options: &PostgresOptions) -> Result<Self, Unavailable> {
        let bin = binaries::directory_with(&["initdb", "postgres"]).ok_or(Unavailable::Missing)?;
        let program = Program {
            name: "pg",
            bin,
            account: account::other_than_root().map_err(Unavailable::Failed)?,
            prepare: PREPARE,
            start: &options.start(),
            halt: "QUIT",
            ready,
        };
        let server = Watched::start(&program).map_err(Unavailable::Failed)?;
        Ok(Self {
            inner: Arc::new(Inner::Private(server)),
        })
    }

    /// The URL of a database that all tests share. Most tests want [`Postgres::schema_url`].
    pub fn url(&self) -> String {
        match &*self.inner {
            Inner::External(url) => url.clone(),
            Inner::Private(server) => url::over_tcp(server.state().port),
        }
    }

    /// The host and the port of the server, as [`Proxy::start`](crate::Proxy::start) takes them.
    ///
    /// # Panics
    ///
    /// If `PERF_TEST_POSTGRES_URL` is not a URL of Postgres.
    pub fn address(&self) -> (String, u16) {
        url::address(&self.url())
    }

    /// The URL of the same database over the private server's Unix socket; `None` for the server
    /// of `PERF_TEST_POSTGRES_URL`. The socket is for this process's user (and for root).
    pub fn socket_url(&self) -> Option<String> {
        let server = self.inner.server()?;
        Some(url::over_socket(server.dir(), server.state().port))
    }

    /// Makes a schema that is this caller's alone and returns the URL of it: connections to that
    /// URL have it as their whole `search_path`. It stays until the server goes.
    ///
    /// # Panics
    ///
    /// If the server does not take the connection or refuses to make the schema.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it may leave an empty schema that nobody uses.
    pub async fn schema_url(&self) -> String {
        with_schema(self.url()).await
    }

    /// As [`Postgres::schema_url`], over the Unix socket of [`Postgres::socket_url`].
    ///
    /// # Panics
    ///
    /// As [`Postgres::schema_url`].
    ///
    /// # Cancel safety
    ///
    /// As [`Postgres::schema_url`].
    pub async fn schema_socket_url(&self) -> Option<String> {
        Some(with_schema(self.socket_url()?).await)
    }
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Postgres")
            .field("url", &self.url())
            .finish()
    }
}

/// The server says in its lock file when it takes connections: process id in the first line,
/// state in the eighth. This is how `pg_ctl --wait` knows.
fn ready(server: &Watched) -> bool {
    let lock = fs::read_to_string(server.dir().join("data/postmaster.pid")).unwrap_or_default();
    let mut lines = lock.lines();
    let ours = lines.next() == Some(server.state().pid.to_string().as_str());
    ours && lines.nth(6).is_some_and(|state| state.trim() == "ready")
}

#[expect(clippy::panic, reason = "a test without its schema has to fail")]
async fn with_schema(url: String) -> String {
    let schema = unique("test");
    match create_schema(&url, &schema).await {
        Ok(()) => url::with_search_path(&url, &schema),
        Err(error) => panic!("schema {schema} cannot be made at {url}: {error}"),
    }
}

async fn create_schema(url: &str, schema: &str) -> Result<(), sqlx::Error> {
    let mut connection = PgConnection::connect(url).await?;
    connection
        .execute(AssertSqlSafe(format!("CREATE SCHEMA {schema}")))
        .await?;
    connection.close().await
}

/// Runs `work` where it may block, and hands its panic on.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
