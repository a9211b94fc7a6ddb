//! What happens to the pool when the server goes away, in the ways it can.

use std::error::Error;
use std::time::Duration;

use perf_pool::{AcquireError, Pool, PoolBuilder};
use sqlx::{Acquire, Connection, Executor, PgConnection, Postgres};
use tokio::time::timeout;

use crate::relay::Relay;
use crate::wait::eventually;

fn at_most(max: u32) -> PoolBuilder<Postgres> {
    Pool::builder()
        .min_connections(0)
        .max_connections(max)
        .acquire_timeout(Duration::from_secs(10))
}

/// Acquires as many as the pool has, each with a query, which shows that no permit is missing.
async fn all_can_be_had(pool: &Pool<Postgres>) {
    let mut all = Vec::new();
    for _ in 0..pool.status().max {
        let mut conn = pool.acquire().await.unwrap();
        conn.execute("SELECT 1").await.unwrap();
        all.push(conn);
    }
    let status = pool.status();
    assert_eq!((status.in_use, status.idle), (status.max, 0));
    drop(all);
    eventually("the return of all", || pool.status().in_use == 0).await;
    assert_eq!(pool.status().pending, 0);
}

/// Ends every other session of the pool's application name.
async fn terminate(url: &str, name: &str) {
    let mut admin = PgConnection::connect(url).await.unwrap();
    sqlx::query(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = $1",
    )
    .bind(name)
    .execute(&mut admin)
    .await
    .unwrap();
}

#[tokio::test]
async fn terminated_backends_are_replaced_without_an_error() {
    let Some(pg) = testkit::Postgres::shared().await else {
        return;
    };
    let url = pg.schema_url().await;
    let pool = at_most(3)
        .min_connections(3)
        .alive_bypass_window(Duration::ZERO)
        .connect(&format!("{url}&application_name=terminated_1"))
        .await
        .unwrap();
    all_can_be_had(&pool).await;
    terminate(&url, "terminated_1").await;
    for _ in 0..3 {
        sqlx::query("SELECT 1").execute(&pool).await.unwrap();
    }
    all_can_be_had(&pool).await;
}

#[tokio::test]
async fn within_the_window_a_dead_connection_costs_one_error_and_is_gone() {
    let Some(pg) = testkit::Postgres::shared().await else {
        return;
    };
    let url = pg.schema_url().await;
    let pool = at_most(1)
        .alive_bypass_window(Duration::from_secs(60))
        .connect(&format!("{url}&application_name=terminated_2"))
        .await
        .unwrap();
    all_can_be_had(&pool).await;
    terminate(&url, "terminated_2").await;
    sqlx::query("SELECT 1").execute(&pool).await.unwrap_err();
    sqlx::query("SELECT 1").execute(&pool).await.unwrap();
    all_can_be_had(&pool).await;
}

#[tokio::test]
async fn a_stopped_server_is_named_in_the_timeout_and_used_again_once_back() {
    let Some(pg) = testkit::Postgres::start().await else {
        return;
    };
    let pool = at_most(2)
        .acquire_timeout(Duration::from_secs(3))
        .alive_bypass_window(Duration::ZERO)
        .connect(&pg.url())
        .await
        .unwrap();
    all_can_be_had(&pool).await;
    pg.stop().await;
    let error = pool.acquire().await.unwrap_err();
    assert!(matches!(error, AcquireError::Timeout { .. }), "{error:?}");
    assert!(
        error.to_string().contains("new connections fail"),
        "{error}"
    );
    let source = error.source().unwrap().to_string();
    assert!(source.contains("refused"), "{source}");
    pg.restart().await;
    all_can_be_had(&pool).await;
}

#[tokio::test]
async fn a_silent_peer_cannot_keep_a_permit_at_return() {
    let Some(pg) = testkit::Postgres::shared().await else {
        return;
    };
    let relay = Relay::to(&pg.url()).await;
    let pool = at_most(2)
        .return_timeout(Duration::from_millis(100))
        .connect(&relay.url)
        .await
        .unwrap();
    // One of each kind of guard: ours, and sqlx's own.
    let conn = pool.acquire().await.unwrap();
    let tx = Acquire::begin(&pool).await.unwrap();
    relay.silence(true);
    drop((conn, tx));
    eventually("the end of the silent connections", || {
        pool.status().size == 0
    })
    .await;
    relay.silence(false);
    all_can_be_had(&pool).await;
}

#[tokio::test]
async fn a_silent_peer_cannot_keep_a_permit_after_a_dropped_begin() {
    let Some(pg) = testkit::Postgres::shared().await else {
        return;
    };
    let relay = Relay::to(&pg.url()).await;
    let pool = at_most(2)
        .return_timeout(Duration::from_millis(100))
        .connect(&relay.url)
        .await
        .unwrap();
    all_can_be_had(&pool).await;
    relay.silence(true);
    let ours = timeout(Duration::from_millis(50), pool.begin());
    let sqlx = timeout(Duration::from_millis(50), Acquire::begin(&pool));
    let (ours, sqlx) = tokio::join!(ours, sqlx);
    assert!(ours.is_err() && sqlx.is_err());
    eventually("the end of the silent connections", || {
        pool.status().size == 0
    })
    .await;
    relay.silence(false);
    all_can_be_had(&pool).await;
}

