//! The works of perf-metrics: requests through an axum router, in process, bodies consumed.

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::{MatchedPath, Request};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::get;
use axum_prometheus::PrometheusMetricLayerBuilder;
use http_body_util::BodyExt;
use metrics::{NoopRecorder, Recorder, counter, gauge, histogram};
use metrics_exporter_prometheus::PrometheusBuilder;
use perf_metrics::Monitor;
use tokio::runtime::Runtime;
use tower::ServiceExt;
use tower::util::MapResponseLayer;

use crate::{Entry, Group};

const REQUESTS: u64 = 5_000;

/// The groups of perf-metrics.
pub fn groups(rt: &Arc<Runtime>) -> Vec<Group> {
    let entries = [ours(rt), naive(rt), axum_prometheus(rt)];
    let mut entries: Vec<Entry> = entries.into_iter().flatten().collect();
    entries.push(floor(rt));
    vec![Group::new("metrics/axum/request", REQUESTS, entries)]
}

fn app() -> Router {
    Router::new().route("/users/{id}", get(|| async { "hello" }))
}

/// The router as `axum::serve` has it: until the state is given, axum applies the layers anew for
/// each request.
fn served(app: Router) -> Router {
    app.with_state(())
}

/// Sends the requests one after another, on this thread, with `recorder` as the local recorder.
fn run(rt: &Runtime, app: &Router, recorder: &dyn Recorder) {
    metrics::with_local_recorder(recorder, || {
        rt.block_on(async {
            for _ in 0..REQUESTS {
                let mut request = Request::new(Body::empty());
                *request.uri_mut() = axum::http::Uri::from_static("/users/42");
                let Ok(response) = app.clone().oneshot(request).await;
                let mut body = response.into_body();
                while let Some(frame) = body.frame().await {
                    std::hint::black_box(frame.is_ok());
                }
            }
        });
    });
}

fn entry(
    name: &'static str,
    rt: &Arc<Runtime>,
    app: Router,
    recorder: impl Recorder + 'static,
) -> Entry {
    let rt = Arc::clone(rt);
    let app = served(app);
    Entry::timed(name, move || run(&rt, &app, &recorder))
}

/// The monitor's layer and recorder.
fn ours(rt: &Arc<Runtime>) -> Option<Entry> {
    let monitor = Monitor::builder().service("bench").build();
    let monitor = monitor
        .inspect_err(|error| eprintln!("metrics: ours is left out: {error}"))
        .ok()?;
    Some(entry(
        "ours",
        rt,
        app().layer(monitor.layer()),
        NoopRecorder,
    ))
}

/// The middleware that people write by hand, on the same recorder: time to the headers, a count
/// and the requests in flight; nothing about bodies, nor about clients that hang up.
fn naive(rt: &Arc<Runtime>) -> Option<Entry> {
    async fn track(request: Request, next: Next) -> Response {
        let start = Instant::now();
        let path = request.extensions().get::<MatchedPath>();
        let path = path.map_or_else(
            || request.uri().path().to_owned(),
            |p| p.as_str().to_owned(),
        );
        let method = request.method().to_string();
        gauge!("http_requests_in_flight").increment(1.0);
        let response = next.run(request).await;
        gauge!("http_requests_in_flight").decrement(1.0);
        let status = response.status().as_u16().to_string();
        let labels = [("method", method), ("path", path), ("status", status)];
        counter!("http_requests_total", &labels).increment(1);
        histogram!("http_request_duration_seconds", &labels).record(start.elapsed().as_secs_f64());
        response
    }
    let recorder = Monitor::builder().build().ok()?.recorder();
    let app = app().layer(middleware::from_fn(track));
    Some(entry("naive", rt, app, recorder))
}

/// The peer with its defaults: count, time to the headers, in flight; no body sizes. Its exporter
/// keeps every sample until upkeep, which runs outside the time.
fn axum_prometheus(rt: &Arc<Runtime>) -> Option<Entry> {
    let rt = Arc::clone(rt);
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let layer =
        metrics::with_local_recorder(&recorder, || PrometheusMetricLayerBuilder::new().build());
    let app = served(app().layer(layer));
    Some(Entry::new("axum-prometheus", move || {
        let start = Instant::now();
        run(&rt, &app, &recorder);
        let elapsed = start.elapsed();
        handle.run_upkeep();
        elapsed
    }))
}

/// A layer that does nothing but wrap the body, which every layer that sees its end must. The
/// wrapper passes on how long the body is, so that axum does the same work behind it.
fn floor(rt: &Arc<Runtime>) -> Entry {
    let wrap = |response: Response| response.map(|body| body.map_err(|error| error));
    let app = app().layer(MapResponseLayer::new(wrap));
    entry("floor", rt, app, NoopRecorder)
}
