//! The works of perf-cache.
//!
//! `warm`: `get_or_load` of 1,000 String keys with 100-byte values, all of them in memory, by one
//! task; every cache that can has a time to live. `cold`: 1,000 concurrent callers of one missing
//! key, whose load takes a millisecond on a backend that serves ten at a time. `redis-reads`: 64 tasks
//! that read values which are in Redis.

mod redis_reads;

use std::collections::HashMap;
use std::convert::Infallible;
use std::hash::Hash;
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use perf_cache::{BuildError, Cache, Engine};
use tokio::runtime::Runtime;
use tokio::sync::{AcquireError, Semaphore};
use tokio::task::JoinSet;

use crate::{Entry, Group};

const KEYS: usize = 1_000;
const CAPACITY: u64 = 10_000;
const TTL: Duration = Duration::from_secs(3_600);
/// Passes over the keys in one run, so that a run takes milliseconds.
const PASSES: usize = 20;
const CALLERS: usize = 1_000;
const LOAD: Duration = Duration::from_millis(1);

type Value = Vec<u8>;

/// The groups of perf-cache.
pub fn groups(rt: &Arc<Runtime>) -> Vec<Group> {
    let groups = warm(rt).and_then(|mut groups| {
        groups.push(cold(rt)?);
        Ok(groups)
    });
    let mut groups = groups.unwrap_or_else(|error| {
        eprintln!("cache: left out: {error}");
        Vec::new()
    });
    match redis_reads::group(rt) {
        Ok(group) => groups.extend(group),
        Err(error) => eprintln!("cache/redis-reads: left out: {error}"),
    }
    groups
}

fn ours<K>(rt: &Runtime, engine: Engine) -> Result<Cache<K, Value>, BuildError>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
{
    let builder = Cache::builder("bench")
        .max_capacity(CAPACITY)
        .engine(engine);
    rt.block_on(builder.time_to_live(TTL).jitter(0.1).build())
}

fn load() -> Value {
    vec![7; 100]
}

/// An entry that looks up each key, `PASSES` times over.
fn lookups<S: 'static>(
    name: &'static str,
    rt: &Arc<Runtime>,
    store: S,
    get: impl AsyncFn(&S, &String) -> Arc<Value> + 'static,
) -> Entry {
    let rt = Arc::clone(rt);
    let keys: Vec<String> = (0..KEYS).map(|i| format!("user:{i}")).collect();
    Entry::timed(name, move || {
        rt.block_on(async {
            for _ in 0..PASSES {
                for key in &keys {
                    black_box(get(&store, black_box(key)).await);
                }
            }
        });
    })
}

/// Hits on each engine, beside the engine itself and its own way to load what is missing.
fn warm(rt: &Arc<Runtime>) -> Result<Vec<Group>, BuildError> {
    let load_ours = async |cache: &Cache<String, Value>, key: &String| {
        let value = cache.get_or_load(key, async |_| Ok::<_, Infallible>(load()));
        value.await.unwrap_or_default()
    };
    let peer = moka::future::Cache::builder()
        .max_capacity(CAPACITY)
        .time_to_live(TTL)
        .build();
    let quick = || quick_cache::sync::Cache::<String, Arc<Value>>::new(CAPACITY as usize);
    let moka_floor = moka::sync::Cache::builder()
        .max_capacity(CAPACITY)
        .time_to_live(TTL)
        .build();
    let naive = RwLock::new(HashMap::<String, Arc<Value>>::new());
    let on_moka = vec![
        lookups("ours", rt, ours(rt, Engine::Moka)?, load_ours),
        lookups("moka", rt, peer, async |cache, key| {
            let value =
                cache.try_get_with_by_ref(key, async { Ok::<_, Infallible>(Arc::new(load())) });
            value.await.unwrap_or_default()
        }),
        lookups("naive", rt, naive, async |map, key| {
            let hit = read(map).get(key).cloned();
            hit.unwrap_or_else(|| {
                let value = Arc::new(load());
                write(map).insert(key.clone(), Arc::clone(&value));
                value
            })
        }),
        lookups("floor", rt, moka_floor, async |cache, key| {
            cache.get(key).unwrap_or_else(|| {
                let value = Arc::new(load());
                cache.insert(key.clone(), Arc::clone(&value));
                value
            })
        }),
    ];
    let on_quick = vec![
        lookups("ours", rt, ours(rt, Engine::QuickCache)?, load_ours),
        lookups("quick_cache", rt, quick(), async |cache, key| {
            let value =
                cache.get_or_insert_async(key, async { Ok::<_, Infallible>(Arc::new(load())) });
            value.await.unwrap_or_default()
        }),
        lookups("floor", rt, quick(), async |cache, key| {
            cache.get(key).unwrap_or_else(|| {
                let value = Arc::new(load());
                cache.insert(key.clone(), Arc::clone(&value));
                value
            })
        }),
    ];
    let lookups = (KEYS * PASSES) as u64;
    Ok(vec![
        Group::new("cache/warm-moka/1000", lookups, on_moka),
        Group::new("cache/warm-quick/1000", lookups, on_quick),
    ])
}

