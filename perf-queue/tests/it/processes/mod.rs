//! Processes that share a queue and are killed, stopped and cut off, on servers that crash: what
//! Jepsen's total queue asks, and the order and the limits as all of them together kept them.
//!
//! The processes are this test binary, started again.

mod check;
mod crew;
mod log;
mod nemesis;
mod worker;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use testkit::Proxy;

use self::check::History;
use self::crew::Crew;
use self::nemesis::{Nemesis, Place, Wrong};
use crate::support::ms;

/// A job: the `n`th that this process enqueued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Task {
    producer: u32,
    key: u32,
    n: u32,
}

const LEASE: Duration = Duration::from_secs(1);
const PER_SECOND: u32 = 150;
const PER_KEY: u32 = 15;

/// Faults in a run that everybody waits for, and in one by `make faults`.
const MANY: usize = 110;
const MORE: usize = 1_000;

/// The seed of a run, which chooses the faults and not what comes of them: `PERF_QUEUE_SEED` has it
/// again.
fn seed() -> u64 {
    let given = std::env::var("PERF_QUEUE_SEED").ok();
    given.map_or_else(|| fastrand::u64(..), |seed| seed.parse().unwrap())
}

/// What runs in which place under which name, and what each member of a crew connects to.
struct Setting<P> {
    name: &'static str,
    place: P,
    urls: Vec<String>,
    proxies: Vec<Proxy>,
    pause: Duration,
}

impl<P: Place> Setting<P> {
    async fn go_wrong(&self, faults: usize) {
        let seed = seed();
        println!("{}: {faults} faults, PERF_QUEUE_SEED={seed}", self.name);
        let dir = TempDir::new().unwrap();
        let mut crew = Crew::start(self.name, self.urls.clone(), dir.path(), self.pause);
        let begun = log::now();
        let nemesis = Nemesis {
            place: &self.place,
            crew: &mut crew,
            proxies: &self.proxies,
            rng: fastrand::Rng::with_seed(seed),
        };
        let faults = nemesis.run(faults).await;
        let over = log::now();
        let left = tokio::task::block_in_place(|| crew.end());
        println!(
            "{:?} of faults, {:?} to empty",
            over - begun,
            log::now() - over
        );
        // What is in it when the first of them comes to its end is for the others.
        assert_eq!(left.iter().min(), Some(&0), "{left:?}");
        let mut history = History::new(faults, crew.stops.clone());
        for (process, file) in crew.files() {
            history.read(process, log::read(&file));
        }
        if std::env::var("PERF_QUEUE_KEEP").is_ok() {
            println!("events are in {}", dir.keep().display());
        }
        history.check(self.name != "sqlite");
    }
}

/// The processes of a server, each with a network of its own.
#[cfg(any(feature = "postgres", feature = "redis"))]
async fn through(
    address: impl tokio::net::ToSocketAddrs + Clone,
    url: &str,
) -> (Vec<String>, Vec<Proxy>) {
    let (mut urls, mut proxies) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let proxy = Proxy::start(address.clone()).await;
        urls.push(proxy.url(url));
        proxies.push(proxy);
    }
    (urls, proxies)
}

#[cfg(any(feature = "postgres", feature = "redis"))]
const ON_A_SERVER: &[Wrong] = &[
    Wrong::Kill,
    Wrong::Kill,
    Wrong::Stop,
    Wrong::Stop,
    Wrong::Partition,
    Wrong::Reset,
    Wrong::Crash,
    Wrong::Restart,
    Wrong::Cut,
];

#[cfg(feature = "redis")]
struct OnRedis(testkit::OwnRedis);

#[cfg(feature = "redis")]
impl OnRedis {
    async fn command(&self, args: &[&str]) {
        let client = redis::Client::open(self.0.url()).unwrap();
        let mut conn = client.get_multiplexed_async_connection().await.unwrap();
        let mut cmd = redis::cmd(args[0]);
        cmd.arg(&args[1..]);
        let _: redis::RedisResult<redis::Value> = cmd.query_async(&mut conn).await;
    }
}

