//! Callers that give up while connections are being opened or tested for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use perf_pool::{AcquireError, Phase, Pool, PoolBuilder};
use sqlx::{Executor, PgConnection, Postgres};
use testkit::Proxy;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::relay::Relay;
use crate::wait::eventually;

fn pool() -> PoolBuilder<Postgres> {
    Pool::builder()
        .min_connections(0)
        .max_connections(20)
        .acquire_timeout(Duration::from_secs(10))
}

async fn server() -> Option<(Proxy, String)> {
    let pg = testkit::Postgres::shared().await?;
    let proxy = Proxy::start(pg.address()).await;
    let url = proxy.url(&pg.url());
    Some((proxy, url))
}

/// A hook that makes every connection take so long, beside its handshake.
fn taking(
    builder: PoolBuilder<Postgres>,
    time: Duration,
) -> (PoolBuilder<Postgres>, Arc<AtomicU32>) {
    let most = Arc::new(AtomicU32::new(0));
    let (now, seen) = (Arc::new(AtomicU32::new(0)), Arc::clone(&most));
    let builder = builder.after_connect(move |_| {
        let (now, seen) = (Arc::clone(&now), Arc::clone(&seen));
        Box::pin(async move {
            seen.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::time::sleep(time).await;
            now.fetch_sub(1, Ordering::SeqCst);
            Ok(())
        })
    });
    (builder, most)
}

/// sqlx alone: nobody succeeds, and 20 connections are opened in vain
/// (<https://github.com/launchbadge/sqlx/issues/3513>).
#[tokio::test]
async fn callers_less_patient_than_a_handshake_get_its_connection_nevertheless() {
    let Some((proxy, url)) = server().await else {
        return;
    };
    let (builder, _) = taking(pool(), Duration::from_millis(300));
    let pool = builder.connect(&url).await.unwrap();
    let before = proxy.connections();
    let mut callers = JoinSet::new();
    for _ in 0..20 {
        let pool = pool.clone();
        callers.spawn(async move {
            for _ in 0..100 {
                if let Ok(conn) = timeout(Duration::from_millis(100), pool.acquire()).await {
                    conn.unwrap().execute("SELECT 1").await.unwrap();
                    return true;
                }
            }
            false
        });
    }
    let served = callers
        .join_all()
        .await
        .into_iter()
        .filter(|&ok| ok)
        .count();
    let opened = proxy.connections() - before;
    assert_eq!(served, 20);
    // In vain, each of the callers would have opened some.
    assert!(opened <= 12, "{opened} opened");
    eventually("the return of all", || pool.status().in_use == 0).await;
    assert_eq!(pool.status().pending, 0);
}

#[tokio::test]
async fn no_more_than_max_connecting_are_opened_at_a_time() {
    let Some((_proxy, url)) = server().await else {
        return;
    };
    let (builder, most) = taking(pool().max_connecting(3), Duration::from_millis(20));
    let pool = builder.connect(&url).await.unwrap();
    most.store(0, Ordering::SeqCst);
    let mut callers = JoinSet::new();
    for _ in 0..20 {
        let pool = pool.clone();
        callers.spawn(async move {
            let mut conn = pool.acquire().await.unwrap();
            conn.execute("SELECT pg_sleep(0.1)").await.unwrap();
        });
    }
    callers.join_all().await;
    assert_eq!(most.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn the_base_is_opened_all_at_once() {
    let Some((_proxy, url)) = server().await else {
        return;
    };
    let time = Duration::from_millis(500);
    let (builder, most) = taking(pool().min_connections(20).max_connecting(1), time);
    let started = Instant::now();
    let pool = builder.connect(&url).await.unwrap();
    let took = started.elapsed();
    // One after the other, they would take twenty times as long.
    assert!(took >= time && took < 10 * time, "{took:?}");
    assert_eq!(pool.status().idle, 20);
    // The base, while the hook runs on the connection that found out whether there is a server.
    assert_eq!(most.load(Ordering::SeqCst), 21);
}

#[tokio::test]
async fn a_connection_that_nobody_waits_for_any_more_becomes_idle() {
    let Some((proxy, url)) = server().await else {
        return;
    };
    let (builder, _) = taking(pool(), Duration::from_millis(50));
    let pool = builder.connect(&url).await.unwrap();
    let before = proxy.connections();
    timeout(Duration::from_millis(10), pool.acquire())
        .await
        .unwrap_err();
    assert_eq!(pool.status().pending, 0);
    eventually("the connection", || pool.status().idle == 1).await;
    drop(pool.acquire().await.unwrap());
    assert_eq!(proxy.connections() - before, 1);
}

#[tokio::test]
async fn whoever_returns_first_serves_a_caller_that_waits_for_a_handshake() {
    for tested in [false, true] {
        served_by_a_return(tested).await;
    }
}

async fn served_by_a_return(tested: bool) {
    let Some((proxy, url)) = server().await else {
        return;
    };
    let pool = pool().connect(&url).await.unwrap();
    let mut held = pool.acquire().await.unwrap();
    if tested {
        let _: &mut PgConnection = &mut held;
    }
    // New connections take for ever from now on.
    pool.set_connect_options(
        (*pool.connect_options())
            .clone()
            .host("127.0.0.1")
            .port(silent_port().await),
    );
    let waiter = tokio::spawn(pool.acquire());
    eventually("the attempt", || pool.status().size == 2).await;
    drop(held);
    waiter.await.unwrap().unwrap();
    drop(proxy);
}

/// What is held for long for the first time is expected back by nobody for longer than a handshake.
#[tokio::test]
async fn callers_do_not_wait_for_those_who_keep_theirs() {
    let Some((_proxy, url)) = server().await else {
        return;
    };
    let (builder, _) = taking(pool(), Duration::from_millis(100));
    let pool = builder.connect(&url).await.unwrap();
    let mut kept = Vec::new();
    for _ in 0..6 {
        let asked = Instant::now();
        kept.push(pool.acquire().await.unwrap());
        // Waits for a return for as long as a handshake takes, then for the handshake, and not until
        // its patience is over.
        assert!(
            asked.elapsed() < Duration::from_secs(8),
            "{:?}",
            asked.elapsed()
        );
    }
}

/// Of a listener that accepts nobody.
async fn silent_port() -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let _listener = listener;
        std::future::pending::<()>().await;
    });
    port
}

