//! The last fifteen minutes, second by second.

use std::time::Duration;

use allocation_counter::measure;
use metrics::{counter, gauge, histogram};
use perf_metrics::Monitor;
use perf_metrics::history::{BOUNDS, CAPACITY, HistorySample};

/// Records requests that took so long, and that failed or not.
fn requests(monitor: &Monitor, seconds: &[f64], status: &'static str) {
    metrics::with_local_recorder(&monitor.recorder(), || {
        for name in ["request", "response"] {
            let name = format!("http_server_{name}_duration_seconds");
            let times =
                histogram!(name, "http_route" => "/", "http_response_status_code" => status);
            seconds.iter().for_each(|s| times.record(*s));
        }
    });
}

#[test]
fn a_sample_is_small() {
    assert!(
        CAPACITY * size_of::<HistorySample>() <= 300 * 1024,
        "{}",
        size_of::<HistorySample>()
    );
}

async fn second() {
    tokio::time::sleep(Duration::from_secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn each_second_has_what_happened_in_it() {
    let monitor = Monitor::builder().build().unwrap();
    requests(&monitor, &[5.0], "500");
    let sampler = tokio::spawn(monitor.sampler());
    // Between the ticks.
    tokio::time::sleep(Duration::from_millis(500)).await;
    requests(&monitor, &[0.02; 99], "200");
    requests(&monitor, &[20.0], "503");
    metrics::with_local_recorder(&monitor.recorder(), || {
        gauge!("http_server_active_requests", "http_route" => "/").set(7);
        counter!("http_server_requests_aborted_total", "reason" => "dropped").increment(3);
    });
    second().await;
    requests(&monitor, &[0.2; 10], "200");
    second().await;
    second().await;

    let history = monitor.history();
    assert_eq!(history.len(), 3);
    let counts = |s: &HistorySample| (s.requests, s.errors, s.aborted, s.in_flight);
    assert_eq!(counts(&history[0]), (103, 1, 3, 7));
    assert_eq!(counts(&history[1]), (10, 0, 0, 7));
    assert_eq!(counts(&history[2]), (0, 0, 0, 7));
    assert!(history.iter().all(|s| s.seconds == 1.0));
    // Of that second alone.
    let p = |s: &HistorySample| (s.quantiles.p50_seconds, s.quantiles.p99_seconds);
    let near = |value: Option<f64>, to: f64| (value.unwrap() - to).abs() < to * 0.05;
    assert!(near(p(&history[0]).0, 0.02) && near(p(&history[0]).1, 0.02));
    assert!(near(p(&history[1]).0, 0.2) && near(p(&history[1]).1, 0.2));
    assert_eq!(p(&history[2]), (None, None));
    let bucket = |seconds: f64| {
        BOUNDS
            .iter()
            .position(|bound| seconds <= *bound)
            .unwrap_or(14)
    };
    assert_eq!(history[0].times[bucket(0.02)], 99);
    assert_eq!(history[0].times[bucket(20.0)], 1);
    assert_eq!(history[0].times.iter().sum::<u32>(), 100);
    assert_eq!(history[1].times[bucket(0.2)], 10);
    sampler.abort();
}

#[tokio::test(start_paused = true)]
async fn the_other_crates_are_there_once_they_record() {
    let monitor = Monitor::builder().build().unwrap();
    let recorder = monitor.recorder();
    tokio::spawn(monitor.sampler());
    tokio::time::sleep(Duration::from_millis(500)).await;
    second().await;
    for round in 1..=2 {
        metrics::with_local_recorder(&recorder, || {
            gauge!("queue_depth", "state" => "ready").set(5 * round);
            counter!("queue_jobs_processed_total", "outcome" => "completed").increment(4);
            gauge!("db_client_connections", "pool" => "a", "state" => "used").set(3);
            counter!("db_client_connections_timeouts_total", "pool" => "a").increment(2);
            counter!("cache_requests_total", "tier" => "local", "result" => "hit").increment(9);
            counter!("cache_requests_total", "tier" => "local", "result" => "miss").increment(1);
            counter!("batch_items_total", "outcome" => "written").increment(100);
        });
        second().await;
    }
    let history = monitor.history();
    assert_eq!(history.len(), 3);
    assert!(history[0].message_queue.is_none() && history[0].cache.is_none());
    assert!(history[0].database_pool.is_none() && history[0].batch.is_none());
    for (sample, size) in history[1..].iter().zip([5, 10]) {
        let queue = sample.message_queue.unwrap();
        assert_eq!((queue.queue_size, queue.processed), (size, 4));
        let pool = sample.database_pool.unwrap();
        assert_eq!((pool.checked_out_connections, pool.timeouts), (3, 2));
        let cache = sample.cache.unwrap();
        assert_eq!((cache.hits, cache.misses), (9, 1));
        assert_eq!(sample.batch.unwrap().written, 100);
    }
}

#[tokio::test(start_paused = true)]
async fn it_is_fifteen_minutes_long_and_keeps_the_latest() {
    let monitor = Monitor::builder().build().unwrap();
    tokio::spawn(monitor.sampler());
    tokio::time::sleep(Duration::from_millis(500)).await;
    for n in 0..1000 {
        requests(&monitor, &vec![0.1; n], "200");
        second().await;
    }
    let history = monitor.history();
    let counts: Vec<_> = history.iter().map(|s| s.requests).collect();
    assert_eq!(counts, (100..1000).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn without_a_sampler_who_reads_samples_once_a_second() {
    let monitor = Monitor::builder().build().unwrap();
    requests(&monitor, &[0.1; 5], "200");
    assert!(monitor.history().is_empty());
    requests(&monitor, &[0.1; 3], "200");
    tokio::time::advance(Duration::from_millis(900)).await;
    assert!(monitor.history().is_empty());
    tokio::time::advance(Duration::from_millis(1100)).await;
    for _ in 0..3 {
        let history = monitor.history();
        assert_eq!((history.len(), history[0].requests), (1, 3));
        assert_eq!(history[0].seconds, 2.0);
    }
}

#[tokio::test(start_paused = true)]
async fn readers_do_not_disturb_the_sampler() {
    let monitor = Monitor::builder().build().unwrap();
    let sampler = tokio::spawn(monitor.sampler());
    tokio::time::sleep(Duration::from_millis(999)).await;
    for _ in 0..10 {
        monitor.history();
        second().await;
    }
    let history = monitor.history();
    assert_eq!(history.len(), 10);
    assert!(history.iter().all(|s| s.seconds == 1.0), "{history:?}");
    // Afterwards, readers sample again.
    sampler.abort();
    let _ = sampler.await;
    tokio::time::advance(Duration::from_secs(5)).await;
    assert_eq!(monitor.history().len(), 11);
}

#[tokio::test(start_paused = true)]
async fn the_sampler_ends_with_the_monitor() {
    let monitor = Monitor::builder().build().unwrap();
    let sampler = tokio::spawn(monitor.sampler());
    second().await;
    assert!(!sampler.is_finished());
    drop(monitor);
    let ended = tokio::time::timeout(Duration::from_secs(10), sampler).await;
    ended.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn memory_is_flat_from_the_first_sample_on() {
    let monitor = Monitor::builder().build().unwrap();
    requests(&monitor, &[0.1], "200");
    for _ in 0..2 {
        tokio::time::advance(Duration::from_secs(1)).await;
        monitor.history();
    }
    let mut left = 0;
    for _ in 0..2 * CAPACITY {
        tokio::time::advance(Duration::from_secs(1)).await;
        left += measure(|| drop(monitor.history())).bytes_current;
    }
    assert_eq!((left, monitor.history().len()), (0, CAPACITY));
}