#[cfg(feature = "redis")]
impl Place for OnRedis {
    const WRONG: &'static [Wrong] = ON_A_SERVER;

    async fn crash(&self) {
        self.0.crash().await;
        self.0.restart().await;
    }

    async fn restart(&self) {
        self.0.restart().await;
    }

    async fn cut(&self) {
        self.command(&["SCRIPT", "FLUSH"]).await;
        self.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"])
            .await;
    }
}

#[cfg(feature = "redis")]
async fn on_redis(faults: usize) {
    let Some(server) = testkit::Redis::start().await else {
        return;
    };
    let url = server.url();
    let address = url
        .trim_start_matches("redis://")
        .trim_end_matches('/')
        .to_owned();
    let (urls, proxies) = through(address, &url).await;
    let setting = Setting {
        name: "redis",
        place: OnRedis(server),
        urls,
        proxies,
        pause: ms(15),
    };
    setting.go_wrong(faults).await;
}

#[cfg(feature = "postgres")]
struct OnPostgres(testkit::OwnPostgres);

#[cfg(feature = "postgres")]
impl Place for OnPostgres {
    const WRONG: &'static [Wrong] = ON_A_SERVER;

    async fn crash(&self) {
        self.0.crash().await;
        self.0.restart().await;
    }

    async fn restart(&self) {
        self.0.restart().await;
    }

    async fn cut(&self) {
        let others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                      WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'";
        let pool = sqlx::PgPool::connect(&self.0.url()).await.unwrap();
        sqlx::query(others).execute(&pool).await.unwrap();
        pool.close().await;
    }
}

#[cfg(feature = "postgres")]
async fn on_postgres(faults: usize) {
    let Some(server) = testkit::Postgres::start().await else {
        return;
    };
    let (urls, proxies) = through(server.address(), &server.url()).await;
    let setting = Setting {
        name: "postgres",
        place: OnPostgres(server),
        urls,
        proxies,
        pause: ms(15),
    };
    setting.go_wrong(faults).await;
}

#[cfg(feature = "sqlite")]
struct OnSqlite(std::path::PathBuf);

#[cfg(feature = "sqlite")]
impl Place for OnSqlite {
    const WRONG: &'static [Wrong] = &[
        Wrong::Kill,
        Wrong::Kill,
        Wrong::Kill,
        Wrong::Stop,
        Wrong::Block,
    ];

    async fn block(&self, wait: Duration) {
        use sqlx::Connection;
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&self.0);
        let Ok(mut conn) = sqlx::SqliteConnection::connect_with(&options).await else {
            return;
        };
        // A transaction of somebody else's, which writers wait for.
        if let Ok(tx) = conn.begin_with("BEGIN IMMEDIATE").await {
            tokio::time::sleep(wait).await;
            tx.rollback().await.unwrap();
        }
    }
}

#[cfg(feature = "sqlite")]
async fn on_sqlite(faults: usize) {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("queue.db");
    let setting = Setting {
        name: "sqlite",
        urls: vec![file.display().to_string()],
        place: OnSqlite(file),
        proxies: Vec::new(),
        pause: ms(8),
    };
    setting.go_wrong(faults).await;
}

macro_rules! processes {
    ($($feature:literal $run:ident: $many:ident $more:ident)*) => {$(
        #[cfg(feature = $feature)]
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $many() {
            $run(MANY).await;
        }

        #[cfg(feature = $feature)]
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        #[ignore = "takes minutes: make faults"]
        async fn $more() {
            $run(MORE).await;
        }
    )*};
}

processes! {
    "redis" on_redis: no_process_takes_jobs_of_redis_along a_thousand_faults_on_redis
    "postgres" on_postgres: no_process_takes_jobs_of_postgres_along a_thousand_faults_on_postgres
    "sqlite" on_sqlite: no_process_takes_jobs_of_sqlite_along a_thousand_faults_on_sqlite
}
