//! Random histories of processes on one shared tier, with all its faults at once. Time is paused and
//! chance is seeded, so a history that fails does so again.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::fake::{Node, Server};
use crate::{Builder, Cache, Engine, Invalidation, LoadContext, RefreshAhead, Stats, Value};

const KEYS: usize = 12;
const READERS: usize = 4;
const BOUND: Duration = Duration::from_millis(60);
const LASTS: Duration = Duration::from_secs(1);

/// The truth of one key.
#[derive(Default)]
struct Row {
    /// The version in the database.
    written: AtomicU64,
    /// One writer at a time: so versions are published in their order.
    writing: tokio::sync::Mutex<()>,
    /// By process: the highest version whose invalidation or insertion has returned there.
    returned: [AtomicU64; 2],
    /// When an invalidation or an insertion was applied everywhere, and of which version.
    applied: Mutex<VecDeque<(Instant, u64)>>,
}

impl Row {
    /// The version that no read of this process may fall behind which starts now.
    fn oldest_allowed(&self, process: usize) -> u64 {
        let mut applied = self.applied.lock().unwrap();
        let long_ago = |(at, _): &(Instant, u64)| at.elapsed() >= BOUND;
        while applied.get(1).is_some_and(long_ago) {
            applied.pop_front();
        }
        let everywhere = applied.front().filter(|applied| long_ago(applied));
        let everywhere = everywhere.map_or(0, |(_, version)| *version);
        everywhere.max(self.returned[process].load(SeqCst))
    }
}

/// Everything that processes share.
struct World {
    rows: Vec<Row>,
    over: AtomicBool,
    /// Reads that were behind what another process had published, which is allowed for a while.
    behind: AtomicU64,
    deferred: AtomicU64,
}

impl World {
    fn is_over(&self) -> bool {
        self.over.load(SeqCst)
    }
}

fn tag(key: usize) -> String {
    format!("tag:{}", key % 4)
}

/// Takes no time, or a little.
async fn dither() {
    match fastrand::u8(..4) {
        0 => sleep(Duration::from_micros(fastrand::u64(..4_000))).await,
        n => {
            for _ in 0..n {
                tokio::task::yield_now().await;
            }
        }
    }
}

async fn load(world: Arc<World>, key: usize) -> u64 {
    dither().await;
    let version = world.rows[key].written.load(SeqCst);
    dither().await;
    version
}

async fn write(cache: &Cache<usize, u64>, world: &World, process: usize) {
    let key = fastrand::usize(..KEYS);
    let row = &world.rows[key];
    let _writing = row.writing.lock().await;
    let version = row.written.fetch_add(1, SeqCst) + 1;
    dither().await;
    let done = match fastrand::u8(..10) {
        0 => cache.invalidate_all().await,
        1..4 => cache.insert(key, Value::new(version).tag(tag(key))).await,
        4..6 => cache.invalidate_tag(&tag(key)).await,
        _ => cache.invalidate(&key).await,
    };
    row.returned[process].store(version, SeqCst);
    match done.unwrap() {
        Invalidation::Applied => {
            let mut applied = row.applied.lock().unwrap();
            applied.push_back((Instant::now(), version));
        }
        Invalidation::Deferred => drop(world.deferred.fetch_add(1, SeqCst)),
    }
}

async fn read(cache: &Cache<usize, u64>, world: &Arc<World>, process: usize) -> usize {
    let keys: Vec<usize> = (0..3).map(|_| fastrand::usize(..KEYS)).collect();
    let allowed = keys
        .iter()
        .map(|key| world.rows[*key].oldest_allowed(process));
    let allowed: Vec<u64> = allowed.collect();
    let origin = Arc::clone(world);
    let key = keys[0];
    let one = |value: Arc<u64>| vec![(key, value)];
    let seen = match fastrand::u8(..4) {
        0 => cache.get(&key).await.map_or_else(Vec::new, one),
        1 => {
            let load = move |missing: Vec<usize>| async move {
                let mut found = Vec::new();
                for key in missing {
                    let version = load(Arc::clone(&origin), key).await;
                    found.push((key, Value::new(version).tag(tag(key))));
                }
                Ok::<_, Infallible>(found)
            };
            let found = cache.get_many(&keys, load).await.unwrap();
            found.into_iter().collect()
        }
        _ => {
            let load = move |key: usize, cx: LoadContext<u64>| async move {
                let version = load(origin, key).await;
                Ok::<_, Infallible>(cx.value(version).tag(tag(key)))
            };
            let caller = cache.get_or_load_with(&key, load);
            // Some callers give up at once: their loads run on without them.
            let seen = match fastrand::u8(..8) {
                0 => tokio::select! {
                    biased;
                    value = caller => Some(value.unwrap()),
                    () = dither() => None,
                },
                _ => Some(caller.await.unwrap()),
            };
            seen.map_or_else(Vec::new, one)
        }
    };
    for (key, version) in &seen {
        let asked = keys.iter().position(|k| k == key).unwrap();
        assert!(
            **version >= allowed[asked],
            "process {process}, key {key}: read {version}, which {} had replaced",
            allowed[asked]
        );
        let newest = world.rows[*key].written.load(SeqCst);
        if **version < newest {
            world.behind.fetch_add(1, SeqCst);
        }
    }
    seen.len()
}

