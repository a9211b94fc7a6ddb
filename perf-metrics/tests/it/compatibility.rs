//! The names of older services.

use metrics::{counter, gauge, histogram};
use perf_metrics::Monitor;

use crate::exposition::Exposition;
use crate::openmetrics;

const NAMES: [&str; 4] = [
    "app_response_time_seconds",
    "app_memory_usage_bytes",
    "db_query_duration_seconds",
    "cache_hit_ratio",
];

fn monitor(show: bool) -> Monitor {
    let monitor = Monitor::builder()
        .compatibility_names(show)
        .build()
        .unwrap();
    metrics::with_local_recorder(&monitor.recorder(), || {
        for seconds in [0.02, 0.2, 2.0] {
            histogram!("http_server_request_duration_seconds", "http_route" => "/").record(seconds);
            histogram!("db_client_connections_use_time_seconds", "pool" => "main").record(seconds);
        }
        let reads = |cache, tier, result, n| {
            counter!("cache_requests_total", "cache" => cache, "tier" => tier, "result" => result)
                .increment(n);
        };
        reads("users", "local", "hit", 6);
        reads("users", "local", "miss", 4);
        reads("users", "remote", "hit", 3);
        reads("users", "remote", "miss", 1);
        reads("quizzes", "local", "stale", 1);
        reads("quizzes", "local", "miss", 3);
        reads("unread", "local", "hit", 0);
    });
    monitor
}

#[test]
fn they_are_there_when_they_are_asked_for() {
    let text = monitor(false).render();
    for name in NAMES {
        assert!(!text.contains(name), "{name}");
    }
    let text = monitor(true).render();
    for name in NAMES {
        assert!(text.contains(&format!("# HELP {name} ")), "{name}");
    }
}

#[test]
fn histograms_have_the_buckets_and_labels_of_what_they_are_made_from() {
    let text = Exposition::parse(&monitor(true).render());
    for (old, new) in [
        (
            "app_response_time_seconds",
            "http_server_request_duration_seconds",
        ),
        (
            "db_query_duration_seconds",
            "db_client_connections_use_time_seconds",
        ),
    ] {
        for suffix in ["_bucket", "_sum", "_count"] {
            let of = |name: &str| -> Vec<_> {
                let samples = text.samples(&format!("{name}{suffix}"));
                samples.map(|s| (s.labels.clone(), s.value)).collect()
            };
            let old = of(old);
            assert_eq!(old, of(new), "{suffix}");
            assert!(!old.is_empty());
        }
    }
}

#[test]
fn the_hit_ratio_is_of_each_cache_that_was_read() {
    let monitor = monitor(true);
    let text = Exposition::parse(&monitor.render());
    let ratios: Vec<_> = text
        .samples("cache_hit_ratio")
        .map(|s| (s.labels["cache"].as_str(), s.value))
        .collect();
    assert_eq!(ratios, [("quizzes", 0.25), ("users", 0.9)]);
    let memory = text.sum("app_memory_usage_bytes");
    assert!(memory > 0.0 || cfg!(not(target_os = "linux")));
    openmetrics::parse(&monitor.render_openmetrics());
}

#[test]
fn what_the_application_records_goes_before() {
    let monitor = monitor(true);
    metrics::with_local_recorder(&monitor.recorder(), || {
        gauge!("cache_hit_ratio").set(0.5);
        histogram!("app_response_time_seconds", "own" => "yes").record(1.0);
    });
    let text = Exposition::parse(&monitor.render());
    assert_eq!(text.samples("cache_hit_ratio").count(), 1);
    assert_eq!(text.sum("cache_hit_ratio"), 0.5);
    assert_eq!(text.sum("app_response_time_seconds_count"), 1.0);
}
