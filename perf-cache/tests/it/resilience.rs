//! Values that are not fresh, loads that fail or take long, on the paused clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use perf_cache::{BuildError, Builder, Cache, LoadError, RefreshAhead};
use tokio::time::{advance, sleep};

const TTL: Duration = Duration::from_secs(100);
const SECOND: Duration = Duration::from_secs(1);

/// An origin that counts its loads, each of which brings the next number, or fails.
#[derive(Clone, Default)]
struct Origin(Arc<State>);

#[derive(Default)]
struct State {
    loads: AtomicU64,
    down: AtomicU64,
    slow: AtomicU64,
}

impl Origin {
    fn load(&self) -> impl FnOnce(u64) -> Load + Send + use<> {
        let origin = self.clone();
        move |_| {
            Box::pin(async move {
                let n = origin.0.loads.fetch_add(1, Ordering::SeqCst) + 1;
                sleep(Duration::from_millis(origin.0.slow.load(Ordering::SeqCst))).await;
                match origin.0.down.load(Ordering::SeqCst) {
                    0 => Ok(n),
                    _ => Err("down"),
                }
            })
        }
    }

    fn is_down(&self, down: bool) {
        self.0.down.store(down.into(), Ordering::SeqCst);
    }

    fn takes(&self, time: Duration) {
        self.0.slow.store(time.as_millis() as u64, Ordering::SeqCst);
    }

    fn loads(&self) -> u64 {
        self.0.loads.load(Ordering::SeqCst)
    }
}

type Load = std::pin::Pin<Box<dyn Future<Output = Result<u64, &'static str>> + Send>>;

async fn cache(with: impl FnOnce(Builder<u64, u64>) -> Builder<u64, u64>) -> Cache<u64, u64> {
    let builder = Cache::builder("test").time_to_live(TTL);
    with(builder).build().await.unwrap()
}

async fn get(cache: &Cache<u64, u64>, origin: &Origin) -> u64 {
    *cache.get_or_load(&1, origin.load()).await.unwrap()
}

/// Lets what runs in the background come to its end.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_stale_value_is_served_at_once_and_loaded_again_behind_it_once() {
    let cache = cache(|c| c.stale_while_revalidate(10 * SECOND)).await;
    let origin = Origin::default();
    assert_eq!(get(&cache, &origin).await, 1);
    origin.takes(SECOND);
    advance(TTL + SECOND).await;
    for _ in 0..5 {
        assert_eq!(get(&cache, &origin).await, 1);
    }
    settle().await;
    assert_eq!(origin.loads(), 2, "five readers, one load behind them");
    assert_eq!(get(&cache, &origin).await, 1);
    advance(2 * SECOND).await;
    settle().await;
    assert_eq!(get(&cache, &origin).await, 2);
    assert_eq!(cache.stats().stale, 6);
}

#[tokio::test(start_paused = true)]
async fn beyond_stale_while_revalidate_readers_wait() {
    let cache = cache(|c| c.stale_while_revalidate(10 * SECOND)).await;
    let origin = Origin::default();
    assert_eq!(get(&cache, &origin).await, 1);
    advance(TTL + 11 * SECOND).await;
    assert_eq!(get(&cache, &origin).await, 2);
}

