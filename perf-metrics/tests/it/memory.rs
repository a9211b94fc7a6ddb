//! What a request allocates, and what is left of it.

use std::convert::Infallible;
use std::future::ready;
use std::pin::pin;
use std::task::{Context, Waker};

use allocation_counter::measure;
use bytes::Bytes;
use futures_util::FutureExt;
use http::{Request, Response, StatusCode};
use http_body::Body;
#[cfg(feature = "axum")]
use http_body_util::BodyExt;
use http_body_util::{Empty, Full};
use perf_metrics::{Monitor, TimingLayer};
use tower::{Layer, Service, service_fn};

/// Sends a request and polls the body to its end. Nothing here waits.
fn send<S, B>(service: &mut S, path: &'static str)
where
    S: Service<Request<Empty<Bytes>>, Response = Response<B>, Error = Infallible>,
    B: Body,
{
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = http::Uri::from_static(path);
    let Ok(response) = service.call(request).now_or_never().unwrap();
    let mut body = pin!(response.into_body());
    let mut cx = Context::from_waker(Waker::noop());
    while let std::task::Poll::Ready(Some(frame)) = body.as_mut().poll_frame(&mut cx) {
        assert!(frame.is_ok());
    }
}

#[test]
fn a_request_allocates_nothing() {
    let monitor = Monitor::builder().build().unwrap();
    let layer =
        TimingLayer::with_recorder(monitor.recorder()).route_label(|_| Some("/users/{id}".into()));
    let mut service = layer.layer(service_fn(|_| {
        ready(Ok(Response::new(Full::<Bytes>::from("hello"))))
    }));
    // The first fetches the handles.
    send(&mut service, "/users/7");
    let costs = (0..50).map(|_| {
        let cost = measure(|| (0..100).for_each(|_| send(&mut service, "/users/7")));
        cost.count_total
    });
    // But for the first time that a request takes so long, or answers with so much.
    let costs: Vec<u64> = costs.collect();
    assert!(
        costs.iter().filter(|cost| **cost == 0).count() > 25,
        "{costs:?}"
    );
    assert!(costs.iter().sum::<u64>() < 60, "{costs:?}");
    assert_eq!(monitor.snapshot().requests.count, 5001);
}

#[test]
fn a_status_takes_three_kilobytes_for_each_thread_that_answers_with_it() {
    const THREADS: usize = 8;
    let monitor = Monitor::builder().build().unwrap();
    let layer =
        TimingLayer::with_recorder(monitor.recorder()).route_label(|_| Some("/users/{id}".into()));
    let cost = |status: StatusCode| {
        let mut service = layer.layer(service_fn(|_| {
            let mut response = Response::new(Full::<Bytes>::from("hello"));
            *response.status_mut() = status;
            ready(Ok(response))
        }));
        measure(|| (0..100).for_each(|_| send(&mut service, "/users/7"))).bytes_current
    };
    // What the route and each status take.
    let statuses = [StatusCode::OK, StatusCode::CREATED, StatusCode::ACCEPTED];
    for status in statuses {
        cost(status);
    }
    let barrier = std::sync::Barrier::new(THREADS);
    let costs: Vec<i64> = std::thread::scope(|scope| {
        let thread = || {
            let [_, second, third] = statuses.map(cost);
            // Until then the thread keeps its place, so that no other comes after it in there.
            barrier.wait();
            [second, third]
        };
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(thread)).collect();
        threads
            .into_iter()
            .flat_map(|it| it.join().unwrap())
            .collect()
    });
    // The least of several, for a thread that the machine held up has requests that took long, and
    // each time that differs so much takes memory of its own. A thread that shares its place with
    // those of other tests may come second in there.
    let least = costs.iter().filter(|cost| **cost > 0).min();
    assert!(
        least.is_some_and(|cost| *cost < 3 * 1024),
        "bytes for each thread and status: {costs:?}"
    );
}

/// Sends so many requests that nobody scrapes, and says how many bytes are left of them.
fn left_of(requests: u64) -> i64 {
    let monitor = Monitor::builder().build().unwrap();
    let layer = TimingLayer::with_recorder(monitor.recorder())
        .route_label(|head| Some(head.uri().path().to_owned().into()));
    let mut service = layer.layer(service_fn(|_| {
        ready(Ok(Response::new(Full::<Bytes>::from("hello"))))
    }));
    const PATHS: [&str; 4] = ["/users", "/users/7", "/orders", "/orders/8"];
    let cost = measure(|| {
        for path in PATHS.iter().cycle().take(requests as usize) {
            send(&mut service, path);
        }
    });
    assert_eq!(monitor.snapshot().requests.count, requests);
    cost.bytes_current
}

#[test]
fn memory_stays_below_a_mebibyte_after_ten_million_requests_that_nobody_scrapes() {
    let left = left_of(10_000_000);
    println!("{left} bytes are left of 10 million requests");
    assert!(left < 1 << 20);
}

#[test]
fn nothing_is_left_of_a_million_samples_that_nobody_scrapes() {
    let monitor = Monitor::builder().build().unwrap();
    metrics::with_local_recorder(&monitor.recorder(), || {
        let times = metrics::histogram!("times_seconds");
        // The first ones make the thread's cells.
        let all = || (0..1_000_000).for_each(|i| times.record(f64::from(i) * 1e-5));
        assert!(measure(all).bytes_current < 8 * 1024);
        assert_eq!(measure(all).count_total, 0);
    });
}

#[cfg(feature = "axum")]
#[test]
fn on_an_axum_route_the_layer_allocates_no_more_than_one_that_wraps_the_body() {
    use axum::{Router, response::Response, routing::get};

    let app = || Router::new().route("/users/{id}", get(|| async { "hello" }));
    let cost = |app: Router| {
        let mut app = app.with_state::<()>(());
        send(&mut app, "/users/7");
        // The least of several, for the first time that a request takes so long costs once.
        let costs = (0..20)
            .map(|_| measure(|| (0..100).for_each(|_| send(&mut app, "/users/7"))).count_total);
        costs.min()
    };
    let monitor = Monitor::builder().build().unwrap();
    let wrap = |response: Response| response.map(|body| body.map_err(|error| error));
    let floor = cost(app().layer(tower::util::MapResponseLayer::new(wrap)));
    assert_eq!(cost(app().layer(monitor.layer())), floor);
    assert_eq!(monitor.snapshot().requests.count, 2001);
}

#[cfg(feature = "axum")]
#[test]
fn nothing_is_left_of_requests_to_paths_that_do_not_exist() {
    use axum::Router;

    let monitor = Monitor::builder().build().unwrap();
    let app = Router::new().layer(monitor.layer()).merge(monitor.router());
    let mut app = app.with_state::<()>(());
    send(&mut app, "/nothing");
    let costs = (0..20).map(|_| measure(|| (0..50).for_each(|_| send(&mut app, "/nothing"))));
    let left: Vec<i64> = costs.map(|cost| cost.bytes_current).collect();
    // But for the first time that a request takes so long.
    assert!(
        left.contains(&0) && left.iter().sum::<i64>() < 8 * 1024,
        "{left:?}"
    );
}
