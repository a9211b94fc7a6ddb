//! Scrapes by a real Prometheus, and promtool on what it would scrape.

use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use metrics::{counter, gauge, histogram};
use perf_metrics::Monitor;
use serde_json::Value;
use testkit::{Prometheus, PrometheusOptions, Promtool};

use crate::endpoints::serve;

/// Everything that could make a scraper refuse the whole.
fn odd() -> Monitor {
    let monitor = Monitor::builder()
        .compatibility_names(true)
        .build()
        .unwrap();
    metrics::with_local_recorder(&monitor.recorder(), || {
        counter!("anything").increment(1);
        gauge!("jobs").set(7);
        counter!("jobs_total").increment(3);
        histogram!("size").record(1.0);
        gauge!("size_count").set(5);
        gauge!("gap").set(f64::NAN);
        gauge!("top").set(f64::INFINITY);
        counter!("1st.metric", "a.label" => "q\"uote, back\\slash\nline", "a_label" => "twice")
            .increment(2);
        counter!("order_total", "a" => "1", "b" => "2").increment(1);
        counter!("order_total", "b" => "2", "a" => "1").increment(1);
        counter!("cache_requests_total", "cache" => "users", "tier" => "local", "result" => "hit")
            .increment(1);
        for seconds in [0.001, 0.2, 1.0, 50.0] {
            histogram!("wait_seconds", "le" => "mine").record(seconds);
        }
        histogram!("http_server_request_duration_seconds").record(0.1);
    });
    monitor
}

async fn json(url: String) -> Value {
    reqwest::get(url).await.unwrap().json().await.unwrap()
}

/// The value of the one series that an expression has now.
async fn value(prometheus: &Prometheus, expression: &str) -> Option<String> {
    let answer = json(prometheus.query_url(expression)).await;
    let result = answer["data"]["result"].as_array().unwrap();
    assert!(result.len() <= 1, "{answer}");
    let value = &result.first()?["value"][1];
    Some(value.as_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_scrapes_openmetrics() {
    let url = serve(odd().router()).await;
    let options = PrometheusOptions::default().scrape("odd", &format!("{url}/metrics"));
    let Some(prometheus) = Prometheus::start(options).await else {
        return;
    };
    let deadline = Instant::now() + Duration::from_secs(60);
    for (expression, expected) in [
        ("anything", "1"),
        ("jobs", "7"),
        ("jobs_total", "3"),
        ("order_total", "2"),
        ("_st_metric", "2"),
        ("top", "+Inf"),
        ("gap", "NaN"),
        ("size_count", "1"),
        (r#"wait_seconds_bucket{le="1.0"}"#, "3"),
        ("wait_seconds_count", "4"),
        ("cache_hit_ratio", "1"),
        ("app_response_time_seconds_count", "1"),
        ("count(process_cpu_seconds_total)", "1"),
        // None of another's.
        ("count(count by (__name__) ({__name__=~\"size.*\"}))", "3"),
    ] {
        // A scrape that is late on a busy machine hides all series until the next.
        while value(&prometheus, expression).await.as_deref() != Some(expected) {
            let found = value(&prometheus, expression).await;
            let targets = json(format!("{}/api/v1/targets", prometheus.url())).await;
            assert!(
                Instant::now() < deadline,
                "{expression}: {found:?} {targets}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    // Units are in OpenMetrics alone.
    let metadata = "api/v1/targets/metadata?metric=wait_seconds";
    let metadata = json(format!("{}/{metadata}", prometheus.url())).await;
    assert_eq!(metadata["data"][0]["unit"], "seconds", "{metadata}");
}

#[tokio::test]
async fn promtool_has_no_complaint_about_the_monitors_own_metrics() {
    let Some(promtool) = Promtool::find() else {
        return;
    };
    let monitor = Monitor::builder()
        .compatibility_names(true)
        .build()
        .unwrap();
    let app = Router::new().route("/hello", get(|| async { "hello" }));
    let url = serve(app.layer(monitor.layer())).await;
    for path in ["hello", "nothing"] {
        let response = reqwest::get(format!("{url}/{path}")).await.unwrap();
        response.text().await.unwrap();
    }
    promtool.check_metrics(&monitor.render()).unwrap();

    // About names and help that others chose, but not about the form.
    let complaints = promtool.check_metrics(&odd().render()).unwrap_err();
    for complaint in complaints.lines() {
        let lint = ["no help text", "metrics should have \"_total\" suffix"];
        assert!(lint.iter().any(|l| complaint.ends_with(l)), "{complaint}");
    }
}
