//! The one test that installs a recorder: a process can have only one.

use std::future::Future;
use std::task::{Context, Waker};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
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
    monitor.install().unwrap();
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
