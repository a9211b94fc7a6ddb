use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, advance, sleep, timeout};

use super::fake::{Node, Server, TTL};
use crate::{Builder, Cache, Invalidation, RefreshAhead, Value};

mod faults;

const BOUND: Duration = Duration::from_secs(2);
const MS: Duration = Duration::from_millis(1);

type Caches = (Cache<u64, u64>, Arc<Node<u64, u64>>);

/// A process with a cache on the server.
async fn process(server: &Arc<Server<u64, u64>>) -> Caches {
    process_with(server, |builder| builder).await
}

async fn process_with(
    server: &Arc<Server<u64, u64>>,
    with: impl FnOnce(Builder<u64, u64>) -> Builder<u64, u64>,
) -> Caches {
    let node = server.node(Some(BOUND));
    let builder = with(Cache::builder("shared"));
    let cache = builder.remote(node.clone(), Some(BOUND)).build().await;
    node.beat();
    (cache.unwrap(), node)
}

/// Loads `value`, and counts.
#[derive(Clone, Default)]
struct Origin {
    value: Arc<AtomicUsize>,
    loads: Arc<AtomicUsize>,
}

impl Origin {
    fn of(value: usize) -> Self {
        let origin = Self::default();
        origin.value.store(value, SeqCst);
        origin
    }

    async fn get(&self, cache: &Cache<u64, u64>, key: u64) -> u64 {
        let origin = self.clone();
        let load = move |_| async move {
            origin.loads.fetch_add(1, SeqCst);
            Ok::<_, Infallible>(origin.value.load(SeqCst) as u64)
        };
        *cache.get_or_load(&key, load).await.unwrap()
    }

    fn loads(&self) -> usize {
        self.loads.load(SeqCst)
    }
}

fn spawned(origin: &Origin, cache: &Cache<u64, u64>, key: u64) -> JoinHandle<u64> {
    let (origin, cache) = (origin.clone(), cache.clone());
    tokio::spawn(async move { origin.get(&cache, key).await })
}

/// Lets tasks do all that takes no time.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_one_process_loaded_the_next_one_reads() {
    let server = Server::new();
    let ((a, _), (b, at_b)) = (process(&server).await, process(&server).await);
    let origin = Origin::of(7);
    assert_eq!(origin.get(&a, 1).await, 7);
    settle().await;
    assert_eq!(origin.get(&b, 1).await, 7);
    assert_eq!(b.get(&1).await.as_deref(), Some(&7));
    assert_eq!((origin.loads(), at_b.reads.lock().unwrap().len()), (1, 1));
    let (a, b) = (a.stats(), b.stats());
    assert_eq!((a.remote_misses, a.loads), (1, 1));
    assert_eq!((b.remote_hits, b.loads, b.hits), (1, 0, 1));
}

