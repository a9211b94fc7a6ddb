//! The works of perf-pool.
//!
//! `postgres/select/T`: T tasks share a pool of 8 and run `SELECT 1`, each on a connection checked
//! out for it, over loopback. `postgres-2ms/select/8`: the same with a round trip of 2 ms.
//! `postgres/warm-up/20`: a pool with 20 connections, each of which takes 50 ms to be ready, until
//! all are idle. `postgres/impatient`: 20 tasks want a connection that takes 300 ms to open, and
//! give up after 100 ms, five times at most; how many got one, and how many were opened, is said.
//! `sqlite/select/T`: `select` on readers of one file, as many as
//! cores. `sqlite/mixed`: 32 tasks commit a row and 32 read one, at once, WAL and `synchronous=FULL`
//! for all, the default of both; `sqlite/mixed-normal` with `NORMAL`, where no commit waits for the
//! disk; how long single ones took is said at the end. Pools are warm. `naive` is sqlx's pool with
//! its defaults but for the size,
//! `sqlx_no_ping` the same without the ping before handing out (on SQLite also without lifetimes,
//! as ours), `floor` bare connections without a pool. The readers of `sqlite/select` are opened
//! with the same options in all entries.
//!
//! `sqlite/select` is little more than a hop to SQLite's thread and back, and takes two to four
//! times as long when the two threads are on different cores. An entry settles in one placement for
//! a whole group, so the interval of a run does not cover that: unpinned, the floor has come out
//! slower than the pools above it, and the ratios of `sqlite/mixed-normal` have turned round from one
//! run to the next. Compare both on one core, over several runs:
//! `taskset -c 0 cargo run --release -p perf-benches --bin ratios -- --only pool/sqlite`.

mod impatient;
mod postgres;
mod sqlite;
mod times;

use std::sync::Arc;
use std::time::Instant;

use sqlx::pool::PoolOptions;
use sqlx::{Connection, Database, Executor};
use tokio::runtime::Runtime;
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use crate::{Entry, Group};

type Error = Box<dyn std::error::Error + Send + Sync>;

/// The groups of perf-pool.
pub fn groups(rt: &Arc<Runtime>) -> Vec<Group> {
    let mut groups = sqlite::groups(rt).unwrap_or_else(|error| left_out("pool/sqlite", &error));
    if let Some(server) = rt.block_on(testkit::Postgres::shared()) {
        let postgres = postgres::groups(rt, &server);
        groups.extend(postgres.unwrap_or_else(|error| left_out("pool/postgres", &error)));
        let impatient = impatient::group(rt, &server);
        groups.extend(impatient.unwrap_or_else(|error| left_out("pool/impatient", &error)));
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
fn succeeded<T>(outcome: Result<T, Error>) -> T {
    match outcome {
        Ok(done) => done,
        Err(error) => panic!("the work failed: {error}"),
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

async fn on_sqlx<DB: Database>(pool: sqlx::Pool<DB>, _: usize) -> Result<(), Error>
where
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
{
    pool.acquire().await?.execute("SELECT 1").await?;
    Ok(())
}

fn of_sqlx<DB: Database>(size: u32) -> PoolOptions<DB> {
    PoolOptions::new()
        .min_connections(size)
        .max_connections(size)
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
