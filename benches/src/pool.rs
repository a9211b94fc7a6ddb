//! The works of perf-pool.
//!
//! `postgres/select/T`: T tasks share a pool of 8 and run `SELECT 1`, each on a connection checked
//! out for it, over loopback. `sqlite/select/T`: the same on readers of one file, as many as
//! cores. `sqlite/mixed`: 32 tasks commit a row and 32 read one, at once, `synchronous=NORMAL` and
//! WAL for all. Pools are warm. `naive` is sqlx's pool with its defaults but for the size,
//! `sqlx_no_ping` the same without the ping before handing out (on SQLite also without lifetimes,
//! as ours), `floor` bare connections without a pool. The readers of `sqlite/select` are opened
//! with the same options in all entries.
//!
//! `sqlite/select` is little more than a hop to SQLite's thread and back, and takes two to four
//! times as long when the two threads are on different cores. An entry settles in one placement for
//! a whole group, so the interval of a run does not cover that: unpinned, the floor has come out
//! slower than the pools above it, and the ratios of `sqlite/mixed` have turned round from one run
//! to the next. Compare both on one core, over several runs:
//! `taskset -c 0 cargo run --release -p perf-benches --bin ratios -- --only pool/sqlite`.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use perf_pool::{Pool, SqlitePools};
use sqlx::pool::PoolOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{Connection, Database, Executor, PgConnection, Postgres, Sqlite, SqliteConnection};
use tokio::runtime::Runtime;
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use crate::{Entry, Group};

type Error = Box<dyn std::error::Error + Send + Sync>;

const SIZE: u32 = 8;

/// The groups of perf-pool.
pub fn groups(rt: &Arc<Runtime>) -> Vec<Group> {
    let mut groups = sqlite(rt).unwrap_or_else(|error| left_out("pool/sqlite", &error));
    if let Some(server) = rt.block_on(testkit::Postgres::shared()) {
        let postgres = postgres(rt, &server.url());
        groups.extend(postgres.unwrap_or_else(|error| left_out("pool/postgres", &error)));
    } else {
        eprintln!("pool/postgres: left out, there is no Postgres");
    }
    groups
}

fn left_out(name: &str, error: &Error) -> Vec<Group> {
    eprintln!("{name}: left out: {error}");
    Vec::new()
}

/// An entry in which `tasks` tasks call `work` on `store` again and again, `calls` times in all.
fn tasks<S, F, Fut>(
    name: &'static str,
    rt: &Arc<Runtime>,
    tasks: usize,
    calls: usize,
    store: &S,
    work: F,
) -> Entry
where
    S: Clone + Send + 'static,
    F: Fn(S, usize) -> Fut + Copy + Send + 'static,
    Fut: Future<Output = Result<(), Error>> + Send,
{
    let store = store.clone();
    Entry::future(name, rt, move || {
        let store = store.clone();
        async move {
            let started = Instant::now();
            let mut running = JoinSet::new();
            for task in 0..tasks {
                let store = store.clone();
                running.spawn(async move {
                    for _ in 0..calls / tasks {
                        succeeded(work(store.clone(), task).await);
                    }
                });
            }
            running.join_all().await;
            started.elapsed()
        }
    })
}

#[expect(clippy::panic, reason = "a work that failed must not be measured")]
fn succeeded(outcome: Result<(), Error>) {
    if let Err(error) = outcome {
        panic!("the work failed: {error}");
    }
}

/// Bare connections, of which each task locks one for itself.
type Bare<C> = Arc<Vec<Mutex<C>>>;

async fn bare<C: Connection>(options: &C::Options, count: usize) -> Result<Bare<C>, Error> {
    let mut connections = Vec::new();
    for _ in 0..count {
        connections.push(Mutex::new(C::connect_with(options).await?));
    }
    Ok(Arc::new(connections))
}

async fn on_bare<DB: Database>(bare: Bare<DB::Connection>, task: usize) -> Result<(), Error>
where
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
{
    if let Some(connection) = bare.get(task % bare.len()) {
        connection.lock().await.execute("SELECT 1").await?;
    }
    Ok(())
}

async fn on_ours(pool: Pool<Postgres>, _: usize) -> Result<(), Error> {
    pool.acquire().await?.execute("SELECT 1").await?;
    Ok(())
}

async fn on_our_readers(pool: Pool<Sqlite>, _: usize) -> Result<(), Error> {
    pool.acquire().await?.execute("SELECT 1").await?;
    Ok(())
}

async fn on_sqlx<DB: Database>(pool: sqlx::Pool<DB>, _: usize) -> Result<(), Error>
where
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
{
    pool.acquire().await?.execute("SELECT 1").await?;
    Ok(())
}

async fn on_deadpool(pool: deadpool_postgres::Pool, _: usize) -> Result<(), Error> {
    pool.get().await?.simple_query("SELECT 1").await?;
    Ok(())
}

fn of_sqlx<DB: Database>(size: u32) -> PoolOptions<DB> {
    PoolOptions::new()
        .min_connections(size)
        .max_connections(size)
}

