//! The one test that installs a recorder, as a process can have only one, and what monitors say
//! that are not installed, or not alone.

use std::future::Future;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use metrics_util::debugging::DebuggingRecorder;
use metrics_util::layers::FanoutBuilder;
use perf_metrics::{AlreadyInstalled, Monitor, TimingLayer};
use tower::{Layer, ServiceExt, service_fn};

async fn get(layer: &TimingLayer) {
    let service = layer.layer(service_fn(|_: Request<Full<Bytes>>| async {
        Ok::<_, std::io::Error>(Response::new(Full::<Bytes>::from("hello")))
    }));
    let response = service.oneshot(Request::new(Full::default())).await;
    response.unwrap().into_body().collect().await.unwrap();
}

#[tokio::test]
async fn a_monitor_installs_once_and_layers_used_before_count_from_then_on() {
    let layer = TimingLayer::new();
    // One that stays in flight over the installation must not be counted out without having been
    // counted in.
    let service = layer.layer(service_fn(|_: Request<Full<Bytes>>| {
        std::future::pending::<Result<Response<Full<Bytes>>, std::io::Error>>()
    }));
    let early = service.clone().oneshot(Request::new(Full::default()));
    let mut early = Box::pin(early);
    let mut cx = Context::from_waker(Waker::noop());
    assert!(early.as_mut().poll(&mut cx).is_pending());
    get(&layer).await;

    let monitor = Monitor::builder().service("first").build().unwrap();
    let second = Monitor::builder().service("second").build().unwrap();
    // What was spawned may hold handles that are silent.
    #[cfg(feature = "tokio")]
    let spawned = tokio::spawn(std::future::pending::<()>());
    let log = logged(|| monitor.install().unwrap());
    #[cfg(feature = "tokio")]
    {
        assert!(
            log.contains("install it first in `main`") && log.contains("tasks=1"),
            "{log}"
        );
        spawned.abort();
    }
    #[cfg(not(feature = "tokio"))]
    assert_eq!(log, "");
    assert_eq!(monitor.install(), Err(AlreadyInstalled));
    assert_eq!(second.install(), Err(AlreadyInstalled));

    get(&layer).await;
    drop(early);
    let requests = monitor.snapshot().requests;
    assert_eq!(
        (requests.count, requests.in_flight, requests.aborted),
        (1, 0, 0)
    );

    // A monitor that could not be installed still shows what its own layer records, and no more.
    get(&second.layer()).await;
    get(&second.layer()).await;
    assert_eq!(second.snapshot().requests.count, 2);
    assert_eq!(monitor.snapshot().requests.count, 1);

    metrics::counter!("anything_total").increment(1);
    assert!(monitor.render().contains("\nanything_total 1\n"));
    assert!(!second.render().contains("anything_total"));
}

/// What is logged meanwhile on this thread.
fn logged(run: impl FnOnce()) -> String {
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);
    impl Write for Log {
        fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(text)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, run);
    String::from_utf8(log.0.lock().unwrap().clone()).unwrap()
}

#[test]
fn a_monitor_that_nobody_can_record_into_says_so_once() {
    let monitor = Monitor::builder().service("lonely").build().unwrap();
    let log = logged(|| {
        for _ in 0..3 {
            monitor.snapshot();
            monitor.render();
        }
    });
    assert_eq!(log.matches("lonely").count(), 1, "{log}");
    assert!(log.contains("call `install()` first in `main`"), "{log}");

    let monitor = Monitor::builder().build().unwrap();
    monitor.recorder();
    assert_eq!(logged(|| drop(monitor.render())), "");
}

#[test]
fn a_monitor_behind_a_fanout_sees_what_the_other_recorder_sees() {
    let monitor = Monitor::builder().build().unwrap();
    let other = DebuggingRecorder::new();
    let seen = other.snapshotter();
    let fanout = FanoutBuilder::default()
        .add_recorder(monitor.recorder())
        .add_recorder(other)
        .build();
    metrics::with_local_recorder(&fanout, || {
        metrics::counter!("jobs_total").increment(3);
        metrics::gauge!("depth").increment(2.5);
        metrics::histogram!("wait_seconds").record(0.5);
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.unwrap().block_on(get(&TimingLayer::new()));
    });
    let text = monitor.render();
    for line in ["jobs_total 3", "depth 2.5", "wait_seconds_sum 0.5"] {
        assert!(text.lines().any(|l| l == line), "{line}");
    }
    assert_eq!(monitor.snapshot().requests.count, 1);
    let seen = seen.snapshot().into_hashmap();
    let names: Vec<_> = seen.keys().map(|key| key.key().name()).collect();
    for name in [
        "jobs_total",
        "depth",
        "wait_seconds",
        "http_server_request_duration_seconds",
    ] {
        assert!(names.contains(&name), "{name}");
    }
}
