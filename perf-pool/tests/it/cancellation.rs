use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::poll;
use perf_pool::Pool;
use sqlx::{Acquire, Executor, Postgres, Row, Sqlite};

use crate::files::{File, at_most};
use crate::wait;

/// Acquires as many as the pool has, which shows that no permit is missing.
async fn all_can_be_had(pool: &Pool<Sqlite>) {
    assert_eq!(pool.status().pending, 0);
    let mut all = Vec::new();
    for _ in 0..pool.status().max {
        all.push(pool.acquire().await.unwrap());
    }
    assert_eq!(pool.status().in_use, pool.status().max);
}

/// Drops `future()` after 1, 2, 3 .. polls until it gets through.
async fn at_every_point<F: Future>(pool: &Pool<Sqlite>, mut future: impl FnMut() -> F) {
    for polls in 1.. {
        let ready = wait::at_most(polls, future()).await.is_some();
        all_can_be_had(pool).await;
        if ready {
            break;
        }
    }
}

#[tokio::test]
async fn an_acquire_dropped_at_any_point_returns_its_permit() {
    let file = File::new();
    let builder = at_most(2)
        .alive_bypass_window(Duration::ZERO)
        .acquire_timeout(Duration::from_secs(10));
    let pool = file.open(builder).await;
    at_every_point(&pool, || pool.acquire()).await;
    at_every_point(&pool, || pool.begin()).await;
    at_every_point(&pool, || sqlx::query("SELECT 1").execute(&pool)).await;
    at_every_point(&pool, || sqlx::Acquire::begin(&pool)).await;
}

#[tokio::test]
async fn an_acquire_dropped_while_it_connects_returns_its_permit_and_loses_no_connection() {
    for polls in 1.. {
        let file = File::new();
        let opened = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&opened);
        let builder = at_most(1)
            .acquire_timeout(Duration::from_secs(10))
            .after_connect(move |_| {
                count.fetch_add(1, Ordering::SeqCst);
                Box::pin(async {
                    tokio::task::yield_now().await;
                    Ok(())
                })
            });
        let pool = file.open(builder).await;
        let ready = wait::at_most(polls, pool.acquire()).await.is_some();
        all_can_be_had(&pool).await;
        // The one that tried whether the database is there, and the pool's only one.
        assert_eq!(opened.load(Ordering::SeqCst), 2);
        if ready {
            assert!(polls > 1);
            break;
        }
    }
}

#[tokio::test]
async fn a_waiter_that_gives_up_leaves_the_queue() {
    let file = File::new();
    let pool = file.open(at_most(1)).await;
    let held = pool.acquire().await.unwrap();
    let mut gone = Box::pin(pool.acquire());
    let mut stays = Box::pin(pool.acquire());
    assert!(poll!(&mut gone).is_pending());
    assert!(poll!(&mut stays).is_pending());
    assert_eq!(pool.status().pending, 2);
    drop(gone);
    assert_eq!(pool.status().pending, 1);
    drop(held);
    drop(stays.await.unwrap());
    assert_eq!(pool.status().pending, 0);
}

#[tokio::test]
async fn a_waiter_that_gives_up_after_its_turn_came_passes_it_on() {
    let file = File::new();
    let pool = file.open(at_most(1)).await;
    let held = pool.acquire().await.unwrap();
    let mut woken = Box::pin(pool.acquire());
    let mut next = Box::pin(pool.acquire());
    assert!(poll!(&mut woken).is_pending());
    assert!(poll!(&mut next).is_pending());
    drop(held);
    // The slot is assigned to `woken` once the connection is back, but it never looks.
    wait::eventually("the return", || pool.status().idle == 1).await;
    drop(woken);
    next.await.unwrap();
}

