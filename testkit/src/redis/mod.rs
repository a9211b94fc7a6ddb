mod own;

use std::env;
use std::ffi::OsStr;
use std::fmt;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::availability::{Kind, Unavailable, or_skip};
use crate::binaries;
use crate::postgres::blocking;
use crate::unique;
use crate::watchdog::{Program, Watched};

pub use own::OwnRedis;

const URL: &str = "PERF_TEST_REDIS_URL";

const KIND: Kind = Kind {
    name: "Redis",
    remedy: "install `redis-server`, or set PERF_TEST_REDIS_URL, or run `make test`",
};

const START: &str = r#"exec "$TESTKIT_BIN/redis-server" --bind 127.0.0.1 --port "$port" \
    --dir "$dir" --save "" --appendonly no"#;

// The append-only file is written before a client gets its answer, so what was answered outlives the
// process however it ends; it is synced once a second, which matters to the machine's end alone.
const START_DURABLE: &str = r#"exec "$TESTKIT_BIN/redis-server" --bind 127.0.0.1 --port "$port" \
    --dir "$dir" --save "" --appendonly yes --appendfsync always"#;

// The port of its bus lies ten thousand above, unless there is none.
const START_CLUSTER: &str = r#"exec "$TESTKIT_BIN/redis-server" --bind 127.0.0.1 --port "$port" \
    --dir "$dir" --save "" --appendonly no --cluster-enabled yes \
    --cluster-port "$((port > 50000 ? port - 10000 : port + 10000))""#;

/// A Redis server for tests: the shared one without persistence, one of a test's own with an
/// append-only file.
///
/// A cheap handle; nothing in it belongs to a tokio runtime.
#[derive(Clone)]
pub struct Redis {
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

impl Redis {
    /// The server that all tests of this process share: the one at `PERF_TEST_REDIS_URL` where
    /// that is set, else a private one that the first caller starts from the `redis-server` on
    /// the machine and that ends with the process, however it ends.
    ///
    /// `None` where the binary is missing, after a line on standard error that names the test.
    ///
    /// # Panics
    ///
    /// If the binary is missing while `PERF_REQUIRE_SERVERS=1` is set, and if the server does not
    /// start.
    pub async fn shared() -> Option<Self> {
        static SHARED: OnceLock<Result<Redis, Unavailable>> = OnceLock::new();
        let outcome = blocking(|| SHARED.get_or_init(Self::external_or_private).clone()).await;
        or_skip(outcome, &KIND)
    }

    /// A private server for one test, with an append-only file, which the test may stop and restart.
    /// Dropping the last handle stops it and removes its files.
    ///
    /// `None` where the binary is missing, as with [`Redis::shared`].
    ///
    /// # Panics
    ///
    /// As [`Redis::shared`].
    pub async fn start() -> Option<OwnRedis> {
        Self::own(START_DURABLE).await
    }

    /// As [`Redis::start`], a node of a cluster, without persistence. It serves no key until it has
    /// slots: `CLUSTER ADDSLOTSRANGE 0 16383` gives it all of them. From then on it refuses commands
    /// and scripts whose keys are in different slots.
    ///
    /// # Panics
    ///
    /// As [`Redis::shared`].
    pub async fn start_cluster_node() -> Option<OwnRedis> {
        Self::own(START_CLUSTER).await
    }

    async fn own(start: &'static str) -> Option<OwnRedis> {
        let outcome = blocking(move || Self::private(start)).await;
        or_skip(outcome, &KIND).map(|server| OwnRedis {
            redis: Self {
                inner: Arc::new(Inner::Private(server)),
            },
        })
    }

    fn external_or_private() -> Result<Self, Unavailable> {
        let inner = match env::var(URL) {
            Ok(url) if !url.is_empty() => Inner::External(url),
            _ => Inner::Private(Self::private(START)?),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    fn private(start: &str) -> Result<Watched, Unavailable> {
        let bin = binaries::directory_with(&["redis-server"]).ok_or(Unavailable::Missing)?;
        let program = Program {
            name: "redis",
            bin,
            account: None,
            prepare: ":",
            start: OsStr::new(start),
            halt: "KILL",
            ready,
        };
        Watched::start(&program).map_err(Unavailable::Failed)
    }

    /// The URL of a database that all tests share; keep to keys below [`Redis::prefix`].
    pub fn url(&self) -> String {
        match &*self.inner {
            Inner::External(url) => url.clone(),
            Inner::Private(server) => format!("redis://127.0.0.1:{}/", server.state().port),
        }
    }

    /// A new prefix for keys, with a colon at its end, that no other test has.
    pub fn prefix(&self) -> String {
        unique("test") + ":"
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis").field("url", &self.url()).finish()
    }
}

/// A `PONG` alone could come from another server, to which ours lost the port.
fn ready(server: &Watched) -> bool {
    answers_ping(server.state().port).unwrap_or(false)
        && server.log().contains("Ready to accept connections")
}

fn answers_ping(port: u16) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    stream.write_all(b"PING\r\n")?;
    let mut reply = [0; 7];
    stream.read_exact(&mut reply)?;
    Ok(&reply == b"+PONG\r\n")
}