#[tokio::test(start_paused = true)]
async fn get_looks_into_the_shared_tier_and_takes_no_lease() {
    let server = Server::new();
    let ((a, at_a), (b, _)) = (process(&server).await, process(&server).await);
    assert_eq!(a.get(&1).await, None);
    assert_eq!(b.insert(1, 7).await.unwrap(), Invalidation::Applied);
    assert_eq!(a.get(&1).await.as_deref(), Some(&7));
    assert_eq!(a.get(&1).await.as_deref(), Some(&7));
    assert_eq!(at_a.reads.lock().unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn many_keys_are_one_round_trip_and_one_load_of_those_that_are_nowhere() {
    let server = Server::new();
    let ((a, _), (b, at_b)) = (process(&server).await, process(&server).await);
    for key in 0..500 {
        a.insert(key, key).await.unwrap();
    }
    let loads = Arc::new(std::sync::Mutex::new(Vec::new()));
    let load = {
        let loads = Arc::clone(&loads);
        move |missing: Vec<u64>| async move {
            loads.lock().unwrap().push(missing.clone());
            Ok::<_, Infallible>(missing.into_iter().map(|key| (key, key)))
        }
    };
    let keys: Vec<u64> = (0..1_000).collect();
    let found = b.get_many(&keys, load.clone()).await.unwrap();
    assert!(found.len() == 1_000 && found.iter().all(|(key, value)| *key == **value));
    assert_eq!(*at_b.reads.lock().unwrap(), std::slice::from_ref(&keys));
    assert_eq!(*loads.lock().unwrap(), [(500..1_000).collect::<Vec<_>>()]);
    settle().await;
    assert_eq!(at_b.fills.load(SeqCst), 500);
    // By now all are in both.
    assert_eq!(a.get_many(&keys, load).await.unwrap().len(), 1_000);
    assert_eq!(loads.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn warming_reads_what_the_shared_tier_has() {
    let server = Server::new();
    let ((a, _), (b, at_b)) = (process(&server).await, process(&server).await);
    let load = |missing: Vec<u64>| async move {
        Ok::<_, Infallible>(missing.into_iter().map(|key| (key, key)))
    };
    assert_eq!(a.warm(0..1_500, load).await.unwrap(), 1_500);
    settle().await;
    let fails = |_| async { Err::<Vec<(u64, u64)>, _>("loaded again") };
    assert_eq!(b.warm(0..1_500, fails).await.unwrap(), 1_500);
    assert_eq!(at_b.reads.lock().unwrap().len(), 2);
}

/// They come up by single keys and by many, and are never loaded or inserted here.
#[tokio::test(start_paused = true)]
async fn what_only_comes_up_from_the_shared_tier_is_swept_as_well() {
    let server = Server::new();
    let (a, _) = process(&server).await;
    let load = |missing: Vec<u64>| async move {
        Ok::<_, Infallible>(missing.into_iter().map(|key| (key, key)))
    };
    let fails = |_| async { Err::<Vec<(u64, u64)>, _>("loaded again") };
    for many in [false, true] {
        let own = Duration::from_secs(1);
        let (b, _) = process_with(&server, |builder| builder.time_to_live(own)).await;
        a.warm(0..4_000, load).await.unwrap();
        settle().await;
        assert_eq!(b.warm(0..2_000, fails).await.unwrap(), 2_000);
        advance(own + MS).await;
        if many {
            b.warm(2_000..4_000, fails).await.unwrap();
        } else {
            for key in 2_000..4_000 {
                Origin::of(0).get(&b, key).await;
            }
        }
        let began = std::time::Instant::now();
        while b.stats().entries > 2_000 {
            let (stats, took) = (b.stats(), began.elapsed());
            assert!(took < Duration::from_secs(20), "{many} {stats:?}");
            tokio::task::yield_now().await;
        }
        assert_eq!(b.stats().loads, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_value_that_was_on_its_way_up_when_its_key_was_invalidated_is_not_kept() {
    type Way = fn(&Cache<u64, u64>) -> crate::remote::BoxFuture<'_, ()>;
    let ways: [Way; 4] = [
        |c| Box::pin(async move { c.invalidate(&1).await.map(|_| ()).unwrap() }),
        |c| Box::pin(async move { c.expire(&1).await.map(|_| ()).unwrap() }),
        |c| Box::pin(async move { c.invalidate_tag("red").await.map(|_| ()).unwrap() }),
        |c| Box::pin(async move { c.invalidate_all().await.map(|_| ()).unwrap() }),
    ];
    for invalidate in ways {
        let server = Server::new();
        let ((a, _), (b, at_b)) = (process(&server).await, process(&server).await);
        a.insert(1, Value::new(7).tag("red")).await.unwrap();
        at_b.latency(|| 10 * MS);
        let origin = Origin::of(8);
        let (by_get, by_load) = (b.clone(), spawned(&origin, &b, 1));
        let by_get = tokio::spawn(async move { by_get.get(&1).await.as_deref().copied() });
        // The answer is on its way.
        sleep(15 * MS).await;
        at_b.latency(|| Duration::ZERO);
        invalidate(&b).await;
        let after = spawned(&origin, &b, 1);
        assert_eq!(after.await.unwrap(), 8, "it asked after the invalidation");
        assert_eq!(by_load.await.unwrap(), 7);
        assert!(matches!(by_get.await.unwrap(), Some(7) | None));
        assert_eq!(b.get(&1).await.as_deref(), Some(&8));
    }
}

#[tokio::test(start_paused = true)]
async fn a_fill_that_an_invalidation_overtook_does_not_reach_the_shared_tier() {
    let server = Server::new();
    let ((a, at_a), (b, _)) = (process(&server).await, process(&server).await);
    let old = Origin::of(7);
    at_a.latency(|| 10 * MS);
    let load = spawned(&old, &a, 1);
    // Loaded, and on its way into the tier.
    assert_eq!(load.await.unwrap(), 7);
    settle().await;
    assert_eq!(b.invalidate(&1).await.unwrap(), Invalidation::Applied);
    sleep(50 * MS).await;
    assert!(!server.has(&1));
    at_a.deliver();
    assert_eq!(a.get(&1).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_get_waits_for_a_load_in_flight_no_longer_than_the_hard_timeout() {
    let server = Server::new();
    let (cache, _) = process_with(&server, |builder| builder.hard_timeout(100 * MS)).await;
    let loading = cache.clone();
    let load = |key| async move {
        sleep(1_000 * MS).await;
        Ok::<_, Infallible>(key)
    };
    let caller = tokio::spawn(async move { loading.get_or_load(&1, load).await });
    settle().await;
    let began = Instant::now();
    assert_eq!(cache.get(&1).await, None);
    assert_eq!(began.elapsed(), 100 * MS);
    caller.await.unwrap().unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn without_a_lease_there_is_no_fill_and_the_value_is_kept_here() {
    let server = Server::new();
    let (a, at_a) = process(&server).await;
    at_a.latency(|| 10 * MS);
    let origin = Origin::of(7);
    let load = spawned(&origin, &a, 1);
    sleep(15 * MS).await;
    server.evict(&1);
    assert_eq!(load.await.unwrap(), 7);
    sleep(50 * MS).await;
    assert!(!server.has(&1));
    assert_eq!(a.get(&1).await.as_deref(), Some(&7));
}

#[tokio::test(start_paused = true)]
async fn another_process_sees_an_invalidation_when_its_word_arrives() {
    let server = Server::new();
    let ((a, _), (b, at_b)) = (process(&server).await, process(&server).await);
    let origin = Origin::of(7);
    for (key, tag) in [(1, "red"), (2, "blue"), (3, "blue"), (4, "green")] {
        a.insert(key, Value::new(7).tag(tag)).await.unwrap();
        origin.get(&b, key).await;
    }
    origin.value.store(8, SeqCst);
    a.invalidate(&1).await.unwrap();
    a.invalidate_tag("blue").await.unwrap();
    assert_eq!(origin.get(&b, 1).await, 7, "it has not heard of it");
    at_b.deliver();
    for (key, value) in [(1, 8), (2, 8), (3, 8), (4, 7)] {
        assert_eq!(origin.get(&b, key).await, value, "{key}");
    }
    a.invalidate_all().await.unwrap();
    at_b.deliver();
    assert_eq!(origin.get(&b, 4).await, 8);
    a.insert(4, 9).await.unwrap();
    at_b.deliver();
    assert_eq!(origin.get(&b, 4).await, 9);
}

#[tokio::test(start_paused = true)]
async fn what_another_process_expires_is_there_for_loads_that_fail() {
    let server = Server::new();
    let (a, _) = process(&server).await;
    let (b, at_b) = process_with(&server, |b| b.stale_if_error(TTL)).await;
    Origin::of(7).get(&b, 1).await;
    a.expire(&1).await.unwrap();
    at_b.deliver();
    let down = |_| async { Err::<u64, _>("down") };
    assert_eq!(*b.get_or_load(&1, down).await.unwrap(), 7);
    a.invalidate(&1).await.unwrap();
    at_b.deliver();
    b.get_or_load(&1, down).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn a_refresh_takes_what_another_process_has_refreshed() {
    let server = Server::new();
    let (a, at_a) = process_with(&server, |b| {
        b.time_to_live(TTL / 10)
            .refresh_ahead(RefreshAhead::Fraction(0.5))
    })
    .await;
    let origin = Origin::of(7);
    origin.get(&a, 1).await;
    settle().await;
    advance(TTL / 15).await;
    at_a.beat();
    // The value in the tier is fresh for long.
    assert_eq!(origin.get(&a, 1).await, 7);
    settle().await;
    assert_eq!((origin.loads(), a.stats().remote_hits), (1, 1));
    // When it is about to go there as well, it is loaded, and filled by its lease.
    advance(TTL - TTL / 15 - TTL / 100).await;
    at_a.beat();
    origin.value.store(8, SeqCst);
    origin.get(&a, 1).await;
    settle().await;
    advance(TTL / 15).await;
    at_a.beat();
    origin.get(&a, 1).await;
    settle().await;
    assert_eq!(origin.get(&a, 1).await, 8);
    advance(TTL / 2).await;
    assert!(server.has(&1));
}

#[tokio::test(start_paused = true)]
async fn a_value_from_the_tier_lives_no_longer_than_there() {
    let server = Server::new();
    let ((a, at_a), (b, at_b)) = (process(&server).await, process(&server).await);
    let value = Value::new(7).ttl(Duration::from_secs(10));
    a.insert(1, value).await.unwrap();
    advance(Duration::from_secs(9)).await;
    at_a.beat();
    at_b.beat();
    assert_eq!(b.get(&1).await.as_deref(), Some(&7));
    advance(Duration::from_secs(1)).await;
    at_b.beat();
    assert_eq!(b.get(&1).await, None);
}

#[tokio::test(start_paused = true)]
async fn tags_come_up_with_their_values() {
    let server = Server::new();
    let ((a, _), (b, _)) = (process(&server).await, process(&server).await);
    a.insert(1, Value::new(7).tag("red")).await.unwrap();
    assert!(b.get(&1).await.is_some());
    b.invalidate_tag("red").await.unwrap();
    assert_eq!(b.get(&1).await, None);
    assert!(!server.has(&1));
}
