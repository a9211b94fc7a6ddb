use std::convert::Infallible;
use std::time::Duration;

use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use perf_cache::Cache;
use tracing::Level;

use crate::logs::Log;

/// What was said of hit ratios, and of which cache.
fn of_ratios(log: &Log) -> Vec<(Level, String, f64)> {
    let said = log.take().into_iter();
    let said = said.filter(|said| {
        let message = said.fields.get("message");
        message.is_some_and(|message| message == "low hit ratio")
    });
    let of = |said: crate::logs::Said| {
        let ratio = said.fields["hit_ratio"].parse().unwrap();
        (said.level, said.fields["cache"].clone(), ratio)
    };
    said.map(of).collect()
}

/// A minute in which `misses` of 1,000 requests find nothing.
async fn minute(cache: &Cache<u64, u64>, next: &mut u64, misses: u64) {
    tokio::time::advance(Duration::from_secs(61)).await;
    let load = |key| async move { Ok::<_, Infallible>(key) };
    for _ in 0..1_000 - misses {
        cache.get_or_load(&0, load).await.unwrap();
    }
    for _ in 0..misses {
        *next += 1;
        cache.get_or_load(next, load).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_low_hit_ratio_is_a_warning_a_lower_one_an_error_and_the_metrics_show_it() {
    let log = Log::start();
    let said = || of_ratios(&log);
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _local = metrics::set_default_local_recorder(&recorder);
    let builder = Cache::<u64, u64>::builder("users").hit_ratio_thresholds(0.8, 0.7);
    let cache = builder.build().await.unwrap();
    let mut next = 0;
    let load = |key| async move { Ok::<_, Infallible>(key) };
    cache.get_or_load(&0, load).await.unwrap();

    minute(&cache, &mut next, 100).await;
    assert_eq!(said(), [], "nine of ten are hits");
    minute(&cache, &mut next, 250).await;
    let about = |level, ratio: f64| {
        let said = said();
        assert_eq!(said.len(), 1, "{said:?}");
        assert_eq!((said[0].0, said[0].1.as_str()), (level, "users"));
        assert!((said[0].2 - ratio).abs() < 0.05, "{said:?}");
    };
    about(Level::WARN, 0.75);
    minute(&cache, &mut next, 600).await;
    about(Level::ERROR, 0.4);
    minute(&cache, &mut next, 10).await;
    assert_eq!(said(), [], "well again");

    let count = |result: &str| {
        let metrics = snapshotter.snapshot().into_vec();
        let of = metrics.into_iter().find(|(key, ..)| {
            let key = key.key();
            key.name() == "cache_requests_total"
                && key.labels().any(|label| label.value() == "local")
                && key.labels().any(|label| label.value() == result)
        });
        match of {
            Some((.., DebugValue::Counter(count))) => count,
            _ => 0,
        }
    };
    let stats = cache.stats();
    let hits = count("hit");
    assert_eq!((hits, stats.misses), (stats.hits, 961));
    assert_eq!(stats.hit_ratio(), 3_040.0 / 4_001.0);
}

#[tokio::test(start_paused = true)]
async fn without_thresholds_nothing_is_said() {
    let log = Log::start();
    let cache = Cache::<u64, u64>::builder("users").build().await.unwrap();
    let mut next = 0;
    for _ in 0..3 {
        minute(&cache, &mut next, 900).await;
    }
    assert_eq!(of_ratios(&log), []);
}