/// A backend that serves ten at a time, as a database behind a pool does, and counts.
struct Backend {
    connections: Semaphore,
    loads: AtomicU64,
}

impl Backend {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            connections: Semaphore::new(10),
            loads: AtomicU64::new(0),
        })
    }

    async fn load(&self) -> Result<Value, AcquireError> {
        let _connection = self.connections.acquire().await?;
        self.loads.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(LOAD).await;
        Ok(load())
    }
}

/// An entry in which all callers ask for one key at once, in tasks of their own; `forget` makes
/// it a missing key first. Says after its first run how many loads that took.
fn callers<S, F>(
    name: &'static str,
    rt: &Arc<Runtime>,
    store: S,
    forget: impl AsyncFn(&S) + 'static,
    ask: impl Fn(S, Arc<Backend>) -> F + 'static,
) -> Entry
where
    S: Clone + 'static,
    F: Future<Output = Arc<Value>> + Send + 'static,
{
    let rt = Arc::clone(rt);
    let backend = Backend::new();
    Entry::new(name, move || {
        rt.block_on(async {
            forget(&store).await;
            let first = backend.loads.load(Ordering::Relaxed) == 0;
            let start = Instant::now();
            let tasks: JoinSet<_> = (0..CALLERS)
                .map(|_| ask(store.clone(), Arc::clone(&backend)))
                .collect();
            black_box(tasks.join_all().await);
            let took = start.elapsed();
            if first {
                let loads = backend.loads.load(Ordering::Relaxed);
                eprintln!("cache/cold/1000: {name} took {loads} loads");
            }
            took
        })
    })
}

fn cold(rt: &Arc<Runtime>) -> Result<Group, BuildError> {
    let peer = moka::future::Cache::<u64, Arc<Value>>::new(CAPACITY);
    let naive = Arc::new(RwLock::new(HashMap::<u64, Arc<Value>>::new()));
    let entries = vec![
        callers(
            "ours",
            rt,
            ours::<u64>(rt, Engine::Moka)?,
            async |cache| {
                let _local = cache.invalidate(&1).await;
            },
            |cache, backend| async move {
                let value = cache.get_or_load(&1, async move |_| backend.load().await);
                value.await.unwrap_or_default()
            },
        ),
        callers(
            "moka",
            rt,
            peer,
            async |cache| cache.invalidate(&1).await,
            |cache, backend| async move {
                let value = cache.try_get_with(1, async { backend.load().await.map(Arc::new) });
                value.await.unwrap_or_default()
            },
        ),
        callers(
            "naive",
            rt,
            naive,
            async |map| {
                write(map).remove(&1);
            },
            |map, backend| async move {
                if let Some(value) = read(&map).get(&1) {
                    return Arc::clone(value);
                }
                let value = Arc::new(backend.load().await.unwrap_or_default());
                write(&map).insert(1, Arc::clone(&value));
                value
            },
        ),
    ];
    Ok(Group::new("cache/cold/1000", CALLERS as u64, entries))
}

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
