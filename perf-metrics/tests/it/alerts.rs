//! The rules and their tests, by the tools of Prometheus.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use perf_metrics::{AlertOptions, Budget, BuildError, Monitor, MonitorBuilder, Thresholds};
use testkit::Promtool;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A monitor with budgets of all kinds: of a method, of a route, of both for one route, of nothing.
pub(crate) fn demanding() -> MonitorBuilder {
    Monitor::builder()
        .service("orders")
        .budget(
            Budget::route("GET /orders/{id}")
                .p95(ms(200))
                .p99(ms(500))
                .errors(0.01),
        )
        .budget(Budget::route("POST /orders").p50(ms(100)).p99(ms(2_000)))
        .budget(
            Budget::route("GET /reports/{id}")
                .p99(ms(2_000))
                .errors(0.2),
        )
        .budget(Budget::route("/reports/{id}").p95(ms(5_000)).errors(0.05))
        .budget(Budget::route("/events"))
        .budget(Budget::route("GET /live"))
        .default_budget(Budget::any().p50(ms(50)).p95(ms(500)).errors(0.02))
}

fn builders() -> [(&'static str, MonitorBuilder); 4] {
    let options = AlertOptions::default();
    let nothing = Monitor::builder().default_budget(Budget::any());
    // What is special in YAML, in PromQL, in regular expressions and in templates.
    let odd = "a\"b\\c:\n\t'{{ $x }}' #é\u{2028}\u{1f600}|.*";
    let strange = Monitor::builder()
        .service(odd)
        .budget(Budget::route(format!("GET {odd}")).p95(ms(1)).errors(0.5))
        .budget(
            Budget::route(format!("{odd}+").replace(' ', "_"))
                .p95(ms(90_000))
                .errors(0.5),
        );
    let thresholds = Thresholds::default()
        .error_ratio(0.9)
        .queue_depth(0, 1_000_000)
        .queue_age(ms(1), Duration::from_secs(100_000))
        .memory_usage(0.001, 0.999)
        .cache_hit_ratio(0.99, 0.01);
    let fast = options
        .job("other")
        .scrape_interval(ms(250))
        .time_scale(1.0 / 3000.0);
    [
        ("plain", Monitor::builder().service("plain")),
        ("demanding", demanding()),
        ("nothing", nothing),
        ("strange", strange.thresholds(thresholds).alerts(fast)),
    ]
}

fn alerts(rules: &str) -> BTreeSet<&str> {
    let lines = rules.lines().map(str::trim);
    lines
        .filter_map(|line| line.strip_prefix("- alert: "))
        .collect()
}

#[test]
fn the_rules_are_rules_and_pass_their_own_tests() {
    let Some(promtool) = Promtool::find() else {
        return;
    };
    for (name, builder) in builders() {
        let monitor = builder.build().unwrap();
        let (rules, tests) = (monitor.alert_rules(), monitor.alert_tests());
        let checked = promtool.check_rules(&rules);
        assert!(checked.is_ok(), "{name}: {checked:?}\n{rules}");
        let tested = promtool.test_rules(("rules.yml", &rules), &tests);
        assert!(
            tested.is_ok(),
            "{name}: {}\n{rules}\n{tests}",
            tested.unwrap_err()
        );
    }
}

#[test]
fn each_alert_has_a_test_in_which_it_fires_and_one_in_which_it_does_not() {
    let monitor = demanding().build().unwrap();
    let (rules, tests) = (monitor.alert_rules(), monitor.alert_tests());
    let alerts = alerts(&rules);
    assert_eq!(alerts.len(), 24, "{alerts:?}");
    for alert in alerts {
        assert!(
            tests.contains(&format!("name: \"{alert} fires\"")),
            "{alert}"
        );
        assert!(
            tests.contains(&format!("name: \"{alert} is silent: ")),
            "{alert}"
        );
    }
}

#[test]
fn the_tests_fail_for_rules_that_are_not_theirs() {
    let Some(promtool) = Promtool::find() else {
        return;
    };
    let monitor = Monitor::builder().service("orders").build().unwrap();
    let (rules, tests) = (monitor.alert_rules(), monitor.alert_tests());
    // Each as (from, to), with the alert whose tests have to fail.
    let fail = |changes: &[(&str, &str, &str)]| {
        let mut broken = rules.clone();
        for (from, to, _) in changes {
            assert!(broken.contains(from), "{from} is not in {broken}");
            broken = broken.replace(from, to);
        }
        let outcome = promtool.test_rules(("rules.yml", &broken), &tests);
        let printed = outcome.unwrap_err();
        for (from, _, alert) in changes {
            let failed = format!("alertname: {alert},");
            assert!(printed.contains(&failed), "{from} of {alert}\n{printed}");
        }
    };
    let names: Vec<_> = alerts(&rules).into_iter().collect();
    let lines = names
        .iter()
        .map(|it| (format!("alert: {it}\n"), format!("alert: Not{it}\n")));
    let lines: Vec<_> = lines.collect();
    let renamed = lines.iter().zip(&names);
    let renamed: Vec<_> = renamed
        .map(|((from, to), it)| (&**from, &**to, *it))
        .collect();
    fail(&renamed);
    // The guards against little traffic, other thresholds, holding times, labels and texts.
    fail(&[
        ("* 300 >= 100", "* 300 >= 0", "CacheHitRatioLow"),
        ("* 3600 >= 7", "* 3600 >= 0", "HttpErrorBudgetBurnsFast"),
        ("> 0.06\n", "> 0.004\n", "HttpErrorBudgetBurns"),
        ("for: 30m", "for: 40m", "HttpErrorBudgetBurnsSlowly"),
        ("}) > 0.85", "}) > 0.8", "ProcessMemoryCritical"),
        (
            "of all requests to",
            "of the requests to",
            "HttpErrorRatioHigh",
        ),
        (
            "severity: \"warning\"",
            "severity: \"critical\"",
            "PoolCallersWait",
        ),
        // What each of these alerts once overlooked, or took for more than it was.
        (
            "and ignoring (le)",
            "or ignoring (le)",
            "HttpLatencyBudgetBroken",
        ),
        (" * 300 >= 5", " * 300 >= 100", "HttpLatencyCritical"),
        (
            ",reason!=\"dropped\"}[5m])\n          ) > 0",
            "}[5m])\n          ) > 0",
            "HttpRequestsStuck",
        ),
    ]);
    // Likewise; apart, as each alert may be broken once in a file.
    fail(&[
        (
            "http_server_request_duration_seconds_count{job=\"orders\",http_response",
            "http_server_response_duration_seconds_count{job=\"orders\",http_response",
            "HttpErrorRatioHigh",
        ),
        ("tier=\"remote\"}", "tier=\"local\"}", "CacheHitRatioLow"),
        (" * 300 >= 2\n", " * 300 >= 0\n", "HttpLatencyBudgetBroken"),
        (", instance) (", ") (", "HttpRequestsStuck"),
    ]);
}

#[test]
fn a_time_scale_makes_windows_and_waits_short_but_not_shorter_than_four_scrapes() {
    let options = AlertOptions::default()
        .scrape_interval(ms(250))
        .time_scale(0.001);
    let monitor = Monitor::builder().alerts(options).build().unwrap();
    let rules = monitor.alert_rules();
    // 5m, 30m and 1h are less than that; 6h and 3d are not.
    for window in ["[1s]", "[1800ms]", "[3600ms]", "[21600ms]", "[259200ms]"] {
        assert!(rules.contains(window), "{window}\n{rules}");
    }
    assert!(rules.contains("for: 1800ms"), "{rules}");
    assert!(
        !rules.contains("[5m]") && !rules.contains("[300ms]"),
        "{rules}"
    );
}

fn texts(dir: &Path, all: &mut String) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            texts(&path, all);
        } else if path.extension().is_some_and(|it| it == "rs") {
            all.push_str(&fs::read_to_string(path).unwrap());
        }
    }
}

