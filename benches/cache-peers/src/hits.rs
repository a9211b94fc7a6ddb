//! Hits: 1,000 String keys, all of them in memory, asked for in one shuffled order again and again,
//! by one task and by two at once. Every cache that can has a time to live of an hour.

use std::future::Future;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use perf_benches::{Entry, Group};
use perf_cache::Engine;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::Entries;
use crate::stores::{self, MultiTierBytes, QuickGet, QuickInsert, Store, TTL};

const KEYS: usize = 1_000;
const CAPACITY: usize = 10_000;
/// Passes over the keys in one run, so that a run takes milliseconds.
const PASSES: usize = 20;

pub(crate) fn groups(rt: &Arc<Runtime>) -> Vec<Group> {
    let mut groups = Vec::new();
    for tasks in [1, 2] {
        for (name, engine) in [("moka", Engine::Moka), ("quick_cache", Engine::QuickCache)] {
            let asked = (KEYS * PASSES * tasks) as u64;
            let name = format!("cache/hit-{name}/{tasks}");
            groups.push(Group::new(name, asked, entries(rt, engine, tasks)));
        }
    }
    groups
}

fn entries(rt: &Arc<Runtime>, engine: Engine, tasks: usize) -> Vec<Entry> {
    let hits = Hits {
        rt: Arc::clone(rt),
        keys: keys(),
        tasks,
    };
    let capacity = CAPACITY as u64;
    let mut entries = Entries::default();
    hits.add(
        &mut entries,
        "ours",
        stores::ours(engine, capacity, Some(TTL)),
    );
    hits.add(
        &mut entries,
        "ours-no-ttl",
        stores::ours(engine, capacity, None),
    );
    hits.add(&mut entries, "moka-get", ready(stores::moka_get(capacity)));
    hits.add(
        &mut entries,
        "moka-get_with",
        ready(stores::moka_get_with(capacity)),
    );
    let quick = || quick_cache::sync::Cache::new(CAPACITY);
    hits.add(&mut entries, "quick_cache-get", ready(QuickGet(quick())));
    hits.add(
        &mut entries,
        "quick_cache-get_or_insert_async",
        ready(QuickInsert(quick())),
    );
    hits.add(
        &mut entries,
        "cached",
        std::future::ready(stores::cached(CAPACITY)),
    );
    hits.add(&mut entries, "foyer", ready(stores::foyer(CAPACITY)));
    hits.add(
        &mut entries,
        "amalgam-cache",
        std::future::ready(stores::amalgam(capacity)),
    );
    hits.add(
        &mut entries,
        "multi-tier-cache",
        stores::multi_tier(capacity),
    );
    let bytes = async { stores::multi_tier(capacity).await.map(MultiTierBytes) };
    hits.add(&mut entries, "multi-tier-cache-bytes", bytes);
    entries.0
}

async fn ready<S>(store: S) -> Result<S, std::convert::Infallible> {
    Ok(store)
}

fn keys() -> Arc<[String]> {
    let mut keys: Vec<String> = (0..KEYS).map(|i| format!("user:{i}")).collect();
    // A fixed order that is not the one in which they were stored.
    keys.sort_by_key(|key| key.bytes().rev().map(u64::from).fold(7, |a, b| a * 31 + b) % 997);
    keys.into()
}

struct Hits {
    rt: Arc<Runtime>,
    keys: Arc<[String]>,
    tasks: usize,
}

impl Hits {
    /// An entry that asks a cache for each key, `PASSES` times over, in each task.
    fn add<S: Store, E: std::fmt::Display>(
        &self,
        entries: &mut Entries,
        name: &'static str,
        store: impl Future<Output = Result<S, E>>,
    ) {
        let (rt, keys, tasks) = (Arc::clone(&self.rt), Arc::clone(&self.keys), self.tasks);
        let entry = self.rt.block_on(store).map(|store| {
            let store = Arc::new(store);
            rt.block_on(ask(&*store, &keys, 2));
            Entry::new(name, move || {
                rt.block_on(async {
                    let start = Instant::now();
                    let asking: JoinSet<()> = (0..tasks)
                        .map(|_| {
                            let (store, keys) = (Arc::clone(&store), Arc::clone(&keys));
                            async move { ask(&*store, &keys, PASSES).await }
                        })
                        .collect();
                    asking.join_all().await;
                    start.elapsed()
                })
            })
        });
        entries.add(name, entry);
    }
}

async fn ask<S: Store>(store: &S, keys: &[String], passes: usize) {
    for _ in 0..passes {
        for key in keys {
            black_box(store.get(black_box(key)).await);
        }
    }
}