/// Checks for missed messages, delivers the others and lets things fail.
async fn fate(node: Arc<Node<usize, u64>>, server: Arc<Server<usize, u64>>, world: Arc<World>) {
    while !world.is_over() {
        sleep(Duration::from_micros(fastrand::u64(..8_000))).await;
        match fastrand::u8(..24) {
            0 => node.down.store(true, SeqCst),
            1..5 => node.down.store(false, SeqCst),
            5 => node.deaf.store(true, SeqCst),
            6..9 => node.deaf.store(false, SeqCst),
            9..12 => server.evict(&fastrand::usize(..KEYS)),
            12..15 => node.beat(),
            15..17 => node.tell_deferred(),
            _ => node.deliver(),
        }
    }
}

type With = fn(Builder<usize, u64>) -> Builder<usize, u64>;

/// Two processes: what a reader gets is never older than what its own process published before it
/// asked, nor than what the other one published longer ago than the bound of the bus.
async fn history(seed: u64, with: With) -> (Vec<Stats>, Arc<World>) {
    fastrand::seed(seed);
    let world = Arc::new(World {
        rows: (0..KEYS).map(|_| Row::default()).collect(),
        over: AtomicBool::new(false),
        behind: AtomicU64::new(0),
        deferred: AtomicU64::new(0),
    });
    let server = Server::new();
    let (mut caches, mut tasks) = (Vec::new(), JoinSet::new());
    for process in 0..2 {
        let node = server.node(Some(BOUND));
        node.latency(|| match fastrand::u8(..8) {
            0 => Duration::from_micros(fastrand::u64(..5_000)),
            _ => Duration::ZERO,
        });
        let builder = with(Cache::builder("history"));
        let builder = builder.remote(node.clone(), Some(BOUND));
        let cache = builder.build().await.unwrap();
        tasks.spawn(fate(node, Arc::clone(&server), Arc::clone(&world)));
        for _ in 0..READERS {
            let (cache, world) = (cache.clone(), Arc::clone(&world));
            tasks.spawn(async move {
                while !world.is_over() {
                    read(&cache, &world, process).await;
                    // A hit does not yield, and time passes only when nobody has anything to do.
                    sleep(Duration::from_micros(fastrand::u64(..1_000))).await;
                }
            });
        }
        let writer = (cache.clone(), Arc::clone(&world));
        tasks.spawn(async move {
            let (cache, world) = writer;
            while !world.is_over() {
                write(&cache, &world, process).await;
                sleep(Duration::from_micros(fastrand::u64(..6_000))).await;
            }
        });
        caches.push(cache);
    }
    sleep(LASTS).await;
    world.over.store(true, SeqCst);
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap_or_else(|failed| panic!("seed {seed}: {failed}"));
    }
    (caches.iter().map(Cache::stats).collect(), world)
}

async fn histories(seeds: std::ops::Range<u64>, with: With) {
    for seed in seeds {
        let (stats, world) = history(seed, with).await;
        for stats in &stats {
            let happened = stats.hits > 100
                && stats.remote_hits > 10
                && stats.remote_misses > 10
                && stats.remote_errors > 0
                && stats.loads_superseded > 0;
            assert!(happened, "seed {seed}: {stats:?}");
        }
        let (behind, deferred) = (world.behind.load(SeqCst), world.deferred.load(SeqCst));
        assert!(
            behind > 0 && deferred > 0,
            "seed {seed}: {behind} {deferred}"
        );
    }
}

const RUNS: u64 = 6;

#[tokio::test(start_paused = true)]
async fn no_read_is_staler_than_its_process_and_the_bound_allow() {
    histories(0..RUNS, |builder| builder).await;
}

#[tokio::test(start_paused = true)]
async fn nor_when_entries_are_evicted_all_the_time() {
    histories(100..100 + RUNS, |builder| builder.max_capacity(4)).await;
}

#[cfg(feature = "quick_cache")]
#[tokio::test(start_paused = true)]
async fn nor_with_the_other_engine() {
    histories(200..200 + RUNS, |b| b.engine(Engine::QuickCache)).await;
}

#[tokio::test(start_paused = true)]
async fn nor_when_values_are_served_stale_and_loaded_again_behind_it() {
    histories(300..300 + RUNS, |builder| {
        builder
            .engine(Engine::Moka)
            .time_to_live(Duration::from_millis(20))
            .refresh_ahead(RefreshAhead::Fraction(0.3))
            .stale_while_revalidate(Duration::from_secs(3_600))
    })
    .await;
}