fn postgres(rt: &Arc<Runtime>, url: &str) -> Result<Vec<Group>, Error> {
    let ours = Pool::<Postgres>::builder()
        .min_connections(SIZE)
        .max_connections(SIZE);
    let ours = rt.block_on(ours.connect(url))?;
    let naive = rt.block_on(of_sqlx::<Postgres>(SIZE).connect(url))?;
    let no_ping = of_sqlx::<Postgres>(SIZE).test_before_acquire(false);
    let no_ping = rt.block_on(no_ping.connect(url))?;
    let deadpool = deadpool(rt, url)?;
    let floor = rt.block_on(bare::<PgConnection>(&url.parse()?, SIZE as usize))?;
    let group = |n: usize, calls: usize| {
        let entries = vec![
            tasks("ours", rt, n, calls, &ours, on_ours),
            tasks("naive", rt, n, calls, &naive, on_sqlx),
            tasks("sqlx_no_ping", rt, n, calls, &no_ping, on_sqlx),
            tasks("deadpool-postgres", rt, n, calls, &deadpool, on_deadpool),
            tasks("floor", rt, n, calls, &floor, on_bare::<Postgres>),
        ];
        Group::new(format!("pool/postgres/select/{n}"), calls as u64, entries)
    };
    Ok(vec![group(1, 400), group(8, 800), group(64, 1280)])
}

fn deadpool(rt: &Runtime, url: &str) -> Result<deadpool_postgres::Pool, Error> {
    use deadpool_postgres::{Config, PoolConfig, Runtime::Tokio1, tokio_postgres::NoTls};

    let mut config = Config::new();
    config.url = Some(url.to_owned());
    config.pool = Some(PoolConfig::new(SIZE as usize));
    let _context = rt.enter();
    Ok(config.create_pool(Some(Tokio1), NoTls)?)
}

fn file(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Normal)
}

/// The options of the readers of [`SqlitePools`].
fn reader(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .read_only(true)
        .pragma("cache_size", "-65536")
        .pragma("mmap_size", "268435456")
        .pragma("temp_store", "MEMORY")
}

/// What a group needs, with the directory it stands in.
type Lite<T> = (T, Arc<tempfile::TempDir>);

fn sqlite(rt: &Arc<Runtime>) -> Result<Vec<Group>, Error> {
    let dir = Arc::new(tempfile::tempdir()?);
    let path = dir.path().join("bench.db");
    let ours = SqlitePools::builder(&path).synchronous(SqliteSynchronous::Normal);
    let ours = rt.block_on(ours.open())?;
    let create = "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER NOT NULL)";
    rt.block_on(ours.write().execute(create))?;
    let readers = ours.read().status().max;
    let naive = rt.block_on(of_sqlx::<Sqlite>(readers).connect_with(reader(&path)))?;
    let no_ping = of_sqlx::<Sqlite>(readers)
        .test_before_acquire(false)
        .idle_timeout(None)
        .max_lifetime(None);
    let no_ping = rt.block_on(no_ping.connect_with(reader(&path)))?;
    let floor = rt.block_on(bare::<SqliteConnection>(&reader(&path), readers as usize))?;
    let select = |n: usize, calls: usize| {
        let entries = vec![
            tasks("ours", rt, n, calls, ours.read(), on_our_readers),
            tasks("naive", rt, n, calls, &naive, on_sqlx),
            tasks("sqlx_no_ping", rt, n, calls, &no_ping, on_sqlx),
            tasks("floor", rt, n, calls, &floor, on_bare::<Sqlite>),
        ];
        Group::new(format!("pool/sqlite/select/{n}"), calls as u64, entries)
    };
    let ten = rt.block_on(of_sqlx::<Sqlite>(10).connect_with(file(&path)))?;
    let mixed = vec![
        tasks(
            "ours",
            rt,
            64,
            256,
            &(ours.clone(), Arc::clone(&dir)),
            mixed_ours,
        ),
        tasks("naive", rt, 64, 256, &(ten, dir), mixed_naive),
    ];
    Ok(vec![
        select(1, 400),
        select(8, 400),
        Group::new("pool/sqlite/mixed", 256, mixed),
    ])
}

const INSERT: &str = "INSERT INTO t (n) VALUES (1)";
const READ: &str = "SELECT n FROM t ORDER BY id DESC LIMIT 1";

async fn mixed_ours((pools, _dir): Lite<SqlitePools>, task: usize) -> Result<(), Error> {
    match task % 2 {
        0 => pools.write().execute(INSERT).await?,
        _ => pools.read().execute(READ).await?,
    };
    Ok(())
}

async fn mixed_naive((pool, _dir): Lite<sqlx::SqlitePool>, task: usize) -> Result<(), Error> {
    match task % 2 {
        0 => pool.execute(INSERT).await?,
        _ => pool.execute(READ).await?,
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_entry_does_its_work() {
        let rt = Arc::new(Runtime::new().unwrap());
        let mut groups = groups(&rt);
        assert!(groups.len() >= 3);
        for group in &mut groups {
            for entry in group.entries_mut() {
                assert!(entry.run() > Duration::ZERO);
            }
        }
    }
}
