//! How many round trips a checkout costs, counted on the wire.

use std::time::Duration;

use perf_pool::{Pool, PoolBuilder};
use sqlx::Postgres;

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
    // sqlx's own one at each return, which no caller waits for.
    assert_eq!(ten_checkouts(&pool, &relay).await, 10);
}

#[tokio::test]
async fn beyond_the_bypass_window_a_connection_is_pinged_first() {
    let Some(pg) = testkit::Postgres::shared().await else {
        return;
    };
    let relay = Relay::to(&pg.url()).await;
    let builder = one().alive_bypass_window(Duration::ZERO);
    let pool = builder.connect(&relay.url).await.unwrap();
    assert_eq!(ten_checkouts(&pool, &relay).await, 20);
}

#[tokio::test]
async fn plain_queries_on_the_pool_are_not_pinged_either() {
    let Some(pg) = testkit::Postgres::shared().await else {
        return;
    };
    let relay = Relay::to(&pg.url()).await;
    let builder = one().alive_bypass_window(Duration::from_secs(60));
    let pool = builder.connect(&relay.url).await.unwrap();
    for _ in 0..10 {
        sqlx::query("SELECT 1").execute(&pool).await.unwrap();
        eventually("a return", || pool.status().idle == 1).await;
    }
    assert_eq!(relay.pings(), 10);
}
