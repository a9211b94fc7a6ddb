use std::fmt::Debug;
use std::io;
use std::sync::Arc;

use perf_cache::{BuildError, Builder, Cache, LoadError, Stats, Value};

/// Neither `Debug` nor `Clone`, as a value may well be.
struct Opaque;

#[test]
fn public_types_are_send_sync_and_debug() {
    fn check<T: Send + Sync + Debug>() {}
    check::<Cache<u64, Opaque>>();
    check::<Builder<u64, Opaque>>();
    check::<LoadError>();
    check::<BuildError>();
    check::<Stats>();
}

#[tokio::test]
async fn futures_can_be_spawned_and_handles_share_one_cache() {
    let cache = Cache::<u64, Opaque>::builder("users")
        .build()
        .await
        .unwrap();
    let other = cache.clone();
    let task = tokio::spawn(async move {
        let loader = |_| async { Ok::<_, io::Error>(Opaque) };
        other.get_or_load(&1, loader).await.is_ok()
    });
    assert!(task.await.unwrap());
    assert!(cache.get(&1).await.is_some());
    assert_eq!(format!("{cache:?}"), r#"Cache { name: "users", .. }"#);
}

#[tokio::test]
async fn a_value_that_is_shared_already_is_not_copied() {
    let cache = Cache::<u64, Opaque>::builder("c").build().await.unwrap();
    let (inserted, loaded) = (Arc::new(Opaque), Arc::new(Opaque));
    let value = Value::shared(Arc::clone(&inserted));
    cache.insert(1, value).await.unwrap();
    assert!(Arc::ptr_eq(&cache.get(&1).await.unwrap(), &inserted));
    let value = Value::shared(Arc::clone(&loaded)).tag("new");
    let loader = move |_, _| async move { Ok::<_, io::Error>(value) };
    let got = cache.get_or_load_with(&2, loader).await.unwrap();
    assert!(Arc::ptr_eq(&got, &loaded));
}

#[tokio::test]
async fn get_insert_and_invalidate_do_what_they_say() {
    let cache = Cache::<String, u32>::builder("c").build().await.unwrap();
    let key = String::from("a");
    assert_eq!(cache.get(&key).await, None);
    cache.insert(key.clone(), 1).await.unwrap();
    cache.insert(key.clone(), 2).await.unwrap();
    assert_eq!(cache.get(&key).await.as_deref(), Some(&2));
    cache.invalidate(&key).await.unwrap();
    assert_eq!(cache.get(&key).await, None);
    cache.insert(key.clone(), 3).await.unwrap();
    cache.insert("b".into(), 4).await.unwrap();
    cache.invalidate_all().await.unwrap();
    assert_eq!(cache.get(&key).await, None);
    assert_eq!(cache.get(&"b".into()).await, None);
    cache.insert(key.clone(), 5).await.unwrap();
    assert_eq!(cache.get(&key).await.as_deref(), Some(&5));
    let stats = cache.stats();
    assert_eq!((stats.hits, stats.misses), (2, 4));
}

#[tokio::test]
async fn impossible_settings_are_refused_with_their_value() {
    for jitter in [-0.1, 1.0, f64::NAN, f64::INFINITY] {
        let error = Cache::<u64, u64>::builder("c").jitter(jitter).build().await;
        let error = error.unwrap_err();
        assert!(matches!(error, BuildError::Jitter { .. }));
        assert!(error.to_string().contains(&jitter.to_string()), "{error}");
    }
    for (warn, alert) in [
        (0.7, 0.8),
        (1.1, 0.5),
        (0.5, -0.1),
        (f64::NAN, 0.5),
        (0.5, f64::NAN),
    ] {
        let thresholds = Cache::<u64, u64>::builder("c").hit_ratio_thresholds(warn, alert);
        let error = thresholds.build().await.unwrap_err();
        assert!(matches!(error, BuildError::HitRatio { .. }), "{error}");
    }
    for (warn, alert) in [(1.0, 0.0), (0.8, 0.8)] {
        let thresholds = Cache::<u64, u64>::builder("c").hit_ratio_thresholds(warn, alert);
        assert!(thresholds.build().await.is_ok());
    }
    let none = Cache::<u64, u64>::builder("c").load_timeout(std::time::Duration::ZERO);
    let error = none.build().await.unwrap_err();
    assert!(
        error.to_string().starts_with("load_timeout is zero"),
        "{error}"
    );
    let none = Cache::<u64, u64>::builder("c").max_concurrent_loads(0);
    assert_eq!(none.build().await.unwrap_err(), BuildError::NoLoads);
    let huge = Cache::<u64, u64>::builder("c").max_concurrent_loads(usize::MAX);
    assert!(huge.build().await.is_ok());
}

#[test]
fn building_outside_a_runtime_is_an_error_and_no_panic() {
    let mut build = std::pin::pin!(Cache::<u64, u64>::builder("c").build());
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    let built = build.as_mut().poll(&mut cx);
    assert!(matches!(
        built,
        std::task::Poll::Ready(Err(BuildError::NoRuntime))
    ));
}
