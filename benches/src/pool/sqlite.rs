use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use perf_pool::{Pool, SqlitePools};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{Executor, Sqlite, SqliteConnection};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use super::times::Times;
use super::{Error, bare, of_sqlx, on_bare, on_sqlx, succeeded, tasks};
use crate::{Entry, Group};

async fn on_our_readers(pool: Pool<Sqlite>, _: usize) -> Result<(), Error> {
    pool.acquire().await?.execute("SELECT 1").await?;
    Ok(())
}

fn file(path: &Path, synchronous: SqliteSynchronous) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(synchronous)
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

pub(super) fn groups(rt: &Arc<Runtime>) -> Result<Vec<Group>, Error> {
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
    let mut groups = vec![select(1, 400), select(8, 400)];
    for (name, synchronous) in [
        ("pool/sqlite/mixed", SqliteSynchronous::Full),
        ("pool/sqlite/mixed-normal", SqliteSynchronous::Normal),
    ] {
        let ours = SqlitePools::builder(&path).synchronous(synchronous);
        let ours = (rt.block_on(ours.open())?, Arc::clone(&dir));
        let ten = of_sqlx::<Sqlite>(10).connect_with(file(&path, synchronous));
        let ten = (rt.block_on(ten)?, Arc::clone(&dir));
        let entries = vec![
            mixed("ours", name, rt, &ours, mixed_ours),
            mixed("naive", name, rt, &ten, mixed_naive),
        ];
        groups.push(Group::new(name, MIXED as u64, entries));
    }
    Ok(groups)
}

/// Rows written and read in one run.
const MIXED: usize = 2_048;

/// An entry in which 32 tasks write and 32 read.
fn mixed<S, F, Fut>(
    name: &'static str,
    group: &'static str,
    rt: &Arc<Runtime>,
    store: &S,
    work: F,
) -> Entry
where
    S: Clone + Send + 'static,
    F: Fn(S, usize) -> Fut + Copy + Send + 'static,
    Fut: Future<Output = Result<(), Error>> + Send,
{
    let mut times = Times::new(group, name);
    let (rt, store) = (Arc::clone(rt), store.clone());
    Entry::new(name, move || {
        rt.block_on(async {
            let start = Instant::now();
            let mut running = JoinSet::new();
            for task in 0..64 {
                let store = store.clone();
                running.spawn(async move {
                    let mut took = Vec::new();
                    for _ in 0..MIXED / 64 {
                        let start = Instant::now();
                        succeeded(work(store.clone(), task).await);
                        took.push(start.elapsed());
                    }
                    (task % 2 == 0, took)
                });
            }
            let all = running.join_all().await;
            let took = start.elapsed();
            times.note(all);
            took
        })
    })
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
