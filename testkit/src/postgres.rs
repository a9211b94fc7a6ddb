use std::env;
use std::fmt;
use std::fs;
use std::ops::Deref;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use crate::account;
use crate::availability::{Kind, Unavailable, or_skip};
use crate::binaries;
use crate::unique;
use crate::watchdog::{Program, Watched};

const URL: &str = "PERF_TEST_POSTGRES_URL";

const KIND: Kind = Kind {
    name: "Postgres",
    remedy: "install `postgresql`, or set PERF_TEST_POSTGRES_URL, or run `make test`",
};

// `--no-sync` concerns the fresh directory alone; the server itself keeps fsync on, since
// benches compare durable commits.
const PREPARE: &str = r#""$TESTKIT_BIN/initdb" -D "$dir/data" --username=postgres --auth=trust \
    --encoding=UTF8 --no-locale --no-sync"#;
const START: &str = r#"exec "$TESTKIT_BIN/postgres" -D "$dir/data" -p "$port" \
    -c listen_addresses=127.0.0.1 -c "unix_socket_directories=$dir" -c max_connections=200"#;

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
        let outcome = blocking(Self::private).await;
        or_skip(outcome, &KIND).map(|postgres| OwnPostgres { postgres })
    }

    fn external_or_private() -> Result<Self, Unavailable> {
        match env::var(URL) {
            Ok(url) if !url.is_empty() => Ok(Self {
                inner: Arc::new(Inner::External(url)),
            }),
            _ => Self::private(),
        }
    }

    fn private() -> Result<Self, Unavailable> {
        let bin = binaries::directory_with(&["initdb", "postgres"]).ok_or(Unavailable::Missing)?;
        let program = Program {
            name: "pg",
            bin,
            account: account::other_than_root().map_err(Unavailable::Failed)?,
            prepare: PREPARE,
            start: START,
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
            Inner::Private(server) => {
                let port = server.state().port;
                format!("postgres://postgres@127.0.0.1:{port}/postgres?sslmode=disable")
            }
        }
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
    #[expect(clippy::panic, reason = "a test without its schema has to fail")]
    pub async fn schema_url(&self) -> String {
        let url = self.url();
        let schema = unique("test");
        match create_schema(&url, &schema).await {
            Ok(()) => with_search_path(&url, &schema),
            Err(error) => panic!("schema {schema} cannot be made at {url}: {error}"),
        }
    }
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Postgres")
            .field("url", &self.url())
            .finish()
    }
}

/// A Postgres server of one test's own, from [`Postgres::start`].
#[derive(Debug)]
pub struct OwnPostgres {
    postgres: Postgres,
}

impl OwnPostgres {
    /// Stops the server as an administrator would: sessions are ended with an error, commits are
    /// kept, and the port refuses connections when this returns. Does nothing where it is stopped.
    ///
    /// # Panics
    ///
    /// If the server's watchdog is gone.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the stop goes on in the background.
    pub async fn stop(&self) {
        self.with_server("stop", |server| server.stop("INT")).await;
    }

    /// Lets the server crash: no goodbye to clients, no checkpoint, recovery at the next start.
    /// The port refuses connections when this returns.
    ///
    /// # Panics
    ///
    /// If the server's watchdog is gone.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the crash goes on in the background.
    pub async fn crash(&self) {
        self.with_server("crash", |server| server.stop("QUIT"))
            .await;
    }

    /// Stops the server where it runs and starts it again on the same port, so that
    /// [`Postgres::url`] stays valid; returns when it takes connections.
    ///
    /// # Panics
    ///
    /// If it does not come up.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the restart goes on in the background.
    pub async fn restart(&self) {
        self.with_server("restart", |server| {
            server.stop("INT")?;
            server.relaunch()
        })
        .await;
    }

    /// The process id of the server, for tests that signal it themselves.
    pub fn pid(&self) -> u32 {
        self.server().map_or(0, |server| server.state().pid)
    }

    /// The directory with the server's files, its log (`log`) and its Unix socket.
    pub fn dir(&self) -> &Path {
        self.server().map_or(Path::new(""), Watched::dir)
    }

    fn server(&self) -> Option<&Watched> {
        server(&self.postgres.inner)
    }

    #[expect(clippy::panic, reason = "a test that lost its server has to fail")]
    async fn with_server(
        &self,
        what: &str,
        run: impl FnOnce(&Watched) -> Result<(), String> + Send + 'static,
    ) {
        let inner = Arc::clone(&self.postgres.inner);
        let outcome = blocking(move || server(&inner).map_or(Ok(()), run)).await;
        if let Err(why) = outcome {
            panic!("cannot {what} Postgres: {why}");
        }
    }
}

impl Deref for OwnPostgres {
    type Target = Postgres;

    fn deref(&self) -> &Postgres {
        &self.postgres
    }
}

fn server(inner: &Inner) -> Option<&Watched> {
    match inner {
        Inner::Private(server) => Some(server),
        Inner::External(_) => None,
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

async fn create_schema(url: &str, schema: &str) -> Result<(), sqlx::Error> {
    let mut connection = PgConnection::connect(url).await?;
    connection
        .execute(AssertSqlSafe(format!("CREATE SCHEMA {schema}")))
        .await?;
    connection.close().await
}

fn with_search_path(url: &str, schema: &str) -> String {
    let separator = if url.contains('?') { '&' } else { '?' };
    format!("{url}{separator}options=-c%20search_path%3D{schema}")
}

/// Runs `work` where it may block, and hands its panic on.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
