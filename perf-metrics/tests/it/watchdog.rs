//! The watchdog names requests that run for too long.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use axum::routing::any;
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use perf_metrics::{Budget, Monitor, MonitorBuilder};
use tower::ServiceExt;
use tracing::subscriber::DefaultGuard;

use crate::log::{Line, Lines, fields};

/// The time between two looks of the watchdog.
const EVERY: Duration = Duration::from_secs(1);

/// A service whose routes all hang.
struct Hanging {
    monitor: Monitor,
    app: Router,
    requests: Vec<LocalBoxFuture<'static, Result<Response, Infallible>>>,
    lines: Lines,
    _of_this_thread: DefaultGuard,
}

impl Hanging {
    /// With these requests, which are there before the first look.
    fn start(builder: impl Fn() -> MonitorBuilder, requests: &[(&str, &str)]) -> Self {
        loop {
            let began = Instant::now();
            let mut hanging = Self::new(builder(), requests);
            for (method, path) in requests {
                hanging.request(method, path);
            }
            // Else the machine was held up, and some of them may have been told of.
            if began.elapsed() < EVERY {
                return hanging;
            }
        }
    }

    fn new(builder: MonitorBuilder, requests: &[(&str, &str)]) -> Self {
        let (lines, guard) = Lines::of_this_thread();
        let monitor = builder.build().unwrap();
        let mut routes: Vec<_> = requests.iter().map(|(_, path)| *path).collect();
        routes.sort_unstable();
        routes.dedup();
        let hang = |app: Router, path| app.route(path, any(std::future::pending::<()>));
        let app = routes.into_iter().fold(Router::new(), hang);
        Self {
            app: app.layer(monitor.layer()),
            monitor,
            requests: Vec::new(),
            lines,
            _of_this_thread: guard,
        }
    }

    fn request(&mut self, method: &str, path: &str) {
        let request = Request::builder().method(method).uri(path);
        let request = request.body(Body::empty()).unwrap();
        let mut response = self.app.clone().oneshot(request).boxed_local();
        assert!(response.as_mut().now_or_never().is_none());
        self.requests.push(response);
    }

    /// What the watchdog tells, once it has told so much. Scrapes are all that happens until then.
    fn told(&self, lines: usize) -> Vec<Line> {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let told = self.lines.with("request is still running");
            if told.len() >= lines {
                return told;
            }
            assert!(Instant::now() < deadline, "{told:?}");
            self.monitor.render();
        }
    }
}

fn at_once() -> MonitorBuilder {
    Monitor::builder().watchdog(Duration::from_millis(1))
}

#[test]
fn a_request_that_never_ends_is_named_once() {
    let mut hanging = Hanging::start(at_once, &[("GET", "/hang")]);
    hanging.told(1);
    hanging.request("GET", "/hang");
    let told = hanging.told(2);
    let named = |line| fields(line, &["level", "http.route", "found", "running"]);
    let line = |running| ["WARN", "/hang", "1", running].map(Some);
    assert_eq!(named(&told[0]), line("1"));
    // The first is not named again.
    assert_eq!(named(&told[1]), line("2"));
}

#[test]
fn each_route_that_hangs_is_named() {
    let routes: Vec<String> = (0..12).map(|i| format!("/hang/{i}")).collect();
    let requests = routes.iter().chain(&routes).map(|it| ("GET", it.as_str()));
    let hanging = Hanging::start(at_once, &requests.collect::<Vec<_>>());
    hanging.told(1);
    // Ten lines are all of a look; those that were left out have the next.
    let told = hanging.told(12);
    let named: Vec<_> = (told.iter())
        .map(|line| fields(line, &["http.route", "found", "unnamed_routes"]))
        .collect();
    let line = |(i, route)| {
        let unnamed = if i < 10 { "2" } else { "0" };
        [Some(String::as_str(route)), Some("2"), Some(unnamed)]
    };
    assert_eq!(
        named,
        routes.iter().enumerate().map(line).collect::<Vec<_>>()
    );
}

#[test]
fn requests_beyond_the_budget_of_their_route_are_named() {
    let (ms, hour) = (Duration::from_millis, Duration::from_secs(3600));
    let builder = || {
        Monitor::builder()
            .watchdog(hour)
            .budget(Budget::route("GET /p99").p50(ms(1)).p95(ms(2)).p99(ms(3)))
            .budget(Budget::route("/p95").p95(ms(2)).errors(0.5))
            .budget(Budget::route("POST /p95").p95(hour))
            .budget(Budget::route("/p50").p50(ms(1)))
            .budget(Budget::route("/events"))
            .default_budget(Budget::any().p95(ms(1)))
    };
    let routes = ["/p99", "/p95", "/p50", "/events", "/other"];
    let requests = routes.iter().flat_map(|it| [("GET", *it), ("POST", *it)]);
    let hanging = Hanging::start(builder, &requests.collect::<Vec<_>>());
    // All are older than the budgets of milliseconds at the first look, a second after the start.
    let told = hanging.told(1);
    let names = [
        "http.request.method",
        "http.route",
        "limit_seconds",
        "running",
    ];
    let mut named: Vec<_> = told.iter().map(|line| fields(line, &names)).collect();
    named.sort();
    let line = |route, limit| ["GET", route, limit, "1"].map(Some);
    assert_eq!(named, [line("/p95", "0.002"), line("/p99", "0.003")]);
}
