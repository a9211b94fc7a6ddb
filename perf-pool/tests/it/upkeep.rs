//! What a pool does for itself, on a real server.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use perf_pool::{Pool, PoolBuilder, PoolConnection};
use sqlx::{Connection, Executor, PgConnection, Postgres};

use crate::logs::Logs;
use crate::relay::Relay;
use crate::wait::eventually;

fn of(base: u32, max: u32) -> PoolBuilder<Postgres> {
    Pool::builder()
        .min_connections(base)
        .max_connections(max)
        .acquire_timeout(Duration::from_secs(10))
}

async fn pid(conn: &mut PoolConnection<Postgres>) -> i32 {
    sqlx::query_scalar("SELECT pg_backend_pid()")
        .fetch_one(&mut **conn)
        .await
        .unwrap()
}

/// The backends of `count` connections that are held at the same time.
async fn pids(pool: &Pool<Postgres>, count: usize) -> BTreeSet<i32> {
    let mut held = Vec::new();
    for _ in 0..count {
        held.push(pool.acquire().await.unwrap());
    }
    let mut pids = BTreeSet::new();
    for conn in &mut held {
        pids.insert(pid(conn).await);
    }
    drop(held);
    eventually("the return of all", || pool.status().in_use == 0).await;
    pids
}

/// sqlx alone never gets there: it hands idle connections out in turn, so none is idle for long.
#[tokio::test]
async fn after_a_peak_one_caller_at_a_time_does_not_keep_the_overflow() {
    // Pings of idle connections, which take them out for a moment, do not keep them either.
    for keepalive in [Duration::from_secs(60), Duration::from_millis(50)] {
        shrinks(keepalive).await;
    }
}

async fn shrinks(keepalive: Duration) {
    let Some(pg) = testkit::Postgres::shared().await else {
        return;
    };
    let idle_timeout = Duration::from_millis(800);
    let pool = of(2, 10)
        .idle_timeout(idle_timeout)
        .keepalive_interval(keepalive);
    let pool = pool.connect(&pg.url()).await.unwrap();
    let peak = Instant::now();
    assert_eq!(pids(&pool, 10).await.len(), 10);
    while pool.status().size > 2 {
        let hangs = Duration::from_secs(20);
        assert!(peak.elapsed() < hangs, "{:?}", pool.status());
        pool.execute("SELECT 1").await.unwrap();
        eventually("its return", || pool.status().in_use == 0).await;
    }
    assert!(peak.elapsed() > idle_timeout);
    // What is used is not closed.
    let held = [pool.acquire().await.unwrap(), pool.acquire().await.unwrap()];
    tokio::time::sleep(2 * idle_timeout).await;
    assert_eq!(pool.status().size, 2);
    drop(held);
}

#[tokio::test]
async fn idle_connections_are_pinged_and_dead_ones_replaced() {
    let Some(pg) = testkit::Postgres::shared().await else {
        return;
    };
    let relay = Relay::to(&pg.url()).await;
    let pool = of(2, 2).keepalive_interval(Duration::from_millis(50));
    let pool = pool.connect(&relay.url).await.unwrap();
    let before = relay.pings();
    eventually("two rounds of pings", || relay.pings() >= before + 4).await;
    let connections = relay.connections();
    let mut admin = PgConnection::connect(&pg.url()).await.unwrap();
    let victims = pids(&pool, 2).await;
    for pid in &victims {
        sqlx::query("SELECT pg_terminate_backend($1, 5000)")
            .bind(pid)
            .execute(&mut admin)
            .await
            .unwrap();
    }
    // Nobody asks for a connection, and the pool finds out by itself.
    eventually("new connections", || relay.connections() >= connections + 2).await;
    eventually("their handshakes", || pool.status().idle == 2).await;
    assert!(pids(&pool, 2).await.is_disjoint(&victims));
}

/// As many at a time as `max_connecting` says, but all of them at once, not some each second.
#[tokio::test]
async fn a_lost_base_is_opened_again_without_pauses() {
    let Some(pg) = testkit::Postgres::start().await else {
        return;
    };
    let pool = of(40, 40)
        .max_connecting(2)
        .connect(&pg.url())
        .await
        .unwrap();
    let before = pids(&pool, 40).await;
    pool.soft_evict();
    let evicted = Instant::now();
    eventually("the end of the old ones", || pool.status().idle < 40).await;
    eventually("the new base", || pool.status().idle == 40).await;
    assert!(
        evicted.elapsed() < Duration::from_secs(15),
        "{:?}",
        evicted.elapsed()
    );
    assert!(pids(&pool, 40).await.is_disjoint(&before));
}

#[tokio::test]
async fn without_keepalive_nothing_is_pinged() {
    let Some(pg) = testkit::Postgres::shared().await else {
        return;
    };
    let relay = Relay::to(&pg.url()).await;
    let pool = of(2, 2).keepalive_interval(None).max_lifetime(None);
    let _pool = pool.connect(&relay.url).await.unwrap();
    let before = relay.pings();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(relay.pings(), before);
}

