//! What the snapshot makes of the metrics of the other crates.

use metrics::{counter, gauge, histogram};
use perf_metrics::Monitor;
use perf_metrics::snapshot::{PoolStatus, Snapshot};

fn snapshot(record: impl FnOnce()) -> Snapshot {
    let monitor = Monitor::builder().build().unwrap();
    metrics::with_local_recorder(&monitor.recorder(), record);
    monitor.snapshot()
}

#[test]
fn crates_that_recorded_nothing_are_absent() {
    let snapshot = snapshot(|| counter!("something_else_total").increment(1));
    assert!(snapshot.message_queue.is_none());
    assert!(snapshot.database_pool.is_none());
    assert!(snapshot.cache.is_none());
    assert!(snapshot.batch.is_none());
    let json = serde_json::to_value(&snapshot).unwrap();
    assert!(json["message_queue"].is_null() && json["cache"].is_null());
}

#[test]
fn queues_are_added_up() {
    let queue = snapshot(|| {
        for name in ["mail", "telegram"] {
            for (state, n) in [
                ("ready", 5),
                ("scheduled", 3),
                ("limited", 2),
                ("in_flight", 4),
            ] {
                gauge!("queue_depth", "queue" => name, "state" => state).set(n);
            }
            gauge!("queue_depth", "queue" => name, "state" => "dead").set(1);
            let age = if name == "mail" { 12.5 } else { 3.0 };
            gauge!("queue_oldest_job_age_seconds", "queue" => name).set(age);
            gauge!("queue_workers", "queue" => name, "state" => "busy").set(4);
            gauge!("queue_workers", "queue" => name, "state" => "idle").set(21);
            for (outcome, n) in [("completed", 100), ("retried", 7), ("discarded", 2)] {
                counter!("queue_jobs_processed_total", "queue" => name, "outcome" => outcome)
                    .increment(n);
            }
        }
    });
    let queue = queue.message_queue.unwrap();
    assert_eq!((queue.queue_size, queue.in_flight, queue.dead), (20, 8, 2));
    assert_eq!(queue.oldest_job_age_seconds, Some(12.5));
    assert_eq!(
        (queue.workers, queue.processed, queue.retried),
        (50, 200, 14)
    );
}

#[test]
fn pools_are_listed_and_the_worst_gives_the_status() {
    let pools = |pending: u32| {
        snapshot(|| {
            for (name, used, pending) in [("main", 3, 0), ("reports", 10, pending)] {
                gauge!("db_client_connections", "pool" => name, "state" => "used").set(used);
                gauge!("db_client_connections", "pool" => name, "state" => "idle").set(2);
                gauge!("db_client_connections_max", "pool" => name).set(10);
                gauge!("db_client_connections_overflow", "pool" => name).set(used / 2);
                gauge!("db_client_connections_pending_requests", "pool" => name).set(pending);
                counter!("db_client_connections_timeouts_total", "pool" => name).increment(7);
            }
        })
        .database_pool
        .unwrap()
    };
    let waiting = pools(4);
    assert_eq!(waiting.checked_out_connections, 13);
    assert_eq!(waiting.overflow_connections, 6);
    assert_eq!(waiting.status, PoolStatus::Exhausted);
    assert_eq!(waiting.pools[0].status, PoolStatus::Ok);
    assert_eq!(
        (waiting.pools[1].name.as_str(), waiting.pools[1].pending),
        ("reports", 4)
    );
    assert_eq!(waiting.pools[1].timeouts, 7);
    assert_eq!(pools(0).status, PoolStatus::Saturated);
}

#[test]
fn a_read_that_hits_in_either_tier_is_a_hit() {
    let request = |tier, result, n| {
        counter!("cache_requests_total", "cache" => "users", "tier" => tier, "result" => result)
            .increment(n);
    };
    let cache = snapshot(|| {
        request("local", "hit", 60);
        request("local", "stale", 10);
        request("local", "miss", 30);
        request("remote", "hit", 20);
        request("remote", "miss", 10);
        request("load", "hit", 10);
        counter!("cache_loads_total", "cache" => "users", "outcome" => "success").increment(10);
        gauge!("cache_entries", "cache" => "users").set(500);
    });
    let cache = cache.cache.unwrap();
    assert_eq!((cache.hits, cache.misses), (90, 10));
    assert_eq!((cache.loads, cache.entries), (10, 500));
    assert_eq!(cache.hit_ratio, Some(0.9));
}

/// A refresh reads memory, and then the shared tier, for one read; and a hit of the shared tier
/// serves all that wait for the same key.
#[test]
fn hits_of_the_shared_tier_are_no_reads() {
    let ratio = |requests: &[(&'static str, &'static str, u64)]| {
        let cache = snapshot(|| {
            for &(tier, result, n) in requests {
                counter!("cache_requests_total", "cache" => "users", "tier" => tier, "result" => result)
                    .increment(n);
            }
        });
        let cache = cache.cache.unwrap();
        (cache.hit_ratio, cache.hits, cache.misses)
    };
    let refreshed = [
        ("local", "hit", 50),
        ("local", "miss", 50),
        ("remote", "hit", 50),
        ("remote", "miss", 50),
    ];
    assert_eq!(ratio(&refreshed), (Some(0.75), 75, 25));
    let waited = [("local", "miss", 100), ("remote", "hit", 1)];
    assert_eq!(ratio(&waited), (Some(1.0), 100, 0));
    assert_eq!(ratio(&[("local", "miss", 100)]), (Some(0.0), 0, 100));
}

#[test]
fn a_cache_that_nobody_read_has_no_ratio() {
    let cache = snapshot(|| gauge!("cache_entries", "cache" => "users").set(0));
    assert_eq!(cache.cache.unwrap().hit_ratio, None);
}

#[test]
fn batches_are_added_up() {
    let batch = snapshot(|| {
        for (outcome, n) in [
            ("written", 990),
            ("ignored", 5),
            ("deduplicated", 3),
            ("failed", 2),
        ] {
            counter!("batch_items_total", "batch" => "answers", "outcome" => outcome).increment(n);
        }
        counter!("batch_commits_total", "batch" => "answers").increment(2);
        counter!("batch_fallbacks_total", "batch" => "answers").increment(1);
        histogram!("batch_size", "batch" => "answers").record(1000.0);
    });
    let batch = batch.batch.unwrap();
    assert_eq!((batch.written, batch.ignored, batch.failed), (990, 8, 2));
    assert_eq!((batch.commits, batch.fallbacks, batch.retries), (2, 1, 0));
}

#[test]
fn quantiles_are_of_the_time_to_the_headers() {
    let requests = snapshot(|| {
        for (name, seconds) in [("request", 0.1), ("response", 60.0)] {
            let name = format!("http_server_{name}_duration_seconds");
            histogram!(name, "http_request_method" => "GET", "http_route" => "/").record(seconds);
        }
    });
    for quantiles in [
        requests.requests.quantiles,
        requests.requests.routes[0].quantiles,
    ] {
        let p99 = quantiles.p99_seconds.unwrap();
        assert!((0.095..0.105).contains(&p99), "{p99}");
    }
}
