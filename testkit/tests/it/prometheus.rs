use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::{Prometheus, PrometheusOptions, Promtool};

const RULES: &str = r#"
groups:
  - name: test
    rules:
      - record: test:up
        expr: up{job="other's"} * 7
      - alert: Up
        expr: test:up == 7
        labels: {severity: none}
        annotations: {summary: "{{ $labels.job }} is up"}
"#;

const TESTS: &str = r#"
rule_files: [rules.yml]
tests:
  - interval: 1m
    input_series: [{series: 'up{job="other''s"}', values: "0 1"}]
    promql_expr_test:
      - {expr: "test:up", eval_time: 1m, exp_samples: [{labels: 'test:up{job="other''s"}', value: 7}]}
"#;

/// The values that an expression has now.
fn values(prometheus: &Prometheus, expression: &str) -> Vec<String> {
    let url = prometheus.query_url(expression);
    let (_, rest) = url.split_once("://").unwrap();
    let (address, path) = rest.split_once('/').unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET /{path} HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let body: Value = serde_json::from_str(body).unwrap();
    let series = body["data"]["result"].as_array().unwrap().iter();
    series
        .map(|it| it["value"][1].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn a_server_scrapes_what_it_is_told_and_evaluates_rules() {
    let Some(other) = Prometheus::start(PrometheusOptions::default()).await else {
        return;
    };
    let options = PrometheusOptions::default()
        .interval(Duration::from_millis(100))
        .scrape("other's", &format!("{}/metrics", other.url()))
        .rules(RULES);
    let prometheus = Prometheus::start(options).await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    let firing = r#"ALERTS{alertname="Up",alertstate="firing"}"#;
    while values(&prometheus, firing) != ["1"] {
        assert!(Instant::now() < deadline, "{:?}", values(&prometheus, "up"));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(values(&prometheus, "test:up"), ["7"]);
    assert!(values(&prometheus, "nothing").is_empty());

    let (dir, address) = (prometheus.dir().to_owned(), prometheus.url());
    drop(prometheus);
    assert!(!dir.exists());
    assert!(TcpStream::connect(address.trim_start_matches("http://")).is_err());
}

#[tokio::test]
#[should_panic(expected = "Prometheus did not start")]
async fn a_server_that_does_not_understand_its_rules_is_an_error() {
    let rules = RULES.replace("== 7", "== == 7");
    let started = Prometheus::start(PrometheusOptions::default().rules(&rules)).await;
    assert!(
        started.is_some(),
        "Prometheus did not start, as it is missing"
    );
}

#[test]
fn promtool_tells_good_from_bad() {
    let Some(promtool) = Promtool::find() else {
        return;
    };
    promtool.check_rules(RULES).unwrap();
    let (_, rules) = RULES.split_once("    rules:\n").unwrap();
    let twice = promtool
        .check_rules(&format!("{RULES}{rules}"))
        .unwrap_err();
    assert!(twice.contains("duplicate"), "{twice}");
    promtool
        .check_rules(&RULES.replace("* 7", "*"))
        .unwrap_err();

    promtool.test_rules(("rules.yml", RULES), TESTS).unwrap();
    let wrong = TESTS.replace("value: 7", "value: 8");
    promtool
        .test_rules(("rules.yml", RULES), &wrong)
        .unwrap_err();

    let metrics = "# HELP a_total As.\n# TYPE a_total counter\na_total 1\n";
    promtool.check_metrics(metrics).unwrap();
    promtool
        .check_metrics(&metrics.replace("a_total", "a"))
        .unwrap_err();
}
