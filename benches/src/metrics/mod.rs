//! The works of perf-metrics: requests through an axum router, in process, bodies consumed.

mod least;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

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
use tokio::runtime::{Builder, Runtime};
use tower::ServiceExt;
use tower::util::MapResponseLayer;

use crate::{Entry, Group};

/// Requests of a thread.
const REQUESTS: u64 = 5_000;

/// The groups of perf-metrics.
pub fn groups(_: &Arc<Runtime>) -> Vec<Group> {
    groups_with(Vec::new)
}

/// The groups of perf-metrics with more entries.
pub fn groups_with(peers: impl Fn() -> Vec<Timed>) -> Vec<Group> {
    let group = |threads| {
        let works = [
            ours(),
            excluded(),
            naive(),
            axum_prometheus(),
            Some(floor()),
        ];
        let works = works.into_iter().flatten().chain(peers());
        let entries = works.map(|work| work.entry(threads)).collect();
        let plural = if threads == 1 { "" } else { "s" };
        let name = format!("metrics/axum/{threads}-thread{plural}");
        Group::new(name, REQUESTS * threads as u64, entries)
    };
    vec![group(1), group(2)]
}

/// The router whose requests are timed, without a layer.
pub fn app() -> Router {
    Router::new().route("/users/{id}", get(|| async { "hello" }))
}

/// A router with a layer that times.
pub struct Timed {
    name: &'static str,
    app: Router,
    recorder: Arc<dyn Recorder + Send + Sync>,
    after: Box<dyn Fn() + Send + Sync>,
}

impl Timed {
    /// A router that needs no recorder of `metrics`.
    pub fn new(name: &'static str, app: Router) -> Self {
        Self {
            name,
            // As `axum::serve` has it: until the state is given, axum applies the layers anew for
            // each request.
            app: app.with_state(()),
            recorder: Arc::new(NoopRecorder),
            after: Box::new(|| ()),
        }
    }

    /// Sets the recorder of the threads that send requests.
    #[must_use]
    fn recorder(mut self, recorder: impl Recorder + Send + Sync + 'static) -> Self {
        self.recorder = Arc::new(recorder);
        self
    }

    fn entry(self, threads: usize) -> Entry {
        Entry::new(self.name, move || {
            let time = self.run(threads, REQUESTS);
            (self.after)();
            time
        })
    }

    /// Sends so many requests on each of so many threads, one after another; the time that the
    /// slowest takes.
    pub fn run(&self, threads: usize, requests: u64) -> Duration {
        let runs = self.run_between(threads, requests, || ());
        let times = runs.into_iter().map(|(time, _)| time);
        times.max().unwrap_or_default()
    }

    /// The same; the time that each thread takes, with what `look` says on it before and after.
    pub fn run_between<T: Send>(
        &self,
        threads: usize,
        requests: u64,
        look: impl Fn() -> T + Sync,
    ) -> Vec<(Duration, [T; 2])> {
        let ready = Ready::of(threads);
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..threads)
                .map(|_| scope.spawn(|| self.on_this_thread(&ready, requests, &look)))
                .collect();
            let runs = threads.into_iter().filter_map(|t| t.join().ok());
            runs.flatten().collect()
        })
    }

    fn on_this_thread<T>(
        &self,
        ready: &Ready,
        requests: u64,
        look: impl Fn() -> T,
    ) -> Option<(Duration, [T; 2])> {
        // Of its own, as `axum::serve` has one for each connection.
        let app = self.app.clone().with_state(());
        metrics::with_local_recorder(&self.recorder, || {
            let rt = Builder::new_current_thread().build();
            if let Ok(rt) = &rt {
                rt.block_on(send(&app, 10));
            }
            ready.wait();
            let rt = rt.ok()?;
            let before = look();
            let start = Instant::now();
            timed_requests(&rt, &app, requests);
            let time = start.elapsed();
            Some((time, [before, look()]))
        })
    }
}

/// Where threads wait for each other. They keep their processors, as those that are woken up one
/// after the other would run alone for a while, or on the same processor.
struct Ready(AtomicUsize);

impl Ready {
    fn of(threads: usize) -> Self {
        Self(AtomicUsize::new(threads))
    }

    fn wait(&self) {
        self.0.fetch_sub(1, SeqCst);
        while self.0.load(SeqCst) > 0 {
            std::hint::spin_loop();
        }
    }
}

impl fmt::Debug for Timed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timed")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// The part that is timed, by a name under which its instructions can be counted.
#[inline(never)]
fn timed_requests(rt: &Runtime, app: &Router, requests: u64) {
    rt.block_on(send(app, requests));
}

async fn send(app: &Router, requests: u64) {
    for _ in 0..requests {
        let mut request = Request::new(Body::empty());
        *request.uri_mut() = axum::http::Uri::from_static("/users/42");
        let Ok(response) = app.clone().oneshot(request).await;
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            std::hint::black_box(frame.is_ok());
        }
    }
}

fn monitor() -> Option<Monitor> {
    let monitor = Monitor::builder().service("bench").build();
    monitor
        .inspect_err(|error| eprintln!("metrics: ours is left out: {error}"))
        .ok()
}

/// The monitor's layer and recorder.
pub fn ours() -> Option<Timed> {
    Some(Timed::new("ours", app().layer(monitor()?.layer())))
}

/// The same, for a route that is excluded.
pub fn excluded() -> Option<Timed> {
    let layer = monitor()?.layer().exclude(["/users/{id}"]);
    let layer = layer
        .inspect_err(|error| eprintln!("metrics: excluded is left out: {error}"))
        .ok()?;
    Some(Timed::new("ours-excluded", app().layer(layer)))
}

/// The middleware that people write by hand, on the same recorder: time to the headers, a count
/// and the requests in flight; nothing about bodies, nor about clients that hang up.
fn naive() -> Option<Timed> {
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
    let app = app().layer(middleware::from_fn(track));
    Some(Timed::new("naive", app).recorder(monitor()?.recorder()))
}

/// The peer with its defaults: count, time to the headers, in flight; no body sizes. Its exporter
/// keeps every sample until upkeep, which runs outside the time.
fn axum_prometheus() -> Option<Timed> {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let layer =
        metrics::with_local_recorder(&recorder, || PrometheusMetricLayerBuilder::new().build());
    let mut timed = Timed::new("axum-prometheus", app().layer(layer)).recorder(recorder);
    timed.after = Box::new(move || handle.run_upkeep());
    Some(timed)
}

/// The least that a layer does which times requests to the end of their bodies, for comparison: see
/// `Least` in `benches/src/metrics/least.rs`.
pub fn least() -> Timed {
    Timed::new("least", app().layer(least::Least::new()))
}

/// A layer that does nothing but wrap the body, which every layer that sees its end must. The
/// wrapper passes on how long the body is, so that axum does the same work behind it.
pub fn floor() -> Timed {
    let wrap = |response: Response| response.map(|body| body.map_err(|error| error));
    Timed::new("floor", app().layer(MapResponseLayer::new(wrap)))
}
