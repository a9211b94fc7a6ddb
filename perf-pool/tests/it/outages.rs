//! Servers that are away, full, starting, or know the caller no more: what the callers are told
//! meanwhile, and how soon after the end of it the pool serves again.

use std::error::Error;
use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use perf_pool::{AcquireError, Pool, PoolBuilder};
use sqlx::{Connection, Executor, PgConnection, Postgres};
use testkit::{PostgresOptions, Proxy};

use crate::wait::eventually;

const MAX: u32 = 3;

/// How soon after the end of an outage a caller is served at the latest: sqlx tries again to open a
/// connection after a fifth of `connect_timeout` at most, and opens one within the time left. The rest is
/// for a busy machine.
const SERVED_WITHIN: Duration = Duration::from_secs(12);

fn pool() -> PoolBuilder<Postgres> {
    Pool::builder()
        .min_connections(1)
        .max_connections(MAX)
        .acquire_timeout(Duration::from_millis(1500))
        .connect_timeout(Duration::from_secs(2))
        .ping_timeout(Duration::from_millis(100))
        .return_timeout(Duration::from_millis(200))
}

/// The code of what the server said last, as a timeout tells it.
fn code(error: &AcquireError) -> String {
    let source = error.source().unwrap_or_else(|| panic!("{error:?}"));
    let source: &sqlx::Error = source.downcast_ref().unwrap();
    source
        .as_database_error()
        .unwrap()
        .code()
        .unwrap()
        .into_owned()
}

/// Callers are served soon, and every permit is there.
async fn serves_again(pool: &Pool<Postgres>) {
    let ended = Instant::now();
    while let Err(error) = pool.execute("SELECT 1").await {
        assert!(ended.elapsed() < SERVED_WITHIN, "{error}");
    }
    let mut all = Vec::new();
    for _ in 0..MAX {
        let mut conn = pool.acquire().await.unwrap();
        conn.execute("SELECT 1").await.unwrap();
        all.push(conn);
    }
    assert_eq!((pool.status().in_use, pool.status().idle), (MAX, 0));
    drop(all);
    eventually("the return of all", || pool.status().in_use == 0).await;
    let status = pool.status();
    assert_eq!((status.idle, status.pending), (status.size, 0));
}

/// Those that were warm cost their callers an error each, and no more.
async fn times_out(pool: &Pool<Postgres>) -> AcquireError {
    let mut warm = 0;
    let error = loop {
        match pool.acquire().await {
            Ok(mut conn) => conn.execute("SELECT 1").await.map(drop).unwrap_err(),
            Err(error) => break error,
        };
        warm += 1;
    };
    assert!(warm <= MAX, "{warm}");
    assert!(matches!(error, AcquireError::Timeout { .. }), "{error:?}");
    error
}

#[tokio::test]
async fn a_server_that_crashes_and_comes_back() {
    let Some(pg) = testkit::Postgres::start().await else {
        return;
    };
    let pool = pool().connect(&pg.url()).await.unwrap();
    serves_again(&pool).await;
    let held = pool.acquire().await.unwrap();
    pg.crash().await;
    drop(held);
    let error = times_out(&pool).await;
    let source = error.source().map(ToString::to_string);
    assert!(
        source.is_some_and(|source| source.contains("refused")),
        "{error:?}"
    );
    pg.restart().await;
    serves_again(&pool).await;
}

/// A standby that takes no queries says 57P03 like a server that starts; then it is promoted.
#[tokio::test]
async fn a_server_that_starts_up() {
    let Some(pg) = testkit::Postgres::start().await else {
        return;
    };
    let pool = pool().connect(&pg.url()).await.unwrap();
    serves_again(&pool).await;
    pg.stop().await;
    let data = pg.dir().join("data");
    fs::write(data.join("standby.signal"), "").unwrap();
    let settings = fs::read_to_string(data.join("postgresql.auto.conf")).unwrap();
    fs::write(
        data.join("postgresql.auto.conf"),
        settings + "hot_standby = off\n",
    )
    .unwrap();
    let pg = Arc::new(pg);
    let starting = Arc::clone(&pg);
    let started = tokio::spawn(async move { starting.restart().await });
    // Refused until it listens, then turned away.
    let turned_away = async {
        loop {
            let error = times_out(&pool).await;
            let source = error.source().map(ToString::to_string).unwrap_or_default();
            if !source.contains("refused") {
                return error;
            }
        }
    };
    let error = tokio::time::timeout(Duration::from_secs(20), turned_away)
        .await
        .unwrap();
    assert_eq!(code(&error), "57P03", "{error:?}");
    fs::write(data.join("promote"), "").unwrap();
    let postmaster = fs::read_to_string(data.join("postmaster.pid")).unwrap();
    let postmaster = postmaster.lines().next().unwrap();
    let sent = Command::new("kill")
        .args(["-USR1", postmaster])
        .status()
        .unwrap();
    assert!(sent.success());
    started.await.unwrap();
    serves_again(&pool).await;
}

