//! What the layer can be told: exclusions, the slow log, `X-Process-Time`.

use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use axum::routing::get;
use futures_util::FutureExt;
use http_body_util::BodyExt;
use perf_metrics::timing::RunningRequest;
use perf_metrics::{BuildError, Monitor, MonitorBuilder, TimingLayer};
use tower::ServiceExt;

use crate::exposition::Exposition;
use crate::log::{Lines, fields};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

fn app(monitor: &Monitor) -> Router {
    Router::new()
        .route("/users/{id}", get(|| async { "a user" }))
        .route("/static/{*path}", get(|| async { "a file" }))
        .route("/{section}/{page}", get(|| async { "a page" }))
        .route("/hang", get(std::future::pending::<&'static str>))
        .layer(monitor.layer())
}

fn build(set: impl FnOnce(MonitorBuilder) -> MonitorBuilder) -> (Monitor, Router) {
    let monitor = set(Monitor::builder()).build().unwrap();
    let app = app(&monitor);
    (monitor, app)
}

fn request(path: &str) -> Request {
    let request = Request::builder().uri(path);
    let parent = format!("00-{TRACE}-b7ad6b7169203331-01");
    let request = request.header("traceparent", parent);
    request.body(Body::empty()).unwrap()
}

/// Sends a request and reads the body; nothing here waits.
fn send(app: &Router, path: &str) -> Response<usize> {
    let answer = async {
        let response = app.clone().oneshot(request(path)).await.unwrap();
        let (head, body) = response.into_parts();
        let length = body.collect().await.unwrap().to_bytes().len();
        Response::from_parts(head, length)
    };
    answer.now_or_never().unwrap()
}

fn paths(monitor: &Monitor) -> Vec<String> {
    let routes = monitor.snapshot().requests.routes;
    routes.into_iter().map(|route| route.route).collect()
}

#[test]
fn excluded_requests_count_nowhere() {
    let (monitor, app) = build(|b| {
        b.exclude(["/static/{*p}", "/metrics"])
            .exclude(["/health/{*p}"])
            .process_time_header(true)
            .slow_log(Duration::ZERO)
    });
    // Of a route that is excluded, of one that is not, and of none; the first time and later.
    for path in ["/static/app.js", "/health/live", "/metrics"].repeat(2) {
        let response = send(&app, path);
        assert!(!response.headers().contains_key("x-process-time"), "{path}");
    }
    assert_eq!(monitor.snapshot().requests.count, 0);
    let text = Exposition::parse(&monitor.render());
    assert_eq!(text.samples("http_server_active_requests").count(), 0);
    for path in ["/users/7", "/about/us", "/nothing"].repeat(2) {
        send(&app, path);
    }
    assert_eq!(
        paths(&monitor),
        ["/users/{id}", "/{section}/{page}", "_UNMATCHED"]
    );
    assert_eq!(monitor.snapshot().requests.count, 6);
}

#[test]
fn requests_of_routes_beyond_the_limit_are_excluded_as_well() {
    let (monitor, app) = build(|b| b.max_routes(1).exclude(["/static/{*p}"]));
    for path in ["/users/7", "/static/app.js", "/about/us"] {
        send(&app, path);
    }
    assert_eq!(paths(&monitor), ["/users/{id}", "_OVERFLOW"]);
}

#[test]
fn labels_of_ones_own_do_not_hide_the_path_from_exclusions() {
    let (monitor, app) = build(|b| {
        b.exclude(["/static/{*p}"])
            .route_label(|_| Some("anything".into()))
    });
    send(&app, "/static/app.js");
    assert_eq!(monitor.snapshot().requests.count, 0);
    send(&app, "/users/7");
    assert_eq!(paths(&monitor), ["anything"]);
}

#[test]
fn a_pattern_that_is_none_is_an_error_of_the_builder() {
    let built = Monitor::builder().exclude(["/fine", "/{a}{b}"]).build();
    let Err(BuildError::Exclude(error)) = built else {
        panic!("{built:?}");
    };
    assert_eq!(error.pattern(), "/{a}{b}");
    assert!(TimingLayer::new().exclude(["no slash"]).is_err());
}

#[test]
fn the_time_in_the_header_is_that_to_the_headers() {
    let (monitor, app) = build(|b| b.process_time_header(true));
    let began = Instant::now();
    let response = send(&app, "/users/7");
    let most = began.elapsed().as_secs_f64() + 1e-3;
    let value = response.headers()["x-process-time"].to_str().unwrap();
    assert_eq!(value.split_once('.').unwrap().1.len(), 6, "{value}");
    let seconds: f64 = value.parse().unwrap();
    assert!((0.0..most).contains(&seconds), "{seconds}");
    let text = Exposition::parse(&monitor.render());
    let recorded = text.sum("http_server_request_duration_seconds_sum");
    assert!((recorded - seconds).abs() <= 1e-6, "{recorded} {seconds}");
}

#[test]
fn without_asking_there_is_no_header_and_no_log() {
    let (lines, _guard) = Lines::of_this_thread();
    let (_, app) = build(|b| b);
    let response = send(&app, "/users/7");
    assert!(!response.headers().contains_key("x-process-time"));
    assert!(lines.with("slow request").is_empty());
}

fn slow_requests(monitor: &Monitor) -> f64 {
    Exposition::parse(&monitor.render()).sum("http_server_slow_requests_total")
}

#[test]
fn a_slow_request_is_a_line_and_counts() {
    let (lines, _guard) = Lines::of_this_thread();
    let (monitor, app) = build(|b| b.slow_log(Duration::ZERO));
    let span = tracing::info_span!("request");
    span.in_scope(|| send(&app, "/users/7"));
    assert_eq!(slow_requests(&monitor), 1.0);
    let all = lines.with("slow request");
    assert_eq!(all.len(), 1);
    let names = [
        "level",
        "http.request.method",
        "http.route",
        "http.response.status_code",
        "aborted",
        "trace_id",
        "suppressed",
    ];
    let expected = ["WARN", "GET", "/users/{id}", "200", "", TRACE, "0"];
    let expected = expected.map(|value| (!value.is_empty()).then_some(value));
    assert_eq!(fields(&all[0], &names), expected);
    let id = span.id().unwrap().into_u64().to_string();
    assert_eq!(all[0]["span_id"], id);
    assert!(all[0]["seconds"].parse::<f64>().unwrap() < 10.0);
}

#[test]
fn a_request_that_was_given_up_is_slow_as_well() {
    let (lines, _guard) = Lines::of_this_thread();
    let (monitor, app) = build(|b| b.slow_log(Duration::ZERO));
    assert!(app.oneshot(request("/hang")).now_or_never().is_none());
    assert_eq!(slow_requests(&monitor), 1.0);
    let all = lines.with("slow request");
    let names = ["http.route", "http.response.status_code", "aborted"];
    assert_eq!(
        fields(&all[0], &names),
        [Some("/hang"), None, Some("dropped")]
    );
}

#[test]
fn quick_requests_are_not_slow_and_slow_ones_do_not_flood_the_log() {
    let (lines, _guard) = Lines::of_this_thread();
    let (monitor, app) = build(|b| b.slow_log(Duration::from_secs(3600)));
    send(&app, "/users/7");
    assert_eq!(slow_requests(&monitor), 0.0);

    let (monitor, app) = build(|b| b.slow_log(Duration::ZERO));
    let began = Instant::now();
    (0..1000).for_each(|_| drop(send(&app, "/users/7")));
    let seconds = began.elapsed().as_secs() as usize + 1;
    assert_eq!(slow_requests(&monitor), 1000.0);
    let lines = lines.with("slow request").len();
    assert!((10..=10 * seconds).contains(&lines), "{lines}");
}

#[test]
fn what_the_slow_log_left_out_is_told_when_the_monitor_ends() {
    let (lines, _guard) = Lines::of_this_thread();
    let (monitor, app) = build(|b| b.slow_log(Duration::ZERO));
    (0..1000).for_each(|_| drop(send(&app, "/users/7")));
    drop((monitor, app));
    let written = lines.with("slow request");
    let left_out = lines.with("slow requests were not logged");
    let told = written
        .iter()
        .chain(&left_out)
        .map(|line| &line["suppressed"]);
    let told: usize = told.map(|n| n.parse::<usize>().unwrap()).sum();
    assert_eq!(told + written.len(), 1000);
    assert!(left_out.len() <= 2, "{left_out:?}");
}

#[test]
fn what_the_slow_log_left_out_is_told_by_a_scrape_after_its_second() {
    let (lines, _guard) = Lines::of_this_thread();
    let (monitor, app) = build(|b| b.slow_log(Duration::ZERO));
    (0..1000).for_each(|_| drop(send(&app, "/users/7")));
    let message = "slow requests were not logged";
    let deadline = Instant::now() + Duration::from_secs(30);
    while lines.with(message).is_empty() {
        assert!(Instant::now() < deadline);
        monitor.render();
    }
    let line = &lines.with(message)[0];
    assert!(line["suppressed"].parse::<usize>().unwrap() > 0, "{line:?}");
}

fn names(running: &[RunningRequest]) -> Vec<(&str, bool)> {
    let names = running.iter().map(|r| (r.route.as_str(), r.has_headers));
    names.collect()
}

#[test]
fn requests_that_run_are_listed_the_oldest_first() {
    let (monitor, app) = build(|b| b);
    assert!(monitor.running().is_empty());
    let mut hanging = Box::pin(app.clone().oneshot(request("/hang")));
    assert!(hanging.as_mut().now_or_never().is_none());
    let sending = app.clone().oneshot(request("/users/7")).now_or_never();
    let running = monitor.running();
    assert_eq!(names(&running), [("/hang", false), ("/users/{id}", true)]);
    assert!(running[0].age >= running[1].age);
    assert_eq!(running[0].method, "GET");
    let json = serde_json::to_value(&running[0]).unwrap();
    assert!(json["age_seconds"].as_f64().unwrap() > 0.0, "{json}");
    assert_eq!(names(&monitor.long_running(running[1].age)).len(), 2);
    assert!(monitor.long_running(Duration::from_secs(3600)).is_empty());
    drop(sending);
    assert_eq!(names(&monitor.running()), [("/hang", false)]);
    drop(hanging);
    assert!(monitor.running().is_empty());
}
