//! Insertions of new keys into a cache that is full, by its capacity: what one costs must not grow
//! with it, but for what memory costs that no processor cache holds.

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use perf_benches::{Entry, Group};
use perf_cache::{Cache, Engine};
use tokio::runtime::Runtime;

use crate::Entries;
use crate::stores::{self, TTL, User, load};

/// Insertions in one run.
const MANY: u64 = 5_000;
/// The same where one takes long.
const FEW: u64 = 100;

const CAPACITIES: [(u64, &str, &str); 4] = [
    (1_000, "ours", "engine-1k"),
    (10_000, "ours-10k", "engine-10k"),
    (100_000, "ours-100k", "engine-100k"),
    (1_000_000, "ours-1M", "engine-1M"),
];

/// A cache into which something is put.
trait Insert: 'static {
    fn insert(&self, key: String, value: User) -> impl Future<Output = ()>;
}

impl Insert for Cache<String, User> {
    async fn insert(&self, key: String, value: User) {
        let _local = self.insert(key, value).await;
    }
}

impl Insert for moka::sync::Cache<String, Arc<User>> {
    async fn insert(&self, key: String, value: User) {
        self.insert(key, Arc::new(value));
    }
}

impl Insert for quick_cache::sync::Cache<String, Arc<User>> {
    async fn insert(&self, key: String, value: User) {
        self.insert(key, Arc::new(value));
    }
}

impl Insert for amalgam::Cache<Arc<User>> {
    async fn insert(&self, key: String, value: User) {
        let _receipt = self.set(&key, Arc::new(value)).await;
    }
}

/// In each group, `ours` is the one of capacity 1,000, and the others are told by theirs.
pub(crate) fn groups(rt: &Arc<Runtime>) -> Vec<Group> {
    let mut on_moka = Entries::default();
    let mut on_quick = Entries::default();
    for (capacity, ours, engine) in CAPACITIES {
        let cache = rt.block_on(stores::ours(Engine::Moka, capacity, Some(TTL)));
        on_moka.add(
            ours,
            cache.map(|cache| entry(ours, rt, capacity, MANY, cache)),
        );
        let builder = moka::sync::Cache::builder().max_capacity(capacity);
        let moka = builder.time_to_live(TTL).build();
        on_moka.0.push(entry(engine, rt, capacity, MANY, moka));
        let cache = rt.block_on(stores::ours(Engine::QuickCache, capacity, Some(TTL)));
        on_quick.add(
            ours,
            cache.map(|cache| entry(ours, rt, capacity, MANY, cache)),
        );
        let quick = quick_cache::sync::Cache::new(capacity as usize);
        on_quick.0.push(entry(engine, rt, capacity, MANY, quick));
    }
    let mut on_amalgam = Entries::default();
    let ours = rt.block_on(stores::ours(Engine::Moka, 1_000, Some(TTL)));
    on_amalgam.add("ours", ours.map(|ours| entry("ours", rt, 1_000, FEW, ours)));
    for (capacity, name) in [(1_000, "amalgam-1k"), (10_000, "amalgam-10k")] {
        let cache = stores::amalgam(capacity);
        on_amalgam.add(
            name,
            cache.map(|cache| entry(name, rt, capacity, FEW, cache)),
        );
    }
    vec![
        Group::new("cache/insert-moka/5000", MANY, on_moka.0),
        Group::new("cache/insert-quick_cache/5000", MANY, on_quick.0),
        Group::new("cache/insert-amalgam/100", FEW, on_amalgam.0),
    ]
}

/// An entry that puts new keys into a cache that is filled in the first run.
fn entry(
    name: &'static str,
    rt: &Arc<Runtime>,
    capacity: u64,
    insertions: u64,
    cache: impl Insert,
) -> Entry {
    let rt = Arc::clone(rt);
    let mut next = 0;
    Entry::new(name, move || {
        rt.block_on(async {
            while next < capacity {
                insert(&cache, &mut next).await;
            }
            let start = Instant::now();
            for _ in 0..insertions {
                insert(&cache, &mut next).await;
            }
            start.elapsed()
        })
    })
}

async fn insert(cache: &impl Insert, next: &mut u64) {
    let key = format!("user:{next}");
    let value = load(&key);
    cache.insert(key, value).await;
    *next += 1;
}
