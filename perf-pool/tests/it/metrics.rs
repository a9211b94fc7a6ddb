use std::time::Duration;

use sqlx::Acquire;

use crate::files::{File, at_most};
use crate::recorder::Recorded;
use crate::wait;

const IDLE: &str = "db_client_connections/state=idle";
const USED: &str = "db_client_connections/state=used";
const PENDING: &str = "db_client_connections_pending_requests";
const OVERFLOW: &str = "db_client_connections_overflow";

#[tokio::test]
async fn gauges_are_true_when_scraped() {
    let metrics = Recorded::new();
    let _local = metrics::set_default_local_recorder(&metrics);
    let file = File::new();
    let builder = at_most(2).min_connections(1).name("m");
    let pool = file.open(builder).await;
    let states = || (metrics.gauge(IDLE), metrics.gauge(USED));
    assert_eq!(metrics.gauge("db_client_connections_max"), 2.0);
    assert_eq!(metrics.gauge("db_client_connections_idle_min"), 1.0);
    assert_eq!(states(), (1.0, 0.0));

    let first = pool.acquire().await.unwrap();
    assert_eq!(states(), (0.0, 1.0));
    assert_eq!(metrics.gauge(OVERFLOW), 0.0);
    let second = pool.acquire().await.unwrap();
    assert_eq!(states(), (0.0, 2.0));
    assert_eq!(metrics.gauge(OVERFLOW), 1.0);

    let mut waiting = Box::pin(pool.acquire());
    assert!(futures_util::poll!(&mut waiting).is_pending());
    assert_eq!(metrics.gauge(PENDING), 1.0);
    drop(waiting);
    assert_eq!(metrics.gauge(PENDING), 0.0);

    drop((first, second));
    wait::eventually("the gauges' return", || states() == (2.0, 0.0)).await;

    pool.close().await;
    assert_eq!(states(), (0.0, 0.0));
}

#[tokio::test]
async fn guards_of_sqlx_are_seen_too_a_little_later() {
    let metrics = Recorded::new();
    let _local = metrics::set_default_local_recorder(&metrics);
    let file = File::new();
    let pool = file.open(at_most(2).name("m")).await;
    let tx = Acquire::begin(&pool).await.unwrap();
    assert_eq!(pool.status().in_use, 1);
    assert_eq!(metrics.gauge(USED), 1.0);
    drop(tx);
    wait::eventually("the observer", || metrics.gauge(USED) == 0.0).await;
    let bare = sqlx::Pool::acquire(&pool).await.unwrap();
    wait::eventually("the observer", || metrics.gauge(USED) == 1.0).await;
    drop(bare);
}

#[tokio::test]
async fn dropping_the_pool_leaves_no_connections_in_the_gauges() {
    let metrics = Recorded::new();
    let _local = metrics::set_default_local_recorder(&metrics);
    let file = File::new();
    let pool = file.open(at_most(2).min_connections(2).name("m")).await;
    assert_eq!(metrics.gauge(IDLE), 2.0);
    drop(pool);
    wait::eventually("the end of the pool", || metrics.gauge(IDLE) == 0.0).await;
}

#[tokio::test]
async fn times_and_timeouts_are_counted() {
    let metrics = Recorded::new();
    let _local = metrics::set_default_local_recorder(&metrics);
    let file = File::new();
    let builder = at_most(1)
        .name("m")
        .acquire_timeout(Duration::from_millis(500));
    let pool = file.open(builder).await;
    let held = pool.acquire().await.unwrap();
    pool.acquire().await.unwrap_err();
    drop(held);
    drop(pool.acquire().await.unwrap());
    pool.begin().await.unwrap().commit().await.unwrap();
    let times = |name: &str| metrics.histogram(&format!("db_client_connections_{name}_seconds"));
    assert_eq!(metrics.counter("db_client_connections_timeouts_total"), 1);
    assert_eq!(times("wait_time").len(), 3);
    let used = times("use_time");
    assert_eq!(used.len(), 3);
    let longest = used.into_iter().fold(0.0, f64::max);
    assert!(longest >= 0.5, "held while the other one timed out");
    // The first one, which tries whether the database is there, and the one in the pool.
    assert_eq!(times("create_time").len(), 2);
}

#[tokio::test]
async fn every_metric_is_described_and_listed_in_the_readme() {
    let metrics = Recorded::new();
    let _local = metrics::set_default_local_recorder(&metrics);
    let file = File::new();
    let _pool = file.open(at_most(1).name("m")).await;
    assert_eq!(metrics.names(), metrics.described());
    assert_eq!(metrics.names().len(), 10);
    let readme = include_str!("../../README.md");
    for name in metrics.names() {
        assert!(readme.contains(&format!("`{name}`")), "{name}");
    }
}
