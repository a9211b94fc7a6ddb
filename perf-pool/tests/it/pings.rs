//! How many round trips a checkout costs, counted on the wire.

use std::time::Duration;

use futures_util::{StreamExt, poll};
use perf_pool::{Pool, PoolBuilder};
use sqlx::{Executor, Postgres, SqlSafeStr};

use crate::relay::Relay;
use crate::wait::eventually;

fn one() -> PoolBuilder<Postgres> {
    Pool::builder().min_connections(0).max_connections(1)
}

/// Checks a connection out ten times and returns the pings that took.
async fn ten_checkouts(pool: &Pool<Postgres>, relay: &Relay) -> usize {
    drop(pool.acquire().await.unwrap());
    eventually("the first return", || pool.status().idle == 1).await;
    let before = relay.pings();
    for _ in 0..10 {
        let conn = pool.acquire().await.unwrap();
        drop(conn);
        eventually("a return", || pool.status().idle == 1).await;
    }
    relay.pings() - before
}

#[tokio::test]
async fn within_the_bypass_window_a_checkout_costs_no_ping() {
    let Some(pg) = testkit::Postgres::shared().await else {
        return;
    };
    let relay = Relay::to(&pg.url()).await;
    let builder = one().alive_bypass_window(Duration::from_secs(60));
    let pool = builder.connect(&relay.url).await.unwrap();
    assert_eq!(ten_checkouts(&pool, &relay).await, 0);
}

#[tokio::test]
async fn beyond_the_bypass_window_a_connection_is_pinged_first() {
    let Some(pg) = testkit::Postgres::shared().await else {
        return;
    };
    let relay = Relay::to(&pg.url()).await;
    let builder = one().alive_bypass_window(Duration::ZERO);
    let pool = builder.connect(&relay.url).await.unwrap();
    assert_eq!(ten_checkouts(&pool, &relay).await, 10);
}

/// A pool of one whose first connection is open, and the pings on it.
async fn opened(window: Duration) -> Option<(Pool<Postgres>, Relay)> {
    let pg = testkit::Postgres::shared().await?;
    let relay = Relay::to(&pg.url()).await;
    let builder = one().alive_bypass_window(window).keepalive_interval(None);
    let pool = builder.connect(&relay.url).await.unwrap();
    drop(pool.acquire().await.unwrap());
    Some((pool, relay))
}

const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn what_succeeded_is_not_pinged_at_its_return() {
    let Some((pool, relay)) = opened(LONG).await else {
        return;
    };
    let before = relay.pings();
    sqlx::query("SELECT 1").execute(&pool).await.unwrap();
    sqlx::query("SELECT $1::int")
        .bind(1)
        .fetch_one(&pool)
        .await
        .unwrap();
    pool.fetch_all("SELECT generate_series(1, 9)")
        .await
        .unwrap();
    assert_eq!(pool.fetch("SELECT generate_series(1, 9)").count().await, 9);
    pool.prepare("SELECT 2".into_sql_str()).await.unwrap();
    let mut conn = pool.acquire().await.unwrap();
    conn.execute("SELECT 1").await.unwrap();
    sqlx::query("SELECT 1")
        .fetch_optional(&mut conn)
        .await
        .unwrap();
    drop(conn);
    let mut tx = pool.begin().await.unwrap();
    sqlx::query("SELECT 1").execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
    pool.begin().await.unwrap().rollback().await.unwrap();
    assert_eq!(relay.pings() - before, 0);
    assert_eq!((relay.connections(), pool.status().idle), (2, 1));
}

#[tokio::test]
async fn what_failed_or_was_not_seen_is_pinged_at_its_return() {
    let Some((pool, relay)) = opened(LONG).await else {
        return;
    };
    let mut pings = relay.pings();
    let mut is_pinged = async |what: &str| {
        eventually(what, || pool.status().idle == 1).await;
        pings += 1;
        assert_eq!(relay.pings(), pings, "{what}");
    };
    pool.execute("nonsense").await.unwrap_err();
    is_pinged("an error").await;
    let mut conn = pool.acquire().await.unwrap();
    sqlx::query("SELECT 1").execute(&mut *conn).await.unwrap();
    drop(conn);
    is_pinged("a statement on the driver's connection").await;
    drop(pool.begin().await.unwrap());
    is_pinged("a rollback at drop").await;
    let mut rows = pool.fetch("SELECT generate_series(1, 9)");
    rows.next().await.unwrap().unwrap();
    drop(rows);
    is_pinged("a stream that was not read to its end").await;
    let mut query = Box::pin(sqlx::query("SELECT 1").execute(&pool));
    assert!(poll!(&mut query).is_pending());
    drop(query);
    is_pinged("a query that was dropped").await;
    assert_eq!(relay.connections(), 2);
}

#[tokio::test]
async fn a_connection_that_stays_unused_goes_back_to_sqlx() {
    let Some((pool, relay)) = opened(LONG).await else {
        return;
    };
    let pings = relay.pings();
    assert_eq!(pool.status().idle, 1);
    eventually("its return", || relay.pings() == pings + 1).await;
    eventually("its return", || pool.status().idle == 1).await;
    assert_eq!(pool.num_idle(), 1);
}

#[tokio::test]
async fn whoever_waits_in_the_bare_pool_is_not_passed_by() {
    let Some((pool, relay)) = opened(LONG).await else {
        return;
    };
    let ours = tokio::spawn({
        let pool = pool.clone();
        async move {
            loop {
                pool.execute("SELECT 1").await.unwrap();
            }
        }
    });
    tokio::task::yield_now().await;
    // As a library that keeps sqlx's pool would.
    let bare: sqlx::PgPool = (*pool).clone();
    for _ in 0..10 {
        bare.execute("SELECT 1").await.unwrap();
    }
    assert_eq!(relay.connections(), 2);
    ours.abort();
}
