//! The monitor's endpoints over real HTTP.

use std::time::Duration;

use axum::Router;
use axum::routing::get;
use http::StatusCode;
use perf_metrics::{BuildError, Liveness, Monitor, Readiness};
use serde_json::Value;

use crate::exposition::Exposition;
use crate::openmetrics;

/// Serves on a port of its own; the server ends with the test's runtime.
pub(crate) async fn serve(app: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    url
}

pub(crate) async fn json(url: String) -> (StatusCode, Value) {
    let response = reqwest::get(url).await.unwrap();
    let status = response.status().as_u16();
    (
        StatusCode::from_u16(status).unwrap(),
        response.json().await.unwrap(),
    )
}

fn app(monitor: &Monitor) -> Router {
    Router::new()
        .route("/hello", get(|| async { "hello" }))
        .route("/fail", get(|| async { StatusCode::INTERNAL_SERVER_ERROR }))
        .layer(monitor.layer())
        .merge(monitor.router())
}

#[tokio::test]
async fn metrics_are_prometheus_text() {
    let monitor = Monitor::builder().service("quiz").build().unwrap();
    let url = serve(app(&monitor)).await;
    for _ in 0..3 {
        reqwest::get(format!("{url}/hello"))
            .await
            .unwrap()
            .text()
            .await
            .unwrap();
    }
    let response = reqwest::get(format!("{url}/metrics")).await.unwrap();
    let kind = response.headers()["content-type"].to_str().unwrap();
    assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8");
    let text = response.text().await.unwrap();
    assert!(text.contains("# HELP http_server_request_duration_seconds Time"));
    let text = Exposition::parse(&text);
    assert_eq!(text.sum("http_server_request_duration_seconds_count"), 3.0);
    assert_eq!(text.sum("http_server_response_body_size_bytes_sum"), 15.0);
    assert!(text.sum("process_resident_memory_bytes") > 0.0);
}

#[tokio::test]
async fn a_scraper_that_prefers_openmetrics_gets_it() {
    let monitor = Monitor::builder().build().unwrap();
    let url = serve(app(&monitor)).await;
    let client = reqwest::Client::new();
    client.get(format!("{url}/hello")).send().await.unwrap();
    let response = client
        .get(format!("{url}/metrics"))
        .header(
            "accept",
            "application/openmetrics-text;version=1.0.0,text/plain;q=0.5",
        )
        .send()
        .await
        .unwrap();
    let header = |name| response.headers()[name].to_str().unwrap();
    assert_eq!(
        header("content-type"),
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    );
    assert_eq!(header("vary"), "accept");
    let (samples, kinds) = openmetrics::parse(&response.text().await.unwrap());
    assert_eq!(kinds["http_server_request_duration_seconds"], "histogram");
    assert_eq!(kinds["process_cpu_seconds"], "counter");
    let count = "http_server_request_duration_seconds_count";
    assert_eq!(samples.iter().filter(|s| s.name == count).count(), 1);
}

#[tokio::test]
async fn stats_show_the_process_and_the_requests_by_route() {
    let monitor = Monitor::builder().service("quiz").build().unwrap();
    let url = serve(app(&monitor)).await;
    for path in ["hello", "hello", "hello", "fail", "nothing"] {
        reqwest::get(format!("{url}/{path}"))
            .await
            .unwrap()
            .text()
            .await
            .unwrap();
    }
    let (status, stats) = json(format!("{url}/monitoring/stats")).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(stats["service"], "quiz");
    assert!(stats["process"]["resident_memory_bytes"].as_u64().unwrap() > 0);
    let requests = &stats["requests"];
    assert_eq!(
        (&requests["count"], &requests["errors"]),
        (&5.into(), &1.into())
    );
    assert_eq!(
        (&requests["in_flight"], &requests["aborted"]),
        (&0.into(), &0.into())
    );
    for q in ["p50_seconds", "p95_seconds", "p99_seconds"] {
        let seconds = requests[q].as_f64().unwrap();
        assert!(seconds > 0.0 && seconds < 10.0, "{q} is {seconds}");
    }
    let routes = requests["routes"].as_array().unwrap();
    let names: Vec<_> = routes
        .iter()
        .map(|r| r["route"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["/fail", "/hello", "_UNMATCHED"]);
    assert_eq!(routes[1]["count"], 3);
    assert_eq!(routes[0]["errors"], 1);
    for absent in ["message_queue", "database_pool", "cache", "batch"] {
        assert!(stats[absent].is_null(), "{absent}");
    }
}

#[tokio::test]
async fn two_servers_in_a_process_do_not_see_each_other() {
    let one = Monitor::builder().service("one").build().unwrap();
    let two = Monitor::builder().service("two").build().unwrap();
    let (url_one, url_two) = (serve(app(&one)).await, serve(app(&two)).await);
    for url in [&url_one, &url_two, &url_two] {
        reqwest::get(format!("{url}/hello"))
            .await
            .unwrap()
            .text()
            .await
            .unwrap();
    }
    assert_eq!(
        json(format!("{url_one}/monitoring/stats")).await.1["requests"]["count"],
        1
    );
    assert_eq!(
        json(format!("{url_two}/monitoring/stats")).await.1["requests"]["count"],
        2
    );
}

#[tokio::test]
async fn the_endpoints_can_be_nested_where_their_paths_are_taken() {
    let monitor = Monitor::builder().build().unwrap();
    let app = Router::new()
        .route("/health", get(|| async { "mine" }))
        .layer(monitor.layer())
        .nest("/internal", monitor.router());
    let url = serve(app).await;
    let text = async |path: &str| {
        let response = reqwest::get(format!("{url}{path}")).await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    };
    assert_eq!(text("/health").await, (200, "mine".to_owned()));
    let (_, metrics) = text("/internal/metrics").await;
    Exposition::parse(&metrics);
    assert_eq!(text("/internal/health/ready").await.0, 200);
    assert_eq!(text("/internal/monitoring/stats").await.0, 200);
    assert_eq!(monitor.snapshot().requests.count, 1);
    for unmatched in ["/nothing", "/internal/nothing"] {
        assert_eq!(text(unmatched).await.0, 404);
    }
    let requests = monitor.snapshot().requests;
    assert_eq!(requests.count, 3, "{requests:?}");
}

#[test]
fn a_builder_refuses_what_cannot_work() {
    let build = |builder: perf_metrics::MonitorBuilder| builder.build().unwrap_err();
    assert_eq!(
        build(Monitor::builder().service("")),
        BuildError::EmptyService
    );
    let check = || async { Ok::<(), String>(()) };
    let twice = Monitor::builder()
        .check("db", Readiness, check)
        .check("db", Liveness, check);
    assert_eq!(build(twice), BuildError::DuplicateCheck("db".to_owned()));
    let zero = Monitor::builder().check_timeout(Duration::ZERO);
    assert_eq!(build(zero), BuildError::CheckTimeout(Duration::ZERO));
    let zero = Monitor::builder().check("db", Readiness.timeout(Duration::ZERO), check);
    assert_eq!(build(zero), BuildError::CheckTimeout(Duration::ZERO));
    for token in ["", "with space", "schlüssel", "line\nbreak"] {
        let token = Monitor::builder().admin_token(token);
        assert_eq!(build(token), BuildError::AdminToken);
    }
}
