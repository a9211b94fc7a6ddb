use std::time::Duration;

use perf_pool::{BuildError, ConnectError, Pool, PoolBuilder, Profile};
use sqlx::Sqlite;

use crate::files::{File, at_most};
use crate::wait::eventually;

async fn refused(builder: PoolBuilder<Sqlite>) -> BuildError {
    match builder.connect("sqlite://never-opened.db").await {
        Err(ConnectError::Build(error)) => error,
        other => panic!("expected a build error, got {other:?}"),
    }
}

#[tokio::test]
async fn settings_that_make_no_sense_are_refused_before_anything_is_opened() {
    let builder = Pool::<Sqlite>::builder;
    assert_eq!(
        refused(builder().max_connections(0)).await,
        BuildError::NoConnections
    );
    let error = refused(builder().min_connections(9).max_connections(3)).await;
    assert_eq!(error, BuildError::MinAboveMax { min: 9, max: 3 });
    assert_eq!(
        error.to_string(),
        "min_connections 9 is above max_connections 3: lower the one or raise the other"
    );
    assert!(matches!(
        refused(builder().max_connections(u32::MAX)).await,
        BuildError::TooManyConnections { max: u32::MAX, .. }
    ));
    for (option, builder) in [
        ("acquire_timeout", builder().acquire_timeout(Duration::ZERO)),
        ("connect_timeout", builder().connect_timeout(Duration::ZERO)),
        ("idle_timeout", builder().idle_timeout(Duration::ZERO)),
        ("max_lifetime", builder().max_lifetime(Duration::ZERO)),
        ("ping_timeout", builder().ping_timeout(Duration::ZERO)),
        ("return_timeout", builder().return_timeout(Duration::ZERO)),
        (
            "keepalive_interval",
            builder().keepalive_interval(Duration::ZERO),
        ),
        (
            "leak_detection_threshold",
            builder().leak_detection_threshold(Duration::ZERO),
        ),
    ] {
        assert_eq!(refused(builder).await, BuildError::ZeroDuration { option });
    }
}

#[tokio::test]
async fn a_jitter_or_a_number_of_handshakes_that_makes_no_sense_is_refused() {
    let builder = Pool::<Sqlite>::builder;
    assert_eq!(
        refused(builder().max_connecting(0)).await,
        BuildError::NoConnecting
    );
    for jitter in [-0.1, 1.1, f64::INFINITY] {
        let error = refused(builder().max_lifetime_jitter(jitter)).await;
        assert_eq!(error, BuildError::Jitter { jitter });
    }
    let error = refused(builder().max_lifetime_jitter(f64::NAN)).await;
    assert!(matches!(error, BuildError::Jitter { .. }), "{error:?}");
}

#[tokio::test]
async fn profiles_give_base_and_overflow() {
    let file = File::new();
    for (profile, base, max) in [
        (Profile::Low, 20, 50),
        (Profile::Moderate, 50, 150),
        (Profile::High, 100, 300),
    ] {
        let pool = file.open(Pool::builder().profile(profile)).await;
        let status = pool.status();
        assert_eq!((status.size, status.max), (base, max), "{profile:?}");
        pool.close().await;
    }
    let pool = file.open(Pool::builder().max_connections(5)).await;
    assert_eq!((pool.status().size, pool.status().max), (5, 5));
    let pool = file.open(Pool::builder().min_connections(2)).await;
    assert_eq!((pool.status().size, pool.status().max), (2, 32));
}

#[tokio::test]
async fn the_longest_durations_are_accepted() {
    let file = File::new();
    let builder = at_most(1)
        .acquire_timeout(Duration::MAX)
        .connect_timeout(Duration::MAX)
        .idle_timeout(Duration::MAX)
        .max_lifetime(Duration::MAX)
        .ping_timeout(Duration::MAX)
        .alive_bypass_window(Duration::MAX)
        .keepalive_interval(Duration::MAX)
        .leak_detection_threshold(Duration::MAX)
        .max_connecting(u32::MAX)
        .return_timeout(Duration::MAX);
    file.open(builder).await.acquire().await.unwrap();
}

#[tokio::test]
async fn the_base_is_open_and_idle_when_connect_returns() {
    let file = File::new();
    let builder = Pool::builder().min_connections(4).max_connections(9);
    let pool = file.open(builder).await;
    let status = pool.status();
    assert_eq!((status.size, status.idle, status.overflow), (4, 4, 0));
}

#[tokio::test]
async fn overflow_opens_under_load_and_goes_once_it_is_idle() {
    let file = File::new();
    let builder = Pool::builder()
        .min_connections(2)
        .max_connections(6)
        .idle_timeout(Duration::from_millis(100));
    let pool = file.open(builder).await;
    let mut busy = Vec::new();
    for _ in 0..6 {
        busy.push(pool.acquire().await.unwrap());
    }
    let status = pool.status();
    assert_eq!((status.size, status.in_use, status.overflow), (6, 6, 4));
    drop(busy);
    eventually("the decay of the overflow", || pool.status().overflow == 0).await;
    eventually("the refill of the base", || pool.status().size == 2).await;
}

#[tokio::test]
async fn tasks_end_when_the_last_handle_is_dropped() {
    let file = File::new();
    let tasks = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    let before = tasks();
    let pool = file.open(at_most(2)).await;
    let conn = pool.acquire().await.unwrap();
    let weak_clone = pool.clone();
    assert!(tasks() > before);
    drop((pool, weak_clone));
    drop(conn);
    eventually("the end of every task", || tasks() == before).await;
}

#[tokio::test]
async fn tasks_end_when_the_pool_is_closed() {
    let file = File::new();
    let tasks = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    let before = tasks();
    let pool = file.open(Pool::builder().min_connections(2)).await;
    pool.close().await;
    pool.close().await;
    eventually("the end of every task", || tasks() == before).await;
    assert_eq!(pool.status().size, 0);
}
