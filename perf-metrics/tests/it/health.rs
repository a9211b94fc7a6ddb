//! Health checks, as probes see them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::Router;
use futures_util::FutureExt;
use http::StatusCode;
use http_body_util::BodyExt;
use perf_metrics::{BuildError, Liveness, Monitor, MonitorBuilder, Readiness};
use serde_json::Value;
use tokio::sync::Semaphore;
use tower::ServiceExt;

use crate::endpoints::{json, serve};
use crate::script::panic_quietly;

fn app(monitor: &Monitor) -> Router {
    monitor.router()
}

/// Asks without a connection, so that tokio's clock can be paused.
async fn ask(monitor: &Monitor, path: &str) -> (StatusCode, Value) {
    let request = http::Request::get(path).body(axum::body::Body::empty());
    let response = monitor.router().oneshot(request.unwrap()).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap())
}

/// A check that counts its runs, and each of which ends when it gets a permit.
fn counting(builder: MonitorBuilder) -> (MonitorBuilder, Arc<AtomicU32>, Arc<Semaphore>) {
    let (runs, permits) = (Arc::new(AtomicU32::new(0)), Arc::new(Semaphore::new(0)));
    let (counted, permitted) = (Arc::clone(&runs), Arc::clone(&permits));
    let builder = builder.check("db", Readiness, move || {
        counted.fetch_add(1, Ordering::SeqCst);
        let permitted = Arc::clone(&permitted);
        async move {
            permitted
                .acquire()
                .await
                .map_err(|e| e.to_string())?
                .forget();
            Ok::<(), String>(())
        }
    });
    (builder, runs, permits)
}

#[tokio::test]
async fn a_service_without_checks_is_healthy() {
    let monitor = Monitor::builder().service("quiz").build().unwrap();
    let url = serve(app(&monitor)).await;
    let (status, health) = json(format!("{url}/health")).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(
        (&health["status"], &health["service"]),
        (&"ok".into(), &"quiz".into())
    );
    assert!(health["uptime_seconds"].as_f64().unwrap() > 0.0);
}

