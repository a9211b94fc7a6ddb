//! Keys and values whose own code panics, or calls the cache.

use std::convert::Infallible;
use std::hash::{Hash, Hasher};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use perf_cache::{Cache, LoadError};

/// A key that panics when its fuse has burnt down: each `Hash`, `Eq` and `Clone` burns one.
#[derive(Debug)]
struct Key(u64, Arc<AtomicI64>);

const SAFE: i64 = i64::MAX;

impl Key {
    fn new(id: u64) -> Self {
        Self(id, Arc::new(AtomicI64::new(SAFE)))
    }

    fn burn(&self) {
        if self.1.load(Ordering::Relaxed) != SAFE && self.1.fetch_sub(1, Ordering::Relaxed) == 0 {
            self.1.store(SAFE, Ordering::Relaxed);
            panic!("the key's own code");
        }
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.burn();
        self.0.hash(state);
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.burn();
        self.0 == other.0
    }
}

impl Eq for Key {}

impl Clone for Key {
    fn clone(&self) -> Self {
        self.burn();
        Self(self.0, Arc::clone(&self.1))
    }
}

#[tokio::test]
async fn a_key_that_panics_at_the_end_of_its_load_can_be_loaded_again() {
    for fuse in 0..12 {
        let cache = Cache::<Key, u64>::builder("test").build().await.unwrap();
        let key = Key::new(1);
        let load = move |key: Key| async move {
            // The next to use the key is the cache, when it ends the load.
            key.1.store(fuse, Ordering::Relaxed);
            Ok::<_, Infallible>(10)
        };
        let value = cache.get_or_load(&key, load).await;
        assert_eq!(value.as_deref().ok(), Some(&10), "fuse {fuse}");
        key.1.store(SAFE, Ordering::Relaxed);
        let load = |_| async { Ok::<_, Infallible>(10) };
        for _ in 0..2 {
            assert_eq!(*cache.get_or_load(&key, load).await.unwrap(), 10);
        }
        assert_eq!(cache.get(&key).await.as_deref(), Some(&10));
        assert_eq!(cache.stats().entries, 1, "fuse {fuse}");
    }
}

#[tokio::test]
async fn a_key_that_panics_anywhere_leaves_a_cache_that_works_and_counts() {
    for fuse in 0..12 {
        let cache = Cache::<Key, u64>::builder("test").build().await.unwrap();
        let key = Key::new(1);
        let arm = || key.1.store(fuse, Ordering::Relaxed);
        let disarm = || key.1.store(SAFE, Ordering::Relaxed);
        // None of these futures waits.
        let _ = catch_unwind(AssertUnwindSafe(|| {
            let key = key.clone();
            arm();
            now(cache.insert(key, 1)).unwrap();
        }));
        disarm();
        let there = u64::from(cache.get(&key).await.is_some());
        assert_eq!(cache.stats().entries, there, "fuse {fuse}");
        let _ = catch_unwind(AssertUnwindSafe(|| {
            arm();
            now(cache.invalidate(&key)).unwrap();
        }));
        disarm();
        arm();
        let asked = tokio::spawn({
            let (cache, key) = (cache.clone(), Key(1, Arc::clone(&key.1)));
            async move {
                let load = |_| async { Ok::<_, Infallible>(2) };
                cache.get_or_load(&key, load).await
            }
        });
        let _ = asked.await;
        disarm();
        cache.insert(Key(1, Arc::clone(&key.1)), 3).await.unwrap();
        assert_eq!(cache.get(&key).await.as_deref(), Some(&3));
        cache.invalidate(&key).await.unwrap();
        assert_eq!(cache.get(&key).await, None);
        assert_eq!(cache.stats().entries, 0, "fuse {fuse}");
        let load = |_| async { Ok::<_, Infallible>(4) };
        assert_eq!(*cache.get_or_load(&key, load).await.unwrap(), 4);
    }
}

fn now<T>(future: impl Future<Output = T>) -> T {
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).poll(&mut cx) {
        std::task::Poll::Ready(value) => value,
        std::task::Poll::Pending => panic!("waits"),
    }
}

/// What a loader holds, and what it panics with when it goes.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("destructor");
        }
    }
}

struct Unprintable;

impl From<Unprintable> for Box<dyn std::error::Error + Send + Sync> {
    fn from(_: Unprintable) -> Self {
        panic!("conversion")
    }
}