#[tokio::test]
async fn waiting_for_a_slow_return_opens_nothing_beside_it() {
    let Some(pg) = testkit::Postgres::shared().await else {
        return;
    };
    let relay = Relay::to(&pg.url()).await;
    let pool = at_most(1)
        .acquire_timeout(Duration::from_secs(1))
        .connect(&relay.url)
        .await
        .unwrap();
    let mut conn = pool.acquire().await.unwrap();
    let before = relay.connections();
    relay.silence(true);
    // Whose hands it was in is not known, so it is tested at its return.
    let _: &mut PgConnection = &mut conn;
    drop(conn);
    let error = pool.acquire().await.unwrap_err();
    assert!(
        error.to_string().contains("raise max_connections"),
        "{error}"
    );
    assert_eq!(relay.connections(), before);
}

#[tokio::test]
async fn a_silent_peer_is_noticed_before_hand_out() {
    let Some(pg) = testkit::Postgres::shared().await else {
        return;
    };
    let relay = Relay::to(&pg.url()).await;
    let pool = at_most(1)
        .alive_bypass_window(Duration::ZERO)
        .ping_timeout(Duration::from_millis(100))
        .connect(&relay.url)
        .await
        .unwrap();
    all_can_be_had(&pool).await;
    let before = relay.connections();
    relay.silence(true);
    let mut acquire = Box::pin(pool.acquire());
    // The ping goes unanswered, and a new connection is begun, which is silent too.
    let waited = timeout(Duration::from_millis(50), &mut acquire).await;
    assert!(waited.is_err());
    relay.silence(false);
    let mut conn = acquire.await.unwrap();
    conn.execute("SELECT 1").await.unwrap();
    assert_eq!(relay.connections(), before + 1);
    drop(conn);
    all_can_be_had(&pool).await;
}

#[tokio::test]
async fn a_cancelled_query_gives_its_connection_back_within_the_bound() {
    let Some(pg) = testkit::Postgres::shared().await else {
        return;
    };
    let pool = at_most(1)
        .return_timeout(Duration::from_millis(200))
        .connect(&pg.url())
        .await
        .unwrap();
    let slow = sqlx::query("SELECT pg_sleep(30)").execute(&pool);
    timeout(Duration::from_millis(50), slow).await.unwrap_err();
    all_can_be_had(&pool).await;
}

#[tokio::test]
async fn a_server_without_room_is_named_in_the_timeout() {
    let Some(pg) = testkit::Postgres::start().await else {
        return;
    };
    let mut admin = PgConnection::connect(&pg.url()).await.unwrap();
    admin
        .execute("CREATE ROLE small LOGIN CONNECTION LIMIT 1")
        .await
        .unwrap();
    let url = pg.url().replace("postgres@", "small@");
    let pool = at_most(2)
        .acquire_timeout(Duration::from_secs(1))
        .connect(&url)
        .await
        .unwrap();
    let held = loop {
        // The first connection's backend may still be leaving.
        if let Ok(conn) = pool.acquire().await {
            break conn;
        }
    };
    let error = pool.acquire().await.unwrap_err();
    let AcquireError::Timeout {
        last_connect_error: Some(reason),
        ..
    } = &error
    else {
        panic!("{error:?}")
    };
    assert_eq!(reason.as_database_error().unwrap().code().unwrap(), "53300");
    drop(held);
    eventually("the return", || pool.status().idle == 1).await;
    sqlx::query("SELECT 1").execute(&pool).await.unwrap();
}

#[tokio::test]
async fn transactions_work_and_end_with_their_guard() {
    let Some(pg) = testkit::Postgres::shared().await else {
        return;
    };
    let pool = at_most(1).connect(&pg.schema_url().await).await.unwrap();
    pool.execute("CREATE TABLE t (n BIGINT)").await.unwrap();
    let mut tx = pool.begin().await.unwrap();
    tx.execute("INSERT INTO t VALUES (1)").await.unwrap();
    drop(tx);
    let mut tx = pool
        .begin_with("BEGIN ISOLATION LEVEL SERIALIZABLE")
        .await
        .unwrap();
    let level: String = sqlx::query_scalar("SHOW transaction_isolation")
        .fetch_one(&mut *tx)
        .await
        .unwrap();
    assert_eq!(level, "serializable");
    tx.execute("INSERT INTO t VALUES (2)").await.unwrap();
    tx.commit().await.unwrap();
    let rows: Vec<i64> = sqlx::query_scalar("SELECT n FROM t")
        .fetch_all(&pool)
        .await
        .unwrap();
    assert_eq!(rows, [2]);
}