#[tokio::test]
async fn a_server_that_is_full() {
    let options = PostgresOptions::new()
        .setting("max_connections", 6)
        .setting("max_wal_senders", 0)
        .setting("superuser_reserved_connections", 0);
    let Some(pg) = testkit::Postgres::start_with(options).await else {
        return;
    };
    let pool = pool().min_connections(0).connect(&pg.url()).await.unwrap();
    let mut others = Vec::new();
    while let Ok(other) = PgConnection::connect(&pg.url()).await {
        others.push(other);
    }
    // What the first connection left may have gone meanwhile.
    let error = loop {
        match pool.acquire().await {
            Ok(conn) => others.push(conn.detach()),
            Err(error) => break error,
        }
    };
    assert!(
        error.to_string().contains("new connections fail"),
        "{error}"
    );
    assert_eq!(code(&error), "53300", "{error:?}");
    drop(others);
    serves_again(&pool).await;
}

#[tokio::test]
async fn a_server_that_says_nothing_any_more() {
    let Some(pg) = testkit::Postgres::shared().await else {
        return;
    };
    let proxy = Proxy::start(pg.address()).await;
    let pool = pool().connect(&proxy.url(&pg.url())).await.unwrap();
    serves_again(&pool).await;
    let held = pool.acquire().await.unwrap();
    let dead = tokio::spawn({
        let pool = pool.clone();
        async move { pool.execute("SELECT pg_sleep(60)").await }
    });
    eventually("the query", || pool.status().in_use == 2).await;
    proxy.black_hole(true);
    drop(held);
    dead.abort();
    // A ping that is not answered, then a handshake that is not.
    tokio::time::sleep(Duration::from_millis(600)).await;
    let error = times_out(&pool).await;
    assert!(
        error.to_string().contains("check the network") || error.source().is_some(),
        "{error}"
    );
    proxy.heal();
    serves_again(&pool).await;
}

#[tokio::test]
async fn a_name_that_nobody_knows() {
    let error = pool()
        .connect("postgres://app:hunter2@no-such-host.invalid/quiz")
        .await
        .unwrap_err();
    let shown = format!("{error}: {:?}", error.source());
    assert!(shown.contains("no-such-host.invalid"), "{shown}");
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[tokio::test]
async fn a_server_that_knows_the_caller_no_more() {
    let Some(pg) = testkit::Postgres::start().await else {
        return;
    };
    let mut admin = PgConnection::connect(&pg.url()).await.unwrap();
    admin.execute("CREATE ROLE app LOGIN").await.unwrap();
    let url = pg.url().replace("postgres@", "app@");
    let pool = pool()
        .min_connections(0)
        .acquire_timeout(Duration::from_secs(60));
    let pool = pool.connect(&url).await.unwrap();
    serves_again(&pool).await;
    admin.execute("ALTER ROLE app NOLOGIN").await.unwrap();
    pool.soft_evict();
    // Told at once: to wait would not help.
    let asked = Instant::now();
    let error = pool.acquire().await.unwrap_err();
    let AcquireError::Connect(source) = &error else {
        panic!("{error:?}")
    };
    assert_eq!(source.as_database_error().unwrap().code().unwrap(), "28000");
    assert!(asked.elapsed() < Duration::from_secs(30));
    admin.execute("ALTER ROLE app LOGIN").await.unwrap();
    serves_again(&pool).await;
}