#[tokio::test]
async fn a_panic_around_the_loader_is_reported_as_the_loaders() {
    let cache = Cache::<Key, u64>::builder("test").build().await.unwrap();
    let key = Key::new(1);
    let destructor = |_| {
        let bomb = Bomb;
        std::future::poll_fn(move |_| {
            let _held = &bomb;
            std::task::Poll::Ready(Ok::<_, io::Error>(1))
        })
    };
    let conversion = |_| async { Err(Unprintable) };
    let errors = [
        cache.get_or_load(&key, destructor).await.unwrap_err(),
        cache.get_or_load(&key, conversion).await.unwrap_err(),
    ];
    for (error, message) in errors.iter().zip(["destructor", "conversion"]) {
        assert!(matches!(error, LoadError::Panicked(_)), "{error}");
        assert!(error.to_string().ends_with(message), "{error}");
    }
    assert_eq!(cache.stats().loads_failed, 2);
}

/// A value whose destructor uses the cache that held it, in every way there is.
struct Caller {
    id: u64,
    cache: Cache<u64, Option<Caller>>,
    died: Arc<AtomicU64>,
}

impl Drop for Caller {
    fn drop(&mut self) {
        now(self.cache.get(&self.id));
        now(self.cache.insert(self.id, None)).unwrap();
        now(self.cache.invalidate(&self.id)).unwrap();
        self.cache.stats();
        self.died.fetch_add(1, Ordering::Relaxed);
    }
}

/// Runs `work` in a thread of its own: a deadlock fails the test instead of hanging it.
fn within_a_minute(work: impl FnOnce() + Send + 'static) {
    let (done, is_done) = mpsc::channel();
    std::thread::spawn(move || {
        work();
        done.send(()).unwrap();
    });
    is_done.recv_timeout(Duration::from_secs(60)).unwrap();
}

#[test]
fn the_destructor_of_a_value_may_call_the_cache() {
    within_a_minute(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        for capacity in [0, 10, 10_000] {
            let cache = Cache::builder("test").max_capacity(capacity);
            let cache = runtime.block_on(cache.build()).unwrap();
            let died = Arc::new(AtomicU64::new(0));
            let value = |id| {
                let (cache, died) = (cache.clone(), Arc::clone(&died));
                Some(Caller { id, cache, died })
            };
            runtime.block_on(async {
                for id in 0..1_000 {
                    cache.insert(id, value(id)).await.unwrap();
                    cache.insert(id, value(id)).await.unwrap();
                    cache.get(&(id / 2)).await;
                    cache.invalidate(&(id / 3)).await.unwrap();
                    let loaded = value(id);
                    let load = move |_| async move { Ok::<_, Infallible>(loaded) };
                    cache.get_or_load(&id, load).await.unwrap();
                }
                // Here it is the later invalidations that find what is to be destroyed.
                for id in 0..1_000 {
                    cache.insert(id, value(id)).await.unwrap();
                }
                for id in 0..1_000 {
                    cache.invalidate(&id).await.unwrap();
                }
                // And here hits and misses.
                for _ in 0..20 {
                    for id in 0..40 {
                        cache.insert(id, value(id)).await.unwrap();
                    }
                    cache.invalidate_all().await.unwrap();
                    for id in 0..400 {
                        cache.get(&(10_000 + id)).await;
                    }
                }
            });
            cache.stats();
            assert!(died.load(Ordering::Relaxed) > 1_000);
        }
    });
}

/// A value that panics when it is destroyed.
struct Grenade(Arc<AtomicU64>);

impl Drop for Grenade {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
        panic!("destructor");
    }
}

#[tokio::test]
async fn values_whose_destructors_panic_disturb_neither_callers_nor_counts() {
    let cache = Cache::<u64, Grenade>::builder("test").max_capacity(10);
    let cache = cache.build().await.unwrap();
    let died = Arc::new(AtomicU64::new(0));
    for id in 0..50 {
        for _ in 0..2 {
            cache.insert(id, Grenade(Arc::clone(&died))).await.unwrap();
        }
        let superseded = {
            let (cache, died) = (cache.clone(), Arc::clone(&died));
            move |id| async move {
                cache.invalidate(&id).await.unwrap();
                Ok::<_, Infallible>(Grenade(died))
            }
        };
        cache.invalidate(&id).await.unwrap();
        {
            // Its caller is gone before it ends.
            let caller = std::pin::pin!(cache.get_or_load(&id, superseded));
            let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
            assert!(caller.poll(&mut cx).is_pending());
        }
        while cache.stats().loads_superseded < id + 1 {
            tokio::task::yield_now().await;
        }
        cache.insert(id, Grenade(Arc::clone(&died))).await.unwrap();
    }
    let stats = cache.stats();
    assert_eq!((stats.entries, stats.evictions), (10, 40));
    drop(cache);
    assert!(died.load(Ordering::Relaxed) > 100);
}
