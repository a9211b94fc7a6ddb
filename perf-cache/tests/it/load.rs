use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use perf_cache::{Cache, LoadError};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;

async fn cache() -> Cache<u64, u64> {
    Cache::<u64, u64>::builder("test").build().await.unwrap()
}

/// A backend whose loads end when the test lets them.
#[derive(Clone)]
struct Gate {
    open: Arc<Semaphore>,
    started: Arc<Notify>,
    loads: Arc<AtomicU64>,
}

impl Gate {
    fn new() -> Self {
        Self {
            open: Arc::new(Semaphore::new(0)),
            started: Arc::new(Notify::new()),
            loads: Arc::default(),
        }
    }

    async fn load(self, key: u64) -> Result<u64, Infallible> {
        self.loads.fetch_add(1, Ordering::Relaxed);
        self.started.notify_one();
        self.open.acquire().await.unwrap().forget();
        Ok(key * 10)
    }

    fn loader(&self) -> impl FnOnce(u64) -> LoadFuture + use<> {
        let gate = self.clone();
        move |key| Box::pin(gate.load(key))
    }

    fn loads(&self) -> u64 {
        self.loads.load(Ordering::Relaxed)
    }
}

type LoadFuture = std::pin::Pin<Box<dyn Future<Output = Result<u64, Infallible>> + Send>>;

fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_callers_of_a_cold_key_start_one_load() {
    let cache = cache().await;
    let gate = Gate::new();
    let mut callers = JoinSet::new();
    for _ in 0..1_000 {
        let (cache, gate) = (cache.clone(), gate.clone());
        callers.spawn(async move { cache.get_or_load(&7, gate.loader()).await.unwrap() });
    }
    gate.started.notified().await;
    while cache.stats().misses < 1_000 {
        tokio::task::yield_now().await;
    }
    gate.open.add_permits(1);
    let values = callers.join_all().await;
    assert!(
        values
            .iter()
            .all(|v| **v == 70 && Arc::ptr_eq(v, &values[0]))
    );
    assert_eq!(gate.loads(), 1);
    let stats = cache.stats();
    assert_eq!((stats.loads, stats.misses, stats.hits), (1, 1_000, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn callers_that_race_with_the_end_of_a_load_never_start_another() {
    let cache = cache().await;
    let loads = Arc::new(AtomicU64::new(0));
    for key in 0..300 {
        let mut callers = JoinSet::new();
        for _ in 0..20 {
            let (cache, loads) = (cache.clone(), Arc::clone(&loads));
            callers.spawn(async move {
                let load = move |key| async move {
                    Ok::<_, Infallible>(loads.fetch_add(1, Ordering::Relaxed) + key)
                };
                cache.get_or_load(&key, load).await.unwrap();
            });
        }
        callers.join_all().await;
    }
    assert_eq!(loads.load(Ordering::Relaxed), 300);
    assert_eq!(cache.stats().loads, 300);
}

#[tokio::test]
async fn a_cancelled_leader_leaves_the_load_to_those_who_wait() {
    let cache = cache().await;
    let gate = Gate::new();
    let follower = {
        let mut leader = Box::pin(cache.get_or_load(&1, gate.loader()));
        assert!(poll(leader.as_mut()).is_pending());
        let mut follower = Box::pin(cache.get_or_load(&1, gate.loader()));
        assert!(poll(follower.as_mut()).is_pending());
        drop(leader);
        follower
    };
    gate.open.add_permits(1);
    assert_eq!(*follower.await.unwrap(), 10);
    assert_eq!(gate.loads(), 1);
}

#[tokio::test]
async fn a_load_that_nobody_waits_for_goes_on_and_is_kept() {
    let cache = cache().await;
    let gate = Gate::new();
    for _ in 0..5 {
        let mut caller = Box::pin(cache.get_or_load(&1, gate.loader()));
        assert!(poll(caller.as_mut()).is_pending());
    }
    gate.open.add_permits(1);
    let never = |_| async { Err::<u64, _>("a second load") };
    assert_eq!(*cache.get_or_load(&1, never).await.unwrap(), 10);
    assert_eq!(gate.loads(), 1);
    assert_eq!(cache.get(&1).await.as_deref(), Some(&10));
}

#[tokio::test]
async fn a_failed_load_tells_everyone_and_is_not_kept() {
    let cache = cache().await;
    let gate = Gate::new();
    let fail = || {
        let gate = gate.clone();
        move |key| async move {
            let Ok(value) = gate.load(key).await;
            Err::<u64, _>(io::Error::other(format!("no {value}")))
        }
    };
    let mut first = pin!(cache.get_or_load(&1, fail()));
    let mut second = pin!(cache.get_or_load(&1, fail()));
    assert!(poll(first.as_mut()).is_pending() && poll(second.as_mut()).is_pending());
    gate.open.add_permits(1);
    for error in [first.await.unwrap_err(), second.await.unwrap_err()] {
        assert!(matches!(error, LoadError::Failed(_)));
        assert_eq!(error.source().unwrap().to_string(), "no 10");
        assert!(error.downcast_ref::<io::Error>().is_some());
    }
    assert_eq!(gate.loads(), 1);
    assert_eq!(cache.get(&1).await, None);
    let ok = |_| async { Ok::<_, Infallible>(11) };
    assert_eq!(*cache.get_or_load(&1, ok).await.unwrap(), 11);
    let stats = cache.stats();
    assert_eq!((stats.loads, stats.loads_failed), (2, 1));
}

#[tokio::test]
async fn a_panicking_load_tells_everyone_and_is_not_kept() {
    let cache = cache().await;
    let later = |_| async {
        tokio::task::yield_now().await;
        if true {
            panic!("bug 7");
        }
        Ok::<u64, Infallible>(0)
    };
    let mut first = pin!(cache.get_or_load(&1, later));
    let mut second = pin!(cache.get_or_load(&1, later));
    assert!(poll(first.as_mut()).is_pending() && poll(second.as_mut()).is_pending());
    for error in [first.await.unwrap_err(), second.await.unwrap_err()] {
        assert_eq!(error.to_string(), "the load panicked: bug 7");
    }
    // Also one that panics before there is a future.
    let at_once = |_| -> LoadFuture { panic!("bug 8") };
    let error = cache.get_or_load(&1, at_once).await.unwrap_err();
    assert!(matches!(error, LoadError::Panicked(_)));
    let ok = |_| async { Ok::<_, Infallible>(11) };
    assert_eq!(*cache.get_or_load(&1, ok).await.unwrap(), 11);
    assert_eq!(cache.stats().loads_failed, 2);
}

#[tokio::test]
async fn who_asks_after_an_invalidation_gets_a_new_load_and_who_waited_the_old() {
    for all in [false, true] {
        let cache = cache().await;
        let (old, new) = (Gate::new(), Gate::new());
        let mut before = pin!(cache.get_or_load(&1, old.loader()));
        assert!(poll(before.as_mut()).is_pending());
        old.started.notified().await;
        if all {
            cache.invalidate_all().await.unwrap();
        } else {
            cache.invalidate(&1).await.unwrap();
        }
        let mut after = pin!(cache.get_or_load(&1, {
            let new = new.clone();
            move |key| async move { new.load(key).await.map(|v| v + 1) }
        }));
        assert!(poll(after.as_mut()).is_pending());
        old.open.add_permits(1);
        assert_eq!(*before.await.unwrap(), 10);
        assert_eq!(cache.get(&1).await, None);
        new.open.add_permits(1);
        assert_eq!(*after.await.unwrap(), 11);
        assert_eq!(cache.get(&1).await.as_deref(), Some(&11));
        assert_eq!(cache.stats().loads_superseded, 1);
    }
}

#[tokio::test]
async fn an_insert_supersedes_the_load_in_flight() {
    let cache = cache().await;
    let gate = Gate::new();
    let mut waiter = pin!(cache.get_or_load(&1, gate.loader()));
    assert!(poll(waiter.as_mut()).is_pending());
    cache.insert(1, 99).await.unwrap();
    gate.open.add_permits(1);
    assert_eq!(*waiter.await.unwrap(), 10);
    assert_eq!(cache.get(&1).await.as_deref(), Some(&99));
}

#[tokio::test]
async fn no_more_loads_run_at_once_than_allowed_and_a_joined_load_needs_no_place() {
    let cache = Cache::<u64, u64>::builder("test").max_concurrent_loads(2);
    let cache = cache.build().await.unwrap();
    let gate = Gate::new();
    let ask = |key: u64| {
        let (cache, gate) = (cache.clone(), gate.clone());
        tokio::spawn(async move { *cache.get_or_load(&key, gate.loader()).await.unwrap() })
    };
    let callers: Vec<_> = (0..20).map(|i| ask(i % 10)).collect();
    while cache.stats().misses < 20 {
        tokio::task::yield_now().await;
    }
    assert_eq!(cache.stats().loads, 2);
    gate.open.add_permits(1);
    while cache.stats().loads < 3 {
        tokio::task::yield_now().await;
    }
    assert_eq!(cache.stats().loads, 3);
    gate.open.add_permits(9);
    for (i, caller) in (0..20).zip(callers) {
        assert_eq!(caller.await.unwrap(), i % 10 * 10);
    }
    assert_eq!(gate.loads(), 10);
}

/// Callers of one key that waited for a place each, and got one each, must not keep them while
/// they share a load: here its loader needs one for another key.
#[tokio::test]
async fn those_who_join_a_load_after_waiting_for_a_place_give_the_place_back() {
    let cache = Cache::<u64, u64>::builder("test").max_concurrent_loads(2);
    let cache = cache.build().await.unwrap();
    let gate = Gate::new();
    let nested = || {
        let (cache, gate) = (cache.clone(), gate.clone());
        move |_| async move { cache.get_or_load(&9, gate.loader()).await.map(|v| *v) }
    };
    let mut first = pin!(cache.get_or_load(&1, gate.loader()));
    let mut second = pin!(cache.get_or_load(&2, gate.loader()));
    assert!(poll(first.as_mut()).is_pending() && poll(second.as_mut()).is_pending());
    let mut third = pin!(cache.get_or_load(&3, nested()));
    let mut fourth = pin!(cache.get_or_load(&3, nested()));
    assert!(poll(third.as_mut()).is_pending() && poll(fourth.as_mut()).is_pending());
    gate.open.add_permits(3);
    first.await.unwrap();
    second.await.unwrap();
    let value = tokio::time::timeout(Duration::from_secs(60), third).await;
    let value = value.expect("the loader waits for a place that a mere caller holds");
    assert_eq!(*value.unwrap(), 90);
    assert_eq!(*fourth.await.unwrap(), 90);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_told_of_a_load_finds_it_in_the_statistics() {
    let cache = cache().await;
    for n in 1..=2_000 {
        let fails = |_| async { Err::<u64, _>("down") };
        cache.get_or_load(&1, fails).await.unwrap_err();
        assert_eq!(cache.stats().loads_failed, n);
    }
}

#[tokio::test]
async fn a_caller_cancelled_while_it_waits_for_a_place_leaves_nothing_behind() {
    let cache = Cache::<u64, u64>::builder("test").max_concurrent_loads(1);
    let cache = cache.build().await.unwrap();
    let gate = Gate::new();
    let mut running = pin!(cache.get_or_load(&1, gate.loader()));
    assert!(poll(running.as_mut()).is_pending());
    for _ in 0..3 {
        let mut waiting = Box::pin(cache.get_or_load(&2, gate.loader()));
        assert!(poll(waiting.as_mut()).is_pending());
    }
    gate.open.add_permits(2);
    assert_eq!(*running.await.unwrap(), 10);
    assert_eq!(*cache.get_or_load(&2, gate.loader()).await.unwrap(), 20);
    assert_eq!(gate.loads(), 2);
}

#[test]
fn a_caller_outside_a_runtime_is_served_by_the_runtime_of_the_cache() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let cache = runtime.block_on(cache());
    let caller = std::thread::spawn(move || {
        let mut load = pin!(cache.get_or_load(&1, |k| async move { Ok::<_, Infallible>(k) }));
        loop {
            if let Poll::Ready(value) = poll(load.as_mut()) {
                return *value.unwrap();
            }
            std::thread::yield_now();
        }
    });
    assert_eq!(caller.join().unwrap(), 1);
}
