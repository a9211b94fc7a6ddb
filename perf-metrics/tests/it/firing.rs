//! A real Prometheus scrapes a real service: all of the dashboard and of the rules has data, and
//! each alert fires and clears.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use http::header::CONTENT_TYPE;
use http::{Method, StatusCode};
use http_body_util::BodyExt;
use metrics::{counter, gauge, histogram};
use perf_metrics::timing::UpgradedConnection;
use perf_metrics::{AlertOptions, Budget, Monitor};
use serde_json::Value;
use testkit::{Prometheus, PrometheusOptions};
use tokio::task::JoinHandle;
use tower::ServiceExt;

use crate::dashboard::expressions;
use crate::endpoints::serve;

pub(crate) const EVERY: Duration = Duration::from_millis(500);
/// For a machine that is busy; all of it takes half a minute on one that is not.
const LONG: Duration = Duration::from_secs(120);

/// A service that can be made to do badly.
#[derive(Clone)]
struct Service {
    monitor: Monitor,
    app: Router,
    state: Arc<Flags>,
}

#[derive(Default)]
struct Flags {
    bad: AtomicBool,
    hidden: AtomicBool,
}

async fn order(State(state): State<Arc<Flags>>, Path(id): Path<u64>) -> StatusCode {
    if id == 0 {
        return std::future::pending().await;
    }
    if state.bad.load(SeqCst) {
        tokio::time::sleep(Duration::from_millis(60)).await;
        return StatusCode::INTERNAL_SERVER_ERROR;
    }
    StatusCode::OK
}

/// As a WebSocket is opened in HTTP/1.1, and in HTTP/2.
async fn upgrade(method: Method) -> StatusCode {
    if method == Method::CONNECT {
        return StatusCode::OK;
    }
    StatusCode::SWITCHING_PROTOCOLS
}

async fn stuck(State(state): State<Arc<Flags>>) -> StatusCode {
    while state.bad.load(SeqCst) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    StatusCode::OK
}

impl Service {
    fn new() -> Self {
        let ms = Duration::from_millis;
        let options = AlertOptions::default()
            .scrape_interval(EVERY)
            .time_scale(1.0 / 3600.0);
        let monitor = Monitor::builder()
            .service("orders")
            .budget(
                Budget::route("GET /orders/{id}")
                    .p50(ms(30))
                    .p95(ms(40))
                    .p99(ms(50))
                    .errors(0.01),
            )
            .alerts(options)
            .build()
            .unwrap();
        let state = Arc::<Flags>::default();
        let app = Router::new()
            .route("/orders/{id}", get(order))
            .route("/stuck", get(stuck))
            .route("/forever", get(std::future::pending::<StatusCode>))
            .route("/ws", any(upgrade))
            .with_state(Arc::clone(&state))
            .layer(monitor.layer());
        Self {
            monitor,
            app,
            state,
        }
    }

    fn request(&self, path: &'static str) -> JoinHandle<()> {
        let response = self
            .app
            .clone()
            .oneshot(Request::get(path).body(Body::empty()).unwrap());
        tokio::spawn(async move {
            let body = response.await.unwrap().into_body();
            body.collect().await.unwrap();
        })
    }

    /// A WebSocket that is open, and idle.
    async fn websocket(&self, method: Method) -> (Response, UpgradedConnection) {
        let request = Request::builder().method(method).uri("/ws");
        let request = request.body(Body::empty()).unwrap();
        let response = self.app.clone().oneshot(request).await.unwrap();
        (response, self.monitor.upgraded("/ws"))
    }

    /// Requests, and what the other crates record; until the test's runtime ends.
    async fn work(self) {
        let mut ticks = tokio::time::interval(Duration::from_millis(50));
        let mut dropped = Vec::new();
        let mut waits = None;
        loop {
            ticks.tick().await;
            let bad = self.state.bad.load(SeqCst);
            for _ in 0..20 {
                self.request("/orders/7");
            }
            // A few of many are dropped before their headers; while it goes badly, all of a route,
            // and one of another stays.
            dropped.drain(..).for_each(|it: JoinHandle<()>| it.abort());
            dropped.push(self.request("/orders/0"));
            if bad {
                dropped.push(self.request("/forever"));
                waits.get_or_insert_with(|| self.request("/stuck"));
            } else {
                waits = None;
            }
            metrics::with_local_recorder(&self.monitor.recorder(), || record(bad));
        }
    }

