//! Who holds connections, and for how long.

use std::time::Duration;

use perf_pool::{AcquireError, Verdict};

use crate::files::{File, at_most};
use crate::logs::Logs;
use crate::recorder::Recorded;
use crate::wait::eventually;

const LEAKS: &str = "db_client_connections_leaks_total";

#[tokio::test]
async fn a_connection_that_is_held_for_too_long_is_told_with_its_line() {
    let (logs, metrics) = (Logs::new(), Recorded::new());
    let _local = metrics::set_default_local_recorder(&metrics);
    let file = File::new();
    let threshold = Duration::from_millis(50);
    let pool = file
        .open(at_most(3).name("m").leak_detection_threshold(threshold))
        .await;
    drop(pool.acquire().await.unwrap());
    let line = line!() + 1;
    let leaked = pool.begin().await.unwrap();
    eventually("the report", || metrics.counter(LEAKS) == 1).await;
    let reports = logs.with("possible leak");
    let here = format!("{}:{line}:", file!());
    assert!(
        reports[0].starts_with("WARN") && reports[0].contains(&here),
        "{reports:?}"
    );
    let Verdict::LeakSuspected { holders } = pool.advise().verdict else {
        panic!("{:?}", pool.advise())
    };
    assert_eq!(holders[0].taken_at.line(), line);
    // Once, however long it takes, and once more when it comes back.
    tokio::time::sleep(2 * threshold).await;
    assert_eq!(logs.with("possible leak: ").len(), 1);
    drop(leaked);
    assert!(logs.with("came back")[0].contains(&here));
    assert_eq!(pool.advise().verdict, Verdict::InsufficientData);
}

#[tokio::test]
async fn a_timeout_names_who_holds_connections_for_longest() {
    let file = File::new();
    let pool = file
        .open(at_most(4).acquire_timeout(Duration::from_secs(1)))
        .await;
    let first = line!() + 1;
    let _held = pool.acquire().await.unwrap();
    let _others = [
        pool.acquire().await.unwrap(),
        pool.try_acquire().unwrap_or(pool.acquire().await.unwrap()),
        pool.acquire().await.unwrap(),
    ];
    let error = pool.acquire().await.unwrap_err();
    let AcquireError::Timeout { holders, .. } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(holders.len(), 3);
    assert_eq!(
        (holders[0].taken_at.file(), holders[0].taken_at.line()),
        (file!(), first)
    );
    assert!(holders[0].held_for >= Duration::from_secs(1));
    let shown = error.to_string();
    assert!(
        shown.contains(&format!("; held longest at {}:{first}:", file!())),
        "{shown}"
    );
}

#[tokio::test]
async fn a_task_that_waits_for_a_second_connection_of_a_full_pool_is_warned() {
    let logs = Logs::new();
    let file = File::new();
    let pool = file
        .open(at_most(2).acquire_timeout(Duration::from_secs(1)))
        .await;
    const WARNING: &str = "a task waits for a connection while it holds one";
    let task = tokio::spawn({
        let pool = pool.clone();
        async move {
            let _first = pool.acquire().await.unwrap();
            // There is room still.
            let _second = pool.acquire().await.unwrap();
            pool.acquire().await.unwrap_err();
        }
    });
    task.await.unwrap();
    let warnings = logs.with(WARNING);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains(file!()), "{warnings:?}");
    // Another task that waits is none of that.
    let _held = [pool.acquire().await.unwrap(), pool.acquire().await.unwrap()];
    tokio::spawn(pool.acquire()).await.unwrap().unwrap_err();
    assert_eq!(logs.with(WARNING).len(), 1);
}

#[tokio::test]
async fn closing_with_a_timeout_names_who_still_holds_connections() {
    let file = File::new();
    let pool = file.open(at_most(2)).await;
    let held = pool.acquire().await.unwrap();
    let error = pool
        .close_with_timeout(Duration::from_millis(20))
        .await
        .unwrap_err();
    assert_eq!((error.in_use, error.holders.len()), (1, 1));
    assert!(error.to_string().contains(file!()), "{error}");
    assert!(matches!(pool.acquire().await, Err(AcquireError::Closed)));
    drop(held);
    pool.close_with_timeout(Duration::from_secs(10))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_health_check_says_whether_the_database_answers() {
    let file = File::new();
    let pool = file
        .open(at_most(1).acquire_timeout(Duration::from_secs(2)))
        .await;
    let health = pool.health_check().await;
    assert!(health.is_healthy() && !health.ping.is_zero(), "{health:?}");
    let _held = pool.acquire().await.unwrap();
    let health = pool.health_check().await;
    let error = health.error.as_ref().unwrap();
    assert!(AcquireError::in_sqlx(error).is_some(), "{error}");
    assert!(health.ping.is_zero());
}

#[tokio::test]
async fn advice_is_given_from_what_was_measured() {
    let file = File::new();
    let pool = file.open(at_most(4)).await;
    for _ in 0..600 {
        sqlx::query("SELECT 1").execute(&pool).await.unwrap();
    }
    let advice = pool.advise();
    assert_eq!(advice.evidence.acquires, 600);
    // One caller at a time needs one connection, or the machine hiccuped.
    assert!(advice.evidence.offered_load <= 1.1, "{advice:?}");
    assert!(advice.evidence.use_time > Duration::ZERO);
    assert_eq!(advice.evidence.connections, 4);
}