#[tokio::test]
async fn connections_are_renewed_one_after_another() {
    let Some(pg) = testkit::Postgres::shared().await else {
        return;
    };
    let relay = Relay::to(&pg.url()).await;
    let pool = of(20, 20)
        .max_connecting(20)
        .max_lifetime(Duration::from_secs(6))
        .max_lifetime_jitter(0.5);
    let started = Instant::now();
    let pool = pool.connect(&relay.url).await.unwrap();
    let opened = relay.connections();
    let mut when = Vec::new();
    while when.len() < 20 {
        assert!(started.elapsed() < Duration::from_secs(30), "{when:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
        when.resize(relay.connections() - opened, started.elapsed());
    }
    let first = when[0];
    let median = when[10];
    assert!(first >= Duration::from_millis(2_900), "{when:?}");
    assert!(median - first >= Duration::from_millis(300), "{when:?}");
    assert_eq!(pool.status().max, 20);
}

#[tokio::test]
async fn an_eviction_replaces_idle_connections_now_and_used_ones_later() {
    let Some(pg) = testkit::Postgres::shared().await else {
        return;
    };
    let pool = of(3, 3).connect(&pg.url()).await.unwrap();
    let before = pids(&pool, 3).await;
    let mut used = pool.acquire().await.unwrap();
    let of_used = pid(&mut used).await;
    pool.soft_evict();
    let mut new = pool.acquire().await.unwrap();
    assert!(
        !before.contains(&pid(&mut new).await),
        "an idle one that was evicted"
    );
    assert_eq!(pid(&mut used).await, of_used, "the one in use goes on");
    drop((used, new));
    eventually("the return", || pool.status().in_use == 0).await;
    eventually("the refill", || pool.status().idle == 3).await;
    assert!(pids(&pool, 3).await.is_disjoint(&before));
}

#[tokio::test]
async fn credentials_are_changed_while_running() {
    let Some(pg) = testkit::Postgres::start().await else {
        return;
    };
    let mut admin = PgConnection::connect(&pg.url()).await.unwrap();
    admin
        .execute("CREATE ROLE old LOGIN; CREATE ROLE new LOGIN")
        .await
        .unwrap();
    let url = |role: &str| pg.url().replace("postgres@", &format!("{role}@"));
    let pool = of(2, 4).connect(&url("old")).await.unwrap();
    let who = || async {
        let who = sqlx::query_scalar("SELECT current_user::text");
        who.fetch_one(&pool).await.unwrap()
    };
    let mut tx = pool.begin().await.unwrap();
    let name: String = who().await;
    assert_eq!(name, "old");
    pool.reconnect_with(url("new").parse().unwrap()).unwrap();
    for _ in 0..5 {
        let name: String = who().await;
        assert_eq!(name, "new");
    }
    tx.execute("SELECT 1").await.unwrap();
    tx.commit().await.unwrap();
    eventually("the end of the old ones", || pool.status().in_use == 0).await;
    for _ in 0..5 {
        let name: String = who().await;
        assert_eq!(name, "new");
    }
}

#[tokio::test]
async fn thresholds_that_are_passed_are_told_once() {
    let Some(pg) = testkit::Postgres::shared().await else {
        return;
    };
    let logs = Logs::new();
    let pool = of(1, 3)
        .keepalive_interval(Duration::from_millis(40))
        .warn_in_use(1)
        .warn_overflow(1)
        .warn_pending(0);
    let pool = pool.connect(&pg.url()).await.unwrap();
    let held = [
        pool.acquire().await.unwrap(),
        pool.acquire().await.unwrap(),
        pool.acquire().await.unwrap(),
    ];
    let mut waiting = Box::pin(pool.acquire());
    assert!(futures_util::poll!(&mut waiting).is_pending());
    for what in [
        "connections in use, above the threshold of 1",
        "connections above the base, above the threshold of 1",
        "callers waiting, above the threshold of 0",
    ] {
        eventually(what, || !logs.with(what).is_empty()).await;
    }
    drop((waiting, held));
    eventually("the end", || !logs.with("in use, back").is_empty()).await;
    assert_eq!(logs.with("connections in use, above").len(), 1);
    assert!(logs.with("in use, back")[0].starts_with("INFO"));
}

#[tokio::test]
async fn a_concurrency_limit_holds_from_then_on() {
    let Some(pg) = testkit::Postgres::shared().await else {
        return;
    };
    let pool = of(0, 4).connect(&pg.url()).await.unwrap();
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(pool.acquire().await.unwrap());
    }
    assert_eq!(pool.set_concurrency_limit(2), 2);
    let mut waiting = Box::pin(pool.acquire());
    for _ in 0..2 {
        held.pop();
        eventually("the return", || pool.status().idle > 0).await;
        assert!(futures_util::poll!(&mut waiting).is_pending());
    }
    held.pop();
    waiting.await.unwrap();
    assert_eq!(pool.set_concurrency_limit(0), 1);
    assert_eq!(pool.set_concurrency_limit(99), 4);
    drop(held);
    assert_eq!(pids(&pool, 3).await.len(), 3);
}