    /// The monitor's own `/metrics`, with memory that does not fill the machine's.
    async fn scraped(State(service): State<Self>, request: Request) -> Response {
        if service.state.hidden.load(SeqCst) {
            return StatusCode::SERVICE_UNAVAILABLE.into_response();
        }
        let shown = service.monitor.router().oneshot(request).await.unwrap();
        let kind = shown.headers()[CONTENT_TYPE].clone();
        let text = shown.into_body().collect().await.unwrap().to_bytes();
        let text = String::from_utf8(text.to_vec()).unwrap();
        let used = if service.state.bad.load(SeqCst) {
            0.97
        } else {
            0.3
        };
        // As if it had another budget then.
        let hidden = |line: &str| used > 0.9 && line.contains("le=\"0.04\"");
        let lines = text.lines().filter(|line| !hidden(line));
        let lines = lines.map(|line| match line.split_once(' ') {
            Some(("process_memory_usage_ratio", _)) => {
                format!("process_memory_usage_ratio {used}\n")
            }
            _ => format!("{line}\n"),
        });
        ([(CONTENT_TYPE, kind)], lines.collect::<String>()).into_response()
    }
}

/// As perf-pool, perf-queue, perf-cache and perf-batch do.
fn record(bad: bool) {
    let either = |good: f64, bad_one: f64| if bad { bad_one } else { good };
    let used = either(2.0, 10.0);
    gauge!("db_client_connections", "pool" => "main", "state" => "used").set(used);
    gauge!("db_client_connections", "pool" => "main", "state" => "idle").set(10.0 - used);
    gauge!("db_client_connections_max", "pool" => "main").set(10.0);
    gauge!("db_client_connections_pending_requests", "pool" => "main").set(either(0.0, 5.0));
    counter!("db_client_connections_timeouts_total", "pool" => "main").increment(u64::from(bad));
    counter!("db_client_connections_leaks_total", "pool" => "main").increment(0);
    for name in ["wait", "use", "create"] {
        let name = format!("db_client_connections_{name}_time_seconds");
        histogram!(name, "pool" => "main").record(0.01);
    }

    for state in ["ready", "scheduled", "limited", "in_flight", "dead"] {
        gauge!("queue_depth", "queue" => "mail", "state" => state).set(either(1.0, 99.0));
    }
    gauge!("queue_workers", "queue" => "mail", "state" => "busy").set(3.0);
    gauge!("queue_oldest_job_age_seconds", "queue" => "mail").set(either(1.0, 999.0));
    counter!("queue_jobs_enqueued_total", "queue" => "mail").increment(1);
    counter!("queue_jobs_processed_total", "queue" => "mail", "outcome" => "completed")
        .increment(1);
    counter!("queue_rate_limited_total", "queue" => "mail", "scope" => "key").increment(1);
    histogram!("queue_job_wait_seconds", "queue" => "mail").record(0.1);
    histogram!("queue_job_duration_seconds", "queue" => "mail").record(0.1);

    for (result, n) in [
        ("hit", either(95.0, 5.0)),
        ("stale", 1.0),
        ("miss", either(5.0, 95.0)),
    ] {
        counter!("cache_requests_total", "cache" => "users", "tier" => "local", "result" => result)
            .increment(n as u64);
    }
    counter!("cache_loads_total", "cache" => "users", "outcome" => "ok").increment(1);
    histogram!("cache_load_duration_seconds", "cache" => "users").record(0.02);
    gauge!("cache_entries", "cache" => "users").set(100.0);
    counter!("cache_evictions_total", "cache" => "users", "cause" => "size").increment(1);
    counter!("cache_invalidations_total", "cache" => "users", "outcome" => "applied").increment(1);

    counter!("batch_items_total", "batch" => "answers", "outcome" => "written").increment(9);
    histogram!("batch_size", "batch" => "answers").record(9.0);
    histogram!("batch_flush_duration_seconds", "batch" => "answers", "reason" => "size")
        .record(0.01);
    histogram!("batch_wait_seconds", "batch" => "answers").record(0.01);
    for name in ["commits", "fallbacks", "retries"] {
        counter!(format!("batch_{name}_total"), "batch" => "answers").increment(1);
    }
}

