use std::time::Duration;

use perf_pool::{Pool, PoolConnection, Transaction};
use proptest::prelude::*;
use sqlx::{Acquire, Sqlite};
use tokio::time::timeout;

use crate::files::{File, at_most};
use crate::wait;

const MAX: u32 = 3;

#[derive(Debug, Clone)]
enum Step {
    Acquire,
    TryAcquire,
    Begin,
    BeginSqlx,
    AcquireBare,
    Query,
    FailingQuery,
    /// An acquire that is dropped after so many polls.
    Cancel(usize),
    CancelQuery(usize),
    Drop(usize),
    Close(usize),
    Detach(usize),
    Commit(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let one = prop_oneof![
        Just(Step::Acquire),
        Just(Step::TryAcquire),
        Just(Step::Begin),
        Just(Step::BeginSqlx),
        Just(Step::AcquireBare),
        Just(Step::Query),
        Just(Step::FailingQuery),
        (0..12usize).prop_map(Step::Cancel),
        (0..12usize).prop_map(Step::CancelQuery),
        (0..9usize).prop_map(Step::Drop),
        (0..9usize).prop_map(Step::Close),
        (0..9usize).prop_map(Step::Detach),
        (0..9usize).prop_map(Step::Commit),
    ];
    proptest::collection::vec(one, 1..40)
}

/// What a caller can hold.
enum Held {
    Conn(PoolConnection<Sqlite>),
    Tx(Transaction<Sqlite>),
    Sqlx(sqlx::Transaction<'static, Sqlite>),
    Bare {
        _conn: sqlx::pool::PoolConnection<Sqlite>,
    },
}

/// Drops the future after so many polls, or soon if it waits for a connection that is held.
async fn cut<F: Future>(polls: usize, future: F) -> Option<F::Output> {
    let cut = wait::at_most(polls, future);
    timeout(Duration::from_millis(5), cut).await.ok().flatten()
}

async fn run(pool: &Pool<Sqlite>, steps: Vec<Step>) {
    let mut held: Vec<Held> = Vec::new();
    for step in steps {
        let full = held.len() >= MAX as usize;
        match step {
            Step::Acquire if !full => held.push(Held::Conn(pool.acquire().await.unwrap())),
            Step::TryAcquire => held.extend(pool.try_acquire().map(Held::Conn)),
            Step::Begin if !full => held.push(Held::Tx(pool.begin().await.unwrap())),
            Step::BeginSqlx if !full => {
                held.push(Held::Sqlx(Acquire::begin(pool).await.unwrap()));
            }
            Step::AcquireBare if !full => {
                let conn = sqlx::Pool::acquire(pool).await.unwrap();
                held.push(Held::Bare { _conn: conn });
            }
            Step::Query if !full => {
                sqlx::query("SELECT 1").execute(pool).await.unwrap();
            }
            Step::FailingQuery if !full => {
                sqlx::query("SELECT nonsense")
                    .execute(pool)
                    .await
                    .unwrap_err();
            }
            Step::Cancel(polls) => drop(cut(polls, pool.acquire()).await),
            Step::CancelQuery(polls) => {
                drop(cut(polls, sqlx::query("SELECT 1").execute(pool)).await);
            }
            Step::Drop(n) if n < held.len() => drop(held.swap_remove(n)),
            Step::Close(n) if n < held.len() => match held.swap_remove(n) {
                Held::Conn(conn) => conn.close().await.unwrap(),
                other => drop(other),
            },
            Step::Detach(n) if n < held.len() => match held.swap_remove(n) {
                Held::Conn(conn) => drop(conn.detach()),
                other => drop(other),
            },
            Step::Commit(n) if n < held.len() => match held.swap_remove(n) {
                Held::Tx(tx) => tx.commit().await.unwrap(),
                Held::Sqlx(tx) => tx.commit().await.unwrap(),
                other => drop(other),
            },
            _ => {}
        }
        let status = pool.status();
        assert_eq!(status.in_use + status.idle, status.size);
        assert!(status.size <= MAX);
        assert!(status.in_use as usize >= held.len());
        assert_eq!(status.pending, 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn whatever_happens_every_permit_comes_back(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let file = File::new();
            // A zero window: hand-outs are tested, and can be cancelled in the middle of it.
            let builder = at_most(MAX)
                .alive_bypass_window(Duration::ZERO)
                .acquire_timeout(Duration::from_secs(10));
            let pool = file.open(builder).await;
            run(&pool, steps).await;
            // All of them can be had at once, by waiting for returns alone.
            let mut all = Vec::new();
            for _ in 0..MAX {
                all.push(pool.acquire().await.unwrap());
            }
            let status = pool.status();
            assert_eq!((status.in_use, status.idle, status.pending), (MAX, 0, 0));
            drop(all);
            timeout(Duration::from_secs(10), pool.close()).await.unwrap();
            assert_eq!(pool.status().size, 0);
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn gauges_add_up_under_load() {
    let file = File::new();
    let pool = file.open(at_most(4)).await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..32u64 {
        let pool = pool.clone();
        tasks.spawn(async move {
            for round in 0..50 {
                let patience = Duration::from_micros((n * 37 + round * 11) % 400);
                let _ = timeout(patience, sqlx::query("SELECT 1").execute(&pool)).await;
                let status = pool.status();
                assert_eq!(status.in_use + status.idle, status.size);
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    wait::eventually("the return of every connection", || {
        pool.status().in_use == 0 && pool.status().pending == 0
    })
    .await;
}

#[test]
fn a_connection_can_be_dropped_outside_any_runtime() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let file = File::new();
    let (pool, conn) = runtime.block_on(async {
        let builder = Pool::builder().min_connections(1).max_connections(1);
        let pool = file.open(builder).await;
        let conn = pool.acquire().await.unwrap();
        (pool, conn)
    });
    drop(conn);
    drop(runtime.block_on(pool.acquire()).unwrap());
    let last = runtime.block_on(pool.acquire()).unwrap();
    drop(runtime);
    // The runtime is gone; the connection goes with it, quietly.
    drop(last);
}

#[test]
fn a_connection_can_be_detached_outside_any_runtime() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let file = File::new();
    let builder = Pool::builder().min_connections(1).max_connections(1);
    let pool = runtime.block_on(file.open(builder));
    let conn = runtime.block_on(pool.acquire()).unwrap();
    drop(conn.detach());
    drop(runtime.block_on(pool.acquire()).unwrap());
}