#[tokio::test(start_paused = true)]
async fn an_invalidated_value_is_never_served_stale() {
    let cache = cache(|c| c.stale_while_revalidate(TTL).stale_if_error(TTL)).await;
    let origin = Origin::default();
    get(&cache, &origin).await;
    advance(TTL + SECOND).await;
    origin.is_down(true);
    cache.invalidate(&1).await.unwrap();
    assert!(cache.get_or_load(&1, origin.load()).await.is_err());
    assert_eq!(cache.get(&1).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_load_behind_a_stale_value_that_is_invalidated_meanwhile_is_not_kept() {
    let cache = cache(|c| c.stale_while_revalidate(TTL)).await;
    let origin = Origin::default();
    get(&cache, &origin).await;
    advance(TTL).await;
    origin.takes(SECOND);
    get(&cache, &origin).await;
    settle().await;
    assert_eq!(origin.loads(), 2);
    cache.invalidate(&1).await.unwrap();
    advance(2 * SECOND).await;
    settle().await;
    assert_eq!(cache.get(&1).await, None);
    assert_eq!(cache.stats().loads_superseded, 1);
}

#[tokio::test(start_paused = true)]
async fn a_stale_value_is_served_when_the_load_fails_and_not_tried_again_for_a_while() {
    let cache = cache(|c| {
        c.stale_if_error(1_000 * SECOND)
            .retry_failed_after(5 * SECOND)
    })
    .await;
    let origin = Origin::default();
    assert_eq!(get(&cache, &origin).await, 1);
    advance(TTL).await;
    origin.is_down(true);
    for _ in 0..5 {
        assert_eq!(get(&cache, &origin).await, 1);
    }
    assert_eq!(origin.loads(), 2);
    advance(5 * SECOND).await;
    assert_eq!(get(&cache, &origin).await, 1);
    assert_eq!(origin.loads(), 3);
    origin.is_down(false);
    advance(5 * SECOND).await;
    assert_eq!(get(&cache, &origin).await, 4);
    advance(TTL + 1_000 * SECOND).await;
    origin.is_down(true);
    let error = cache.get_or_load(&1, origin.load()).await.unwrap_err();
    assert!(
        matches!(error, LoadError::Failed(_)),
        "too old to fall back on"
    );
}

#[tokio::test(start_paused = true)]
async fn an_expired_value_is_loaded_again_and_served_if_that_fails() {
    let cache = cache(|c| c.stale_if_error(TTL).stale_while_revalidate(TTL)).await;
    let origin = Origin::default();
    assert_eq!(get(&cache, &origin).await, 1);
    cache.expire(&1).await.unwrap();
    assert_eq!(
        get(&cache, &origin).await,
        2,
        "not served stale while there is an origin"
    );
    origin.is_down(true);
    cache.expire(&1).await.unwrap();
    assert_eq!(get(&cache, &origin).await, 2);
    // Without stale_if_error it is as an invalidation.
    let plain = self::cache(|c| c).await;
    origin.is_down(false);
    get(&plain, &origin).await;
    plain.expire(&1).await.unwrap();
    assert_eq!(plain.get(&1).await, None);
}

#[tokio::test(start_paused = true)]
async fn the_soft_timeout_serves_the_stale_value_and_the_load_goes_on() {
    let cache = cache(|c| c.stale_if_error(TTL).soft_timeout(SECOND)).await;
    let origin = Origin::default();
    assert_eq!(get(&cache, &origin).await, 1);
    advance(TTL).await;
    origin.takes(3 * SECOND);
    let asked = tokio::time::Instant::now();
    assert_eq!(get(&cache, &origin).await, 1);
    assert_eq!(asked.elapsed(), SECOND);
    advance(2 * SECOND).await;
    settle().await;
    assert_eq!((get(&cache, &origin).await, origin.loads()), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_longer_than_the_hard_timeout_whatever_the_soft_one_is() {
    let timeouts = |c: Builder<u64, u64>| c.soft_timeout(9 * SECOND).hard_timeout(2 * SECOND);
    let cache = cache(|c| timeouts(c.stale_if_error(TTL))).await;
    let origin = Origin::default();
    assert_eq!(get(&cache, &origin).await, 1);
    advance(TTL).await;
    origin.takes(5 * SECOND);
    let asked = tokio::time::Instant::now();
    assert_eq!(get(&cache, &origin).await, 1);
    assert_eq!(asked.elapsed(), 2 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn the_hard_timeout_ends_the_waiting_and_not_the_load() {
    let cache = cache(|c| c.hard_timeout(2 * SECOND)).await;
    let origin = Origin::default();
    origin.takes(3 * SECOND);
    let error = cache.get_or_load(&1, origin.load()).await.unwrap_err();
    assert!(matches!(error, LoadError::TimedOut { after } if after == 2 * SECOND));
    assert_eq!((get(&cache, &origin).await, origin.loads()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_loader_that_hangs_is_dropped_and_its_key_free_again() {
    let cache = cache(|c| c.load_timeout(2 * SECOND).max_concurrent_loads(1)).await;
    let hangs = |_| async {
        std::future::pending::<()>().await;
        Ok::<_, &str>(0)
    };
    let error = cache.get_or_load(&1, hangs).await.unwrap_err();
    assert!(matches!(error, LoadError::TimedOut { after } if after == 2 * SECOND));
    assert_eq!(get(&cache, &Origin::default()).await, 1);
}

#[tokio::test(start_paused = true)]
async fn failures_are_remembered_for_the_negative_ttl_and_no_longer() {
    let cache = cache(|c| c.negative_ttl(5 * SECOND)).await;
    let origin = Origin::default();
    origin.is_down(true);
    for _ in 0..3 {
        let error = cache.get_or_load(&1, origin.load()).await.unwrap_err();
        assert_eq!(
            std::error::Error::source(&error).unwrap().to_string(),
            "down"
        );
        assert_eq!(cache.get(&1).await, None);
    }
    assert_eq!(origin.loads(), 1);
    origin.is_down(false);
    advance(5 * SECOND).await;
    assert_eq!(get(&cache, &origin).await, 2);
    // An invalidation forgets the failure as well.
    origin.is_down(true);
    cache.invalidate(&1).await.unwrap();
    cache.get_or_load(&1, origin.load()).await.unwrap_err();
    origin.is_down(false);
    cache.invalidate(&1).await.unwrap();
    assert_eq!(get(&cache, &origin).await, 4);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_ahead_by_fraction_comes_with_the_first_hit_in_it() {
    let cache = cache(|c| c.refresh_ahead(RefreshAhead::Fraction(0.9))).await;
    let origin = Origin::default();
    get(&cache, &origin).await;
    advance(TTL.mul_f64(0.89)).await;
    get(&cache, &origin).await;
    settle().await;
    assert_eq!(origin.loads(), 1);
    advance(TTL.mul_f64(0.02)).await;
    assert_eq!(get(&cache, &origin).await, 1);
    settle().await;
    assert_eq!((get(&cache, &origin).await, origin.loads()), (2, 2));
    assert_eq!(cache.stats().misses, 1);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_ahead_that_fails_is_not_tried_with_every_hit() {
    let cache = cache(|c| c.refresh_ahead(RefreshAhead::Fraction(0.5))).await;
    let origin = Origin::default();
    get(&cache, &origin).await;
    origin.is_down(true);
    advance(TTL.mul_f64(0.6)).await;
    for _ in 0..10 {
        get(&cache, &origin).await;
        settle().await;
    }
    assert_eq!(origin.loads(), 2);
    advance(2 * SECOND).await;
    get(&cache, &origin).await;
    settle().await;
    assert_eq!(origin.loads(), 3);
}

/// With a beta of 1 and a load time of 1 s, a hit 1 s before the end refreshes with a probability
/// of 1/e, one 3 s before with 1/e^3 = 0.05.
#[tokio::test(start_paused = true)]
async fn xfetch_refreshes_the_likelier_the_nearer_the_end() {
    let refreshed = async |before_the_end: Duration| {
        let mut refreshed = 0;
        for _ in 0..400 {
            let cache = cache(|c| c.refresh_ahead(RefreshAhead::XFetch { beta: 1.0 })).await;
            let origin = Origin::default();
            origin.takes(SECOND);
            get(&cache, &origin).await;
            advance(TTL - before_the_end).await;
            get(&cache, &origin).await;
            settle().await;
            refreshed += origin.loads() - 1;
        }
        refreshed
    };
    let (near, far) = (refreshed(SECOND).await, refreshed(3 * SECOND).await);
    assert!((100..200).contains(&near), "147 of 400 expected: {near}");
    assert!((4..40).contains(&far), "20 of 400 expected: {far}");
    assert_eq!(refreshed(30 * SECOND).await, 0);
}

#[tokio::test(start_paused = true)]
async fn an_idle_entry_goes_and_one_that_is_used_stays() {
    let builder = Cache::<u64, u64>::builder("test").time_to_idle(10 * SECOND);
    let cache = builder.build().await.unwrap();
    for key in [1, 2] {
        cache.insert(key, key).await.unwrap();
    }
    for _ in 0..5 {
        advance(9 * SECOND).await;
        assert!(cache.get(&1).await.is_some());
    }
    assert!(cache.get(&2).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_loader_gives_its_value_a_time_to_live_of_its_own() {
    let cache = cache(|c| c).await;
    for (ttl, alive) in [(SECOND, SECOND / 2), (1_000 * SECOND, 999 * SECOND)] {
        let load = move |_, cx: perf_cache::LoadContext<u64>| async move {
            Ok::<_, LoadError>(cx.value(7).ttl(ttl))
        };
        cache.get_or_load_with(&1, load).await.unwrap();
        advance(alive).await;
        assert!(cache.get(&1).await.is_some(), "{ttl:?}");
        advance(SECOND).await;
        assert!(cache.get(&1).await.is_none(), "{ttl:?}");
    }
    let uncached = |_, cx: perf_cache::LoadContext<u64>| async move {
        Ok::<_, LoadError>(cx.value(7).ttl(Duration::ZERO))
    };
    cache.insert(1, 1).await.unwrap();
    cache.expire(&1).await.unwrap();
    cache.get_or_load_with(&1, uncached).await.unwrap();
    assert!(cache.get(&1).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_loader_that_knows_the_previous_value_may_say_that_it_is_not_modified() {
    let cache = cache(|c| c.stale_if_error(TTL)).await;
    let first = |_, cx: perf_cache::LoadContext<u64>| async move {
        assert!(cx.previous().is_none());
        Ok::<_, LoadError>(cx.value(7).etag("v1").tag("red"))
    };
    let value = cache.get_or_load_with(&1, first).await.unwrap();
    advance(TTL).await;
    let again = |_, cx: perf_cache::LoadContext<u64>| async move {
        let previous = cx.previous().unwrap();
        assert_eq!(previous.etag(), Some("v1"));
        Ok::<_, LoadError>(previous.not_modified())
    };
    let same = cache.get_or_load_with(&1, again).await.unwrap();
    assert!(Arc::ptr_eq(&value, &same), "nothing was copied");
    assert!(cache.get(&1).await.is_some(), "fresh again");
    // It has kept its tag, and an invalidated value is no previous one.
    cache.invalidate_tag("red").await.unwrap();
    cache.get_or_load_with(&1, first).await.unwrap();
}

#[tokio::test]
async fn impossible_refreshes_and_weights_are_refused() {
    let with = |when| Cache::<u64, u64>::builder("c").refresh_ahead(when).build();
    for beta in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let refused = with(RefreshAhead::XFetch { beta }).await.unwrap_err();
        assert!(matches!(refused, BuildError::RefreshAhead { .. }));
    }
    for part in [-0.1, 1.1, f64::NAN] {
        let refused = with(RefreshAhead::Fraction(part)).await.unwrap_err();
        assert!(matches!(refused, BuildError::RefreshAhead { .. }));
    }
    let heavy = Cache::<u64, u64>::builder("c").max_weight(10).build().await;
    assert_eq!(heavy.unwrap_err(), BuildError::NoWeigher);
}