/// The series of an expression that have a value now.
pub(crate) async fn query(prometheus: &Prometheus, expr: &str) -> Vec<Value> {
    let answer = reqwest::get(prometheus.query_url(expr)).await.unwrap();
    let answer: Value = answer.json().await.unwrap();
    assert_eq!(answer["status"], "success", "{expr}: {answer}");
    let series = answer["data"]["result"].as_array().unwrap().iter();
    series
        .filter(|it| it["value"][1] != "NaN")
        .cloned()
        .collect()
}

async fn without_data(prometheus: &Prometheus, exprs: &[String]) -> Vec<String> {
    let mut without = Vec::new();
    for expr in exprs {
        if query(prometheus, expr).await.is_empty() {
            without.push(expr.clone());
        }
    }
    without
}

pub(crate) async fn firing(prometheus: &Prometheus) -> BTreeSet<String> {
    let series = query(prometheus, "ALERTS{alertstate=\"firing\"}").await;
    let name = |it: &Value| it["metric"]["alertname"].as_str().unwrap().to_owned();
    series.iter().map(name).collect()
}

/// Asks Prometheus, which tells nothing of itself, until there is what is waited for.
pub(crate) async fn until<E: Debug>(mut ask: impl AsyncFnMut() -> Result<(), E>) {
    let deadline = Instant::now() + LONG;
    while let Err(missing) = ask().await {
        assert!(Instant::now() < deadline, "{missing:?}");
        tokio::time::sleep(EVERY / 5).await;
    }
}

/// Waits until the alerts that fire are these, each at the same time or one after the other.
async fn until_firing(prometheus: &Prometheus, expected: &BTreeSet<String>) {
    let mut seen = BTreeSet::new();
    until(async || {
        let now = firing(prometheus).await;
        seen.extend(now.iter().cloned());
        let missing: Vec<_> = expected.difference(&seen).cloned().collect();
        let done = missing.is_empty() && (!expected.is_empty() || now.is_empty());
        done.then_some(()).ok_or((missing, now))
    })
    .await;
}

fn after<'a>(text: &'a str, start: &'a str) -> impl Iterator<Item = String> + 'a {
    let lines = text.lines().map(str::trim);
    lines
        .filter_map(move |line| line.strip_prefix(start))
        .map(str::to_owned)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_has_data_and_each_alert_fires_and_clears() {
    let service = Service::new();
    let scraped = get(Service::scraped).with_state(service.clone());
    let url = serve(Router::new().route("/metrics", scraped)).await;
    let rules = service.monitor.alert_rules();
    let options = PrometheusOptions::default()
        .interval(EVERY)
        .scrape("orders", &format!("{url}/metrics"))
        .rules(&rules);
    let Some(prometheus) = Prometheus::start(options).await else {
        return;
    };
    tokio::spawn(service.clone().work());
    // They never end, which is no reason for an alert.
    let _idle = [
        service.websocket(Method::GET).await,
        service.websocket(Method::CONNECT).await,
    ];

    let dashboard = serde_json::from_str(&service.monitor.grafana_json()).unwrap();
    let exprs = expressions(&dashboard).into_iter().map(|(_, expr)| {
        let expr = expr.replace("$job", "orders").replace("$route", ".*");
        expr.replace("$__rate_interval", "3s")
    });
    let exprs: Vec<_> = exprs.chain(after(&rules, "- record: ")).collect();
    assert!(exprs.len() > 60, "{}", exprs.len());
    until(async || {
        let without = without_data(&prometheus, &exprs).await;
        without.is_empty().then_some(()).ok_or(without)
    })
    .await;

    let none = BTreeSet::new();
    let mut alerts: BTreeSet<String> = after(&rules, "- alert: ").collect();
    let absent = ["ServiceAbsent", "InstanceDown"].map(str::to_owned);
    let absent = BTreeSet::from(absent);
    assert!(absent.iter().all(|it| alerts.remove(it)));
    until_firing(&prometheus, &none).await;
    service.state.bad.store(true, SeqCst);
    until_firing(&prometheus, &alerts).await;
    service.state.bad.store(false, SeqCst);
    until_firing(&prometheus, &none).await;
    service.state.hidden.store(true, SeqCst);
    until_firing(&prometheus, &absent).await;
    service.state.hidden.store(false, SeqCst);
    until_firing(&prometheus, &none).await;
}