#[tokio::test]
async fn a_check_that_fails_hangs_or_panics_makes_the_service_unhealthy() {
    let monitor = Monitor::builder()
        .check("good", Liveness, || async { Ok::<(), String>(()) })
        .check("bad", Readiness, || async { Err("the disk is full") })
        .check(
            "slow",
            Readiness,
            std::future::pending::<Result<(), String>>,
        )
        .check("broken", Readiness, || async {
            panic_quietly() as Result<(), String>
        })
        .check_timeout(Duration::from_millis(50))
        .build()
        .unwrap();
    let url = serve(app(&monitor)).await;
    let (status, health) = json(format!("{url}/health")).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(health["status"], "unhealthy");
    let checks = &health["checks"];
    assert_eq!(checks["good"]["status"], "ok");
    assert!(checks["good"].get("error").is_none());
    for (name, error) in [
        ("bad", "the disk is full"),
        ("slow", "no answer within 50ms"),
        ("broken", "the check panicked"),
    ] {
        assert_eq!(checks[name]["status"], "unhealthy", "{name}");
        assert_eq!(checks[name]["error"], error, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_check_that_blocks_its_thread_does_not_hold_up_the_answer() {
    let (release, blocked) = std::sync::mpsc::channel::<()>();
    let blocked = std::sync::Mutex::new(blocked);
    let monitor = Monitor::builder()
        .check(
            "good",
            Readiness.timeout(Duration::from_secs(10)),
            || async { Ok::<(), String>(()) },
        )
        .check("blocks", Readiness, move || {
            // Until the test is over.
            let _ = blocked.lock().unwrap().recv();
            std::future::ready(Ok::<(), String>(()))
        })
        .check_timeout(Duration::from_millis(50))
        .build()
        .unwrap();
    let url = serve(app(&monitor)).await;
    let answer = tokio::time::timeout(Duration::from_secs(10), json(format!("{url}/health")));
    let (status, health) = answer.await.unwrap();
    drop(release);
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(health["checks"]["good"]["status"], "ok");
    assert_eq!(health["checks"]["blocks"]["error"], "no answer within 50ms");
}

#[tokio::test]
async fn a_check_timeout_without_end_is_one() {
    let monitor = Monitor::builder()
        .check("good", Readiness, || async { Ok::<(), String>(()) })
        .check_timeout(Duration::MAX)
        .build()
        .unwrap();
    let url = serve(app(&monitor)).await;
    assert_eq!(json(format!("{url}/health")).await.0, StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn each_probe_asks_its_own_kind() {
    let monitor = Monitor::builder()
        .check("deadlock", Liveness, || async { Ok::<(), String>(()) })
        .check("db", Readiness, || async { Err("no connection") })
        .build()
        .unwrap();
    let (status, live) = ask(&monitor, "/health/live").await;
    assert_eq!((status, &live["status"]), (StatusCode::OK, &"ok".into()));
    assert_eq!(live["checks"]["deadlock"]["kind"], "liveness");
    assert!(live["checks"].get("db").is_none());
    let (status, ready) = ask(&monitor, "/health/ready").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(ready["checks"]["db"]["error"], "no connection");
    assert!(ready["checks"].get("deadlock").is_none());
    let (status, all) = ask(&monitor, "/health").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(all["checks"].as_object().unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_result_is_good_for_a_second() {
    let (builder, runs, permits) = counting(Monitor::builder());
    let monitor = builder.build().unwrap();
    permits.add_permits(10);
    let count = || runs.load(Ordering::SeqCst);
    for _ in 0..100 {
        ask(&monitor, "/health/ready").await;
        ask(&monitor, "/health").await;
    }
    assert_eq!(count(), 1);
    tokio::time::advance(Duration::from_millis(999)).await;
    let (_, ready) = ask(&monitor, "/health/ready").await;
    assert_eq!(
        (count(), &ready["checks"]["db"]["age_seconds"]),
        (1, &0.999.into())
    );
    tokio::time::advance(Duration::from_millis(1)).await;
    ask(&monitor, "/health/ready").await;
    assert_eq!(count(), 2);
}

#[tokio::test(start_paused = true)]
async fn those_who_ask_at_once_share_a_run_and_who_hangs_up_does_not_end_it() {
    let builder = Monitor::builder().check_cache(Duration::ZERO);
    let (builder, runs, permits) = counting(builder);
    let monitor = builder.build().unwrap();
    let mut probes = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let monitor = monitor.clone();
        probes.spawn(async move { ask(&monitor, "/health/ready").await.0 });
    }
    // One that goes away while all wait, perhaps the one that started the run.
    let mut early = Box::pin(ask(&monitor, "/health/ready"));
    assert!((&mut early).now_or_never().is_none());
    drop(early);
    while runs.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    permits.add_permits(1);
    while let Some(status) = probes.join_next().await {
        assert_eq!(status.unwrap(), StatusCode::OK);
    }
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_check_has_a_timeout_of_its_own() {
    let slow = |seconds| {
        move || async move {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            Ok::<(), String>(())
        }
    };
    let monitor = Monitor::builder()
        .check(
            "patient",
            Readiness.timeout(Duration::from_secs(5)),
            slow(4),
        )
        .check("hasty", Readiness, slow(4))
        .check_timeout(Duration::from_secs(2))
        .build()
        .unwrap();
    let (_, health) = ask(&monitor, "/health").await;
    assert_eq!(health["checks"]["patient"]["status"], "ok");
    assert_eq!(health["checks"]["patient"]["seconds"], 4.0);
    assert_eq!(health["checks"]["hasty"]["error"], "no answer within 2s");
    assert_eq!(health["checks"]["hasty"]["seconds"], 2.0);
}

#[tokio::test(start_paused = true)]
async fn a_check_ends_with_the_monitor() {
    let (builder, _, permits) = counting(Monitor::builder());
    let monitor = builder.check_timeout(Duration::MAX).build().unwrap();
    let mut probe = Box::pin(ask(&monitor, "/health"));
    assert!((&mut probe).now_or_never().is_none());
    tokio::task::yield_now().await;
    drop(probe);
    // The check holds the semaphore; it lets go when its task is cancelled.
    assert!(Arc::strong_count(&permits) > 2);
    drop(monitor);
    let alone = async {
        while Arc::strong_count(&permits) > 1 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), alone)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_check_can_be_added_to_a_monitor_that_serves() {
    let monitor = Monitor::builder().build().unwrap();
    assert_eq!(ask(&monitor, "/health/ready").await.0, StatusCode::OK);
    let bad = || async { Err::<(), _>("no connection") };
    let served = monitor.clone();
    monitor.add_check("db", Readiness, bad).unwrap();
    let (status, report) = ask(&served, "/health/ready").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(report["checks"]["db"]["error"], "no connection");
    assert_eq!(ask(&served, "/health/live").await.0, StatusCode::OK);

    let again = monitor.add_check("db", Liveness, bad).unwrap_err();
    assert_eq!(again, BuildError::DuplicateCheck("db".to_owned()));
    let zero = Readiness.timeout(Duration::ZERO);
    let zero = monitor.add_check("other", zero, bad).unwrap_err();
    assert_eq!(zero, BuildError::CheckTimeout(Duration::ZERO));
    assert_eq!(ask(&served, "/health/live").await.0, StatusCode::OK);
}

#[test]
fn a_probe_while_the_runtime_shuts_down_holds_it_up_for_no_longer() {
    for _ in 0..50 {
        let monitor = Monitor::builder()
            .check("db", Readiness, || async { Ok::<(), String>(()) })
            .check_cache(Duration::ZERO)
            .build()
            .unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_time()
            .build()
            .unwrap();
        // Probes from a thread of their own, until the runtime takes no task any more.
        let handle = runtime.handle().clone();
        let probes = std::thread::spawn(move || {
            let _entered = handle.enter();
            for _ in 0..200 {
                let request = http::Request::get("/health/ready").body(axum::body::Body::empty());
                let probe = monitor.router().oneshot(request.unwrap());
                // Only begun: who waits for it is dropped. A timer that is polled where its runtime has
                // just ended panics, which is tokio's way; that ends the probe, and nothing else.
                let begun = AssertUnwindSafe(|| drop(probe.now_or_never()));
                drop(catch_unwind(begun));
            }
        });
        runtime.shutdown_background();
        let since = std::time::Instant::now();
        while !probes.is_finished() {
            assert!(
                since.elapsed() < Duration::from_secs(30),
                "a probe is stuck"
            );
            std::thread::yield_now();
        }
        probes.join().unwrap();
    }
}