#[tokio::test]
async fn a_timeout_tells_a_silent_test_from_a_silent_handshake() {
    let Some((proxy, url)) = server().await else {
        return;
    };
    let pool = pool()
        .min_connections(1)
        .max_connections(2)
        .alive_bypass_window(Duration::ZERO)
        .ping_timeout(Duration::from_secs(5))
        .acquire_timeout(Duration::from_millis(200))
        .connect(&url)
        .await
        .unwrap();
    proxy.black_hole(true);
    let error = pool.acquire().await.unwrap_err();
    let AcquireError::Timeout { phase, .. } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(*phase, Phase::Validate, "{error}");
    assert!(
        error.to_string().contains("did not answer a ping"),
        "{error}"
    );
    // For a second caller the same test goes on.
    let error = pool.acquire().await.unwrap_err();
    let AcquireError::Timeout { phase, .. } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(*phase, Phase::Validate, "{error}");
}

/// Tasks of a runtime that ends are dropped where they stand, and new ones at once.
#[test]
fn a_runtime_may_end_while_connections_are_being_opened() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let pool = runtime.block_on(async {
        let (_proxy, url) = server().await?;
        let pool = pool().connect(&url).await.unwrap();
        let silent = (*pool.connect_options()).clone().port(silent_port().await);
        pool.set_connect_options(silent);
        for _ in 0..8 {
            tokio::spawn(pool.acquire());
        }
        eventually("the attempts", || pool.status().size == 4).await;
        Some(pool)
    });
    drop(runtime);
    if let Some(pool) = pool {
        assert_eq!(pool.status().pending, 0);
        assert!(pool.try_acquire().is_none());
    }
}

#[tokio::test]
async fn many_dead_connections_cost_one_caller_little_more_than_one() {
    let Some(pg) = testkit::Postgres::shared().await else {
        return;
    };
    let relay = Relay::to(&pg.url()).await;
    let ping_timeout = Duration::from_millis(500);
    let pool = pool()
        .min_connections(12)
        .alive_bypass_window(Duration::ZERO)
        .ping_timeout(ping_timeout)
        .connect(&relay.url)
        .await
        .unwrap();
    assert_eq!(pool.status().idle, 12);
    relay.silence_those_there_are();
    let asked = Instant::now();
    pool.acquire()
        .await
        .unwrap()
        .execute("SELECT 1")
        .await
        .unwrap();
    // One after the other, they would take twelve times as long.
    assert!(asked.elapsed() < 8 * ping_timeout, "{:?}", asked.elapsed());
}

#[tokio::test]
async fn a_round_of_pings_on_silent_connections_holds_nobody_up() {
    let Some(pg) = testkit::Postgres::shared().await else {
        return;
    };
    let relay = Relay::to(&pg.url()).await;
    let pool = pool()
        .min_connections(4)
        .keepalive_interval(Duration::from_millis(50))
        .return_timeout(Duration::from_secs(60))
        .ping_timeout(Duration::from_millis(300))
        .connect(&relay.url)
        .await
        .unwrap();
    relay.silence_those_there_are();
    // In the middle of it.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let asked = Instant::now();
    pool.acquire()
        .await
        .unwrap()
        .execute("SELECT 1")
        .await
        .unwrap();
    // Held up, it would wait for the end of its patience.
    assert!(
        asked.elapsed() < Duration::from_secs(8),
        "{:?}",
        asked.elapsed()
    );
}