#[tokio::test]
async fn a_dropped_transaction_is_rolled_back_before_the_next_use() {
    let file = File::new();
    let pool = file.open(at_most(1)).await;
    pool.execute("CREATE TABLE t (n INTEGER)").await.unwrap();
    let mut tx = pool.begin().await.unwrap();
    tx.execute("INSERT INTO t VALUES (1)").await.unwrap();
    drop(tx);
    let mut tx = pool.begin().await.unwrap();
    tx.execute("INSERT INTO t VALUES (2)").await.unwrap();
    tx.rollback().await.unwrap();
    let mut tx = pool.begin().await.unwrap();
    tx.execute("INSERT INTO t VALUES (3)").await.unwrap();
    tx.commit().await.unwrap();
    let rows: Vec<i64> = sqlx::query_scalar("SELECT n FROM t")
        .fetch_all(&pool)
        .await
        .unwrap();
    assert_eq!(rows, [3]);
}

/// Whether the only connection of `pool` is in no transaction: there, time stands still.
async fn is_clean(pool: &Pool<Postgres>) -> bool {
    let row = pool
        .fetch_one("SELECT now() = statement_timestamp()")
        .await
        .unwrap();
    row.get(0)
}

/// sqlx 0.9.0 alone leaves the transaction open, and the next user of the connection in it:
/// <https://github.com/launchbadge/sqlx/issues/4393>
#[tokio::test]
async fn a_begin_dropped_at_any_point_leaves_no_transaction_open() {
    let Some(pg) = testkit::Postgres::shared().await else {
        return;
    };
    let pool = Pool::<Postgres>::builder()
        .min_connections(0)
        .max_connections(1)
        .connect(&pg.url())
        .await
        .unwrap();
    pool.execute("SELECT 1").await.unwrap();
    for polls in 1..=4 {
        drop(wait::at_most(polls, pool.begin()).await);
        assert!(is_clean(&pool).await, "Pool::begin, {polls} polls");
        drop(wait::at_most(polls, pool.begin_with("BEGIN READ ONLY")).await);
        assert!(is_clean(&pool).await, "Pool::begin_with, {polls} polls");
        drop(wait::at_most(polls, Acquire::begin(&pool)).await);
        assert!(is_clean(&pool).await, "Acquire for &Pool, {polls} polls");
        let mut conn = pool.acquire().await.unwrap();
        drop(wait::at_most(polls, conn.begin()).await);
        drop(conn);
        assert!(
            is_clean(&pool).await,
            "PoolConnection::begin, {polls} polls"
        );
        // A success after it says nothing about the transaction.
        let mut conn = pool.acquire().await.unwrap();
        drop(wait::at_most(polls, conn.begin()).await);
        sqlx::query("SELECT 1").execute(&mut conn).await.unwrap();
        drop(conn);
        assert!(is_clean(&pool).await, "and a query, {polls} polls");
        let mut conn = pool.acquire().await.unwrap();
        drop(wait::at_most(polls, Acquire::begin(&mut conn)).await);
        drop(conn);
        assert!(
            is_clean(&pool).await,
            "Acquire for &mut PoolConnection, {polls} polls"
        );
    }
    assert_eq!(pool.status().size, 1);
}

/// sqlx alone hands such a connection to the next user, in a transaction that has failed.
#[tokio::test]
async fn a_begin_that_fails_leaves_no_transaction_open() {
    let Some(pg) = testkit::Postgres::shared().await else {
        return;
    };
    let failing = "BEGIN; SELECT 1/0";
    let pool = Pool::<Postgres>::builder()
        .min_connections(0)
        .max_connections(1)
        .begin_statement(failing)
        .connect(&pg.url())
        .await
        .unwrap();
    for _ in 0..2 {
        pool.begin().await.unwrap_err();
        assert!(is_clean(&pool).await, "Pool::begin");
        pool.begin_with(failing).await.unwrap_err();
        assert!(is_clean(&pool).await, "Pool::begin_with");
        Acquire::begin(&pool).await.map(drop).unwrap_err();
        assert!(is_clean(&pool).await, "Acquire for &Pool");
        let mut conn = pool.acquire().await.unwrap();
        conn.begin().await.map(drop).unwrap_err();
        drop(conn);
        assert!(is_clean(&pool).await, "PoolConnection::begin");
    }
}
