use std::collections::HashMap;
use std::convert::Infallible;
use std::time::{Duration, Instant};

use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use perf_cache::{BuildError, Cache, Invalidation, RedisTier, Value};
use tokio::sync::oneshot;

use super::{HANGS, Origin, bus, cache, cache_with, tier, until_there};

#[tokio::test]
async fn what_one_cache_loaded_the_other_one_reads() {
    let Some(tier) = tier().await else { return };
    let (a, b, origin) = (cache(&tier).await, cache(&tier).await, Origin::default());
    assert_eq!(origin.get(&a, 1).await, "0");
    until_there(&b, 1).await;
    assert_eq!(origin.get(&b, 1).await, "0");
    assert_eq!(origin.loads(), 1);
    let stats = b.stats();
    assert!(stats.loads == 0 && stats.remote_hits > 0, "{stats:?}");
}

#[tokio::test]
async fn invalidations_of_all_kinds_reach_the_other_cache() {
    let Some(tier) = tier().await else { return };
    let (a, b, origin) = (cache(&tier).await, cache(&tier).await, Origin::default());
    for round in 0..5 {
        let value = Value::new(origin.write()).tag("red");
        assert_eq!(a.insert(1, value).await.unwrap(), Invalidation::Applied);
        let written = origin.version.load(std::sync::atomic::Ordering::SeqCst);
        origin.until(&b, 1, &written.to_string()).await;
        let written = origin.write();
        let done = match round {
            0 => a.invalidate(&1).await,
            1 => a.invalidate_tag("red").await,
            2 => a.invalidate_all().await,
            3 => a.expire(&1).await,
            _ => a.insert(1, written.clone()).await,
        };
        assert_eq!(done.unwrap(), Invalidation::Applied, "{round}");
        // What is in Redis is new at once, and in this process.
        assert_eq!(origin.get(&a, 1).await, written);
        origin.until(&b, 1, &written).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_other_cache_sees_an_invalidation_within_milliseconds() {
    let Some(tier) = tier().await else { return };
    // It is not the heartbeat that tells.
    let rarely = || {
        let bus = bus().heartbeat(Duration::from_secs(5));
        cache_with(&tier, |builder| {
            builder.invalidation(bus.timeout(Duration::from_secs(10)))
        })
    };
    let (a, b, origin) = (rarely().await, rarely().await, Origin::default());
    let mut delays = Vec::new();
    for _ in 0..100 {
        let written = origin.write();
        a.invalidate(&1).await.unwrap();
        let returned = Instant::now();
        origin.until(&b, 1, &written).await;
        delays.push(returned.elapsed());
    }
    delays.sort_unstable();
    println!("seen after {:?}, at most {:?}", delays[50], delays[99]);
    // Half of them; the machine may be late now and then.
    let median = delays[50];
    assert!(median < Duration::from_millis(500), "{median:?}");
}

#[tokio::test]
async fn a_load_that_an_invalidation_overtook_in_another_process_does_not_fill() {
    let Some(tier) = tier().await else { return };
    let (a, b, origin) = (cache(&tier).await, cache(&tier).await, Origin::default());
    let (began, has_begun) = oneshot::channel();
    let (end, ended) = oneshot::channel::<()>();
    let loading = {
        let a = a.clone();
        tokio::spawn(async move {
            let load = move |_| async move {
                let _ = began.send(());
                let _ = ended.await;
                Ok::<_, Infallible>("old".to_owned())
            };
            a.get_or_load(&1, load).await.unwrap().to_string()
        })
    };
    has_begun.await.unwrap();
    let written = origin.write();
    assert_eq!(b.invalidate(&1).await.unwrap(), Invalidation::Applied);
    end.send(()).unwrap();
    assert_eq!(loading.await.unwrap(), "old", "it asked before");
    a.shutdown().await;
    assert_eq!(b.get(&1).await, None);
    assert_eq!(origin.get(&b, 1).await, written);
}

#[tokio::test]
async fn many_keys_are_read_from_redis_and_only_the_rest_is_loaded() {
    let Some(tier) = tier().await else { return };
    let (a, b) = (cache(&tier).await, cache(&tier).await);
    let load = |missing: Vec<u64>| async move {
        let found = missing.into_iter().map(|key| (key, key.to_string()));
        Ok::<_, Infallible>(found.collect::<HashMap<_, _>>())
    };
    let keys: Vec<u64> = (0..1_000).collect();
    assert_eq!(a.get_many(&keys[..600], load).await.unwrap().len(), 600);
    until_there(&cache(&tier).await, 599).await;
    let found = b.get_many(&keys, load).await.unwrap();
    assert!(found.len() == 1_000 && found.iter().all(|(k, v)| k.to_string() == **v));
    let stats = b.stats();
    assert_eq!((stats.remote_hits, stats.loads), (600, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_callers_of_a_key_that_is_nowhere_are_one_load() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    let Some(tier) = tier().await else { return };
    let cache = cache(&tier).await;
    let loads = std::sync::Arc::new(AtomicUsize::new(0));
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..1_000 {
        let (cache, loads) = (cache.clone(), std::sync::Arc::clone(&loads));
        let load = move |_| async move {
            loads.fetch_add(1, Ordering::Relaxed);
            Ok::<_, Infallible>("loaded".to_owned())
        };
        callers.spawn(async move { cache.get_or_load(&7, load).await.unwrap() });
    }
    assert!(callers.join_all().await.iter().all(|v| **v == "loaded"));
    assert_eq!(loads.load(Ordering::Relaxed), 1);
    assert_eq!(cache.stats().remote_misses, 1);
}

#[tokio::test]
async fn values_of_another_schema_version_are_loaded_again() {
    let Some(tier) = tier().await else { return };
    let old = cache(&tier).await;
    old.insert(1, "old".to_owned()).await.unwrap();
    let new = cache_with(&tier, |builder| builder.schema_version(1)).await;
    assert_eq!(new.get(&1).await, None);
    assert_eq!(Origin::default().get(&new, 1).await, "0");
}

#[tokio::test]
async fn a_bus_without_a_tier_is_an_error() {
    let builder = Cache::<u64, u64>::builder("no tier").invalidation(bus());
    assert_eq!(builder.build().await.unwrap_err(), BuildError::NoSharedTier);
}

#[tokio::test]
async fn times_in_which_nothing_can_happen_are_errors_that_name_them() {
    let Some(tier) = tier().await else { return };
    let zero = Duration::ZERO;
    let settings = [
        ("RedisTier::timeout", tier.clone().timeout(zero), bus()),
        ("RedisBus::heartbeat", tier.clone(), bus().heartbeat(zero)),
        ("RedisBus::timeout", tier, bus().timeout(zero)),
    ];
    for (setting, tier, bus) in settings {
        let builder = Cache::<u64, u64>::builder("no time").redis(tier);
        let refused = builder.invalidation(bus).build().await.unwrap_err();
        assert_eq!(refused, BuildError::NoTime { setting });
    }
}

/// Then messages alone count.
#[tokio::test]
async fn a_bus_may_check_as_rarely_as_never() {
    let Some(tier) = tier().await else { return };
    let never = bus().heartbeat(Duration::MAX).timeout(Duration::MAX);
    let build = cache_with(&tier, |builder| builder.invalidation(never));
    let b = tokio::time::timeout(HANGS, build).await.unwrap();
    let (a, origin) = (cache(&tier).await, Origin::default());
    origin.get(&b, 1).await;
    let written = origin.write();
    assert_eq!(a.invalidate(&1).await.unwrap(), Invalidation::Applied);
    origin.until(&b, 1, &written).await;
}

#[tokio::test]
async fn the_metrics_tell_the_tiers_apart() {
    let Some(server) = testkit::Redis::start().await else {
        return;
    };
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _local = metrics::set_default_local_recorder(&recorder);
    let tier = RedisTier::connect(server.url()).await.unwrap();
    // Without a bus, whose first subscription drops what was there before.
    let alone = async || {
        let builder = Cache::<u64, String>::builder("alone").redis(tier.clone());
        builder.build().await.unwrap()
    };
    let (a, origin) = (alone().await, Origin::default());
    assert_eq!(a.get(&1).await, None);
    a.insert(1, "1".to_owned()).await.unwrap();
    origin.get(&a, 1).await;
    let b = alone().await;
    origin.get(&b, 1).await;
    server.stop().await;
    origin.get(&b, 2).await;
    assert_eq!(b.invalidate(&2).await.unwrap(), Invalidation::Deferred);
    let metrics = snapshotter.snapshot().into_vec();
    let count = |name: &str, labels: &[(&str, &str)]| {
        let of = metrics.iter().filter(|(key, ..)| {
            let mut has = key.key().labels().map(|l| (l.key(), l.value()));
            key.key().name() == name && labels.iter().all(|l| has.any(|h| h == *l))
        });
        let count = of.map(|(.., value)| match value {
            DebugValue::Counter(n) => *n,
            _ => 0,
        });
        count.sum::<u64>()
    };
    let requests = |tier, result| {
        count(
            "cache_requests_total",
            &[("tier", tier), ("result", result)],
        )
    };
    assert_eq!(requests("local", "hit"), 1);
    assert_eq!(requests("local", "miss"), 3);
    assert_eq!(requests("remote", "hit"), 1);
    assert_eq!(requests("remote", "miss"), 1);
    assert_eq!(requests("remote", "error"), 1);
    assert_eq!(requests("load", "hit"), 2);
    assert_eq!(
        count("cache_invalidations_total", &[("outcome", "applied")]),
        1
    );
    assert_eq!(
        count("cache_invalidations_total", &[("outcome", "deferred")]),
        1
    );
    assert!(count("cache_remote_errors_total", &[]) > 0);
}

/// What would be loaded before the bus is heard would not be kept, so `build` waits for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_that_is_built_keeps_what_it_loads_at_once() {
    let Some(tier) = tier().await else { return };
    for key in 0..20 {
        let (cache, origin) = (cache(&tier).await, Origin::default());
        let mut callers = tokio::task::JoinSet::new();
        for _ in 0..50 {
            let (cache, origin) = (cache.clone(), origin.clone());
            callers.spawn(async move { origin.get(&cache, key).await });
        }
        callers.join_all().await;
        origin.get(&cache, key).await;
        assert_eq!(origin.loads(), 1);
    }
}
