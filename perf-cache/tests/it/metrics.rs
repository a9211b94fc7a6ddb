use std::collections::BTreeMap;
use std::convert::Infallible;

use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use perf_cache::Cache;

/// The metrics by name and labels, as in `cache_entries{cache="users"}`; the histogram by its
/// count.
fn read(snapshotter: &Snapshotter) -> BTreeMap<String, f64> {
    let metrics = snapshotter.snapshot().into_vec();
    metrics
        .into_iter()
        .map(|(key, unit, description, value)| {
            let (_, key) = key.into_parts();
            assert!(
                unit.is_some() && description.is_some(),
                "{key} is described"
            );
            let labels: Vec<_> = key
                .labels()
                .map(|l| format!("{}={:?}", l.key(), l.value()))
                .collect();
            let value = match value {
                DebugValue::Counter(n) => n as f64,
                DebugValue::Gauge(v) => v.into_inner(),
                DebugValue::Histogram(values) => values.len() as f64,
            };
            (format!("{}{{{}}}", key.name(), labels.join(",")), value)
        })
        .collect()
}

#[tokio::test]
async fn the_metrics_of_the_crate_count_what_happened() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _local = metrics::set_default_local_recorder(&recorder);
    let cache = Cache::<u64, u64>::builder("users").max_capacity(2);
    let cache = cache.build().await.unwrap();

    let ok = |k| async move { Ok::<_, Infallible>(k) };
    for _ in 0..3 {
        cache.get_or_load(&1, ok).await.unwrap();
    }
    let superseded = {
        let cache = cache.clone();
        move |k| async move {
            cache.invalidate(&2).await.unwrap();
            Ok::<_, Infallible>(k)
        }
    };
    cache.get_or_load(&2, superseded).await.unwrap();
    let fails = |_| async { Err::<u64, _>("down") };
    cache.get_or_load(&3, fails).await.unwrap_err();
    let panics = |_| async {
        if true {
            panic!("bug");
        }
        Ok::<u64, Infallible>(0)
    };
    cache.get_or_load(&3, panics).await.unwrap_err();
    assert_eq!(cache.get(&3).await, None);
    cache.invalidate_all().await.unwrap();
    // Evictions are done by and by; asking for the statistics finishes them.
    cache.stats();
    for key in 10..13 {
        cache.insert(key, key).await.unwrap();
    }
    cache.stats();

    let expected = [
        ("cache_entries{cache=\"users\"}", 2.0),
        ("cache_evictions_total{cache=\"users\",cause=\"size\"}", 1.0),
        (
            "cache_invalidations_total{cache=\"users\",outcome=\"applied\"}",
            2.0,
        ),
        ("cache_load_duration_seconds{cache=\"users\"}", 4.0),
        ("cache_loads_total{cache=\"users\",outcome=\"error\"}", 1.0),
        ("cache_loads_total{cache=\"users\",outcome=\"ok\"}", 1.0),
        ("cache_loads_total{cache=\"users\",outcome=\"panic\"}", 1.0),
        (
            "cache_loads_total{cache=\"users\",outcome=\"superseded\"}",
            1.0,
        ),
        (
            "cache_requests_total{cache=\"users\",tier=\"load\",result=\"error\"}",
            2.0,
        ),
        (
            "cache_requests_total{cache=\"users\",tier=\"load\",result=\"hit\"}",
            2.0,
        ),
        (
            "cache_requests_total{cache=\"users\",tier=\"local\",result=\"hit\"}",
            2.0,
        ),
        (
            "cache_requests_total{cache=\"users\",tier=\"local\",result=\"miss\"}",
            5.0,
        ),
    ];
    let expected: BTreeMap<_, _> = expected.map(|(k, v)| (k.to_owned(), v)).into();
    let mut counted = read(&snapshotter);
    // Those that nothing has happened to are there too.
    counted.retain(|_, count| *count != 0.0);
    assert_eq!(counted, expected);

    // A snapshot starts this recorder's gauges anew, so this is the change since.
    drop(cache);
    assert_eq!(read(&snapshotter)[r#"cache_entries{cache="users"}"#], -2.0);
}
