use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use perf_cache::{Builder, Cache, LoadContext};

const TTL: Duration = Duration::from_secs(60);

/// A cache, and a way to ask it that returns how many loads there have been.
struct Counted {
    cache: Cache<u64, u64>,
    loads: Arc<AtomicU64>,
}

impl Counted {
    async fn new(setup: impl FnOnce(Builder<u64, u64>) -> Builder<u64, u64>) -> Self {
        let cache = setup(Cache::builder("test")).build().await.unwrap();
        let loads = Arc::default();
        Self { cache, loads }
    }

    async fn ask(&self, key: u64) -> u64 {
        let loads = Arc::clone(&self.loads);
        let load =
            move |_| async move { Ok::<_, Infallible>(loads.fetch_add(1, Ordering::Relaxed)) };
        self.cache.get_or_load(&key, load).await.unwrap();
        self.loads.load(Ordering::Relaxed)
    }
}

#[tokio::test(start_paused = true)]
async fn an_entry_is_loaded_again_when_its_time_is_over() {
    let counted = Counted::new(|b| b.time_to_live(TTL)).await;
    assert_eq!(counted.ask(1).await, 1);
    tokio::time::advance(TTL - Duration::from_millis(1)).await;
    assert_eq!(counted.ask(1).await, 1);
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!(counted.cache.get(&1).await, None);
    assert_eq!(counted.ask(1).await, 2);
    assert_eq!(counted.ask(1).await, 2);
}

#[tokio::test(start_paused = true)]
async fn with_jitter_entries_stored_together_are_not_all_loaded_again_together() {
    let counted = Counted::new(|b| b.time_to_live(TTL).jitter(0.1)).await;
    for key in 0..200 {
        counted.ask(key).await;
    }
    tokio::time::advance(TTL.mul_f64(0.95)).await;
    let mut loads = 200;
    for key in 0..200 {
        loads = counted.ask(key).await;
    }
    assert!(
        (250..350).contains(&loads),
        "about half of them: {}",
        loads - 200
    );
    tokio::time::advance(TTL.mul_f64(0.05)).await;
    for key in 0..200 {
        loads = counted.ask(key).await;
    }
    assert!(loads >= 400, "none outlives the time to live: {loads}");
}

#[tokio::test]
async fn with_a_zero_time_to_live_every_ask_loads() {
    let counted = Counted::new(|b| b.time_to_live(Duration::ZERO)).await;
    for n in 1..=3 {
        assert_eq!(counted.ask(1).await, n);
    }
    counted.cache.insert(1, 1).await.unwrap();
    assert_eq!(counted.cache.get(&1).await, None);
    assert_eq!(counted.cache.stats().entries, 0);
}

#[tokio::test]
async fn what_has_no_time_to_live_is_not_served_stale_either() {
    let stale = |b: Builder<u64, u64>| b.stale_while_revalidate(TTL).stale_if_error(TTL);
    let counted = Counted::new(|b| stale(b).time_to_live(Duration::ZERO)).await;
    for n in 1..=3 {
        assert_eq!(counted.ask(1).await, n);
    }
    let counted = Counted::new(stale).await;
    for n in 1..=3 {
        let load = move |_, cx: LoadContext<u64>| async move {
            Ok::<_, std::convert::Infallible>(cx.value(n).ttl(Duration::ZERO))
        };
        assert_eq!(*counted.cache.get_or_load_with(&1, load).await.unwrap(), n);
    }
}

#[tokio::test]
async fn with_a_zero_capacity_every_ask_loads() {
    let counted = Counted::new(|b| b.max_capacity(0)).await;
    assert_eq!(counted.ask(1).await, 1);
    assert_eq!(counted.ask(1).await, 2);
}

#[tokio::test]
async fn the_cache_never_holds_more_than_its_capacity() {
    let counted = Counted::new(|b| b.max_capacity(100)).await;
    for key in 0..10_000 {
        counted.ask(key).await;
    }
    let stats = counted.cache.stats();
    assert!(stats.entries <= 100, "{stats:?}");
    assert_eq!(stats.entries + stats.evictions, 10_000);
}

#[tokio::test]
async fn without_a_capacity_of_its_own_a_cache_holds_ten_thousand() {
    let counted = Counted::new(|b| b).await;
    for key in 0..12_000 {
        counted.cache.insert(key, key).await.unwrap();
    }
    assert_eq!(counted.cache.stats().entries, 10_000);
}

/// By the real clock: the paused one stands still while there is something to do.
async fn swept_to(cache: &Cache<u64, u64>, entries: u64) {
    let began = std::time::Instant::now();
    while cache.stats().entries > entries {
        let stats = cache.stats();
        assert!(began.elapsed() < Duration::from_secs(20), "{stats:?}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn idle_entries_are_reclaimed_as_others_are_stored_and_those_that_are_used_stay() {
    let tti = Duration::from_secs(10);
    let cache = Cache::<u64, u64>::builder("test").time_to_idle(tti);
    let cache = cache.max_capacity(100_000).build().await.unwrap();
    for key in 0..2_000 {
        cache.insert(key, key).await.unwrap();
    }
    tokio::time::advance(tti / 2).await;
    assert_eq!(cache.get(&7).await.as_deref(), Some(&7));
    tokio::time::advance(tti / 2).await;
    for key in 10_000..12_000 {
        cache.insert(key, key).await.unwrap();
    }
    swept_to(&cache, 2_001).await;
    assert_eq!(cache.get(&7).await.as_deref(), Some(&7));
}

#[tokio::test(start_paused = true)]
async fn expired_entries_are_reclaimed_as_others_are_stored() {
    let ttl = Duration::from_secs(10);
    let cache = Cache::<u64, u64>::builder("test").time_to_live(ttl);
    let cache = cache.max_capacity(100_000).build().await.unwrap();
    for key in 0..2_000 {
        cache.insert(key, key).await.unwrap();
    }
    tokio::time::advance(ttl).await;
    for key in 10_000..12_000 {
        let load = |key| async move { Ok::<_, std::convert::Infallible>(key) };
        cache.get_or_load(&key, load).await.unwrap();
    }
    swept_to(&cache, 2_000).await;
    assert!(cache.stats().evictions >= 2_000);
}