/// There was an alert once on a metric that no crate recorded.
#[test]
fn the_other_crates_record_what_the_rules_are_about() {
    let monitor = demanding().build().unwrap();
    let text = monitor.alert_rules() + &monitor.grafana_json();
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':');
    let words: BTreeSet<&str> = words.collect();
    for (name, prefix) in [
        ("perf-pool", "db_client_"),
        ("perf-queue", "queue_"),
        ("perf-cache", "cache_"),
        ("perf-batch", "batch_"),
    ] {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
        if !dir.exists() {
            println!("skipped: no {name} beside this crate");
            continue;
        }
        let mut sources = String::new();
        texts(&dir.join("src"), &mut sources);
        let metrics: Vec<_> = words.iter().filter(|it| it.starts_with(prefix)).collect();
        assert!(metrics.len() > 3, "{name}: {metrics:?}");
        for metric in metrics {
            let parts = ["_bucket", "_count", "_sum"];
            let base = parts.iter().find_map(|it| metric.strip_suffix(it));
            let found = |metric: &str| sources.contains(&format!("\"{metric}\""));
            assert!(found(metric) || base.is_some_and(found), "{name}: {metric}");
        }
    }
}

#[test]
fn the_rules_of_a_service_are_for_its_job_alone() {
    let rules = |options| {
        let builder = Monitor::builder().service("orders").alerts(options);
        builder.build().unwrap().alert_rules()
    };
    let named = rules(AlertOptions::default());
    assert!(named.contains("absent(up{job=\"orders\"})"), "{named}");
    let other = rules(AlertOptions::default().job("prod/orders"));
    assert_eq!(other.replace("prod/orders", "orders"), named);
}

#[test]
fn options_that_cannot_be_are_refused() {
    for (name, wrong) in [
        ("job", AlertOptions::default().job("")),
        (
            "scrape_interval",
            AlertOptions::default().scrape_interval(Duration::ZERO),
        ),
        ("time_scale", AlertOptions::default().time_scale(0.0)),
        ("time_scale", AlertOptions::default().time_scale(f64::NAN)),
    ] {
        let error = Monitor::builder().alerts(wrong).build().unwrap_err();
        let BuildError::AlertOption { name: found, .. } = error else {
            panic!("{error}");
        };
        assert_eq!(found, name);
    }
}
