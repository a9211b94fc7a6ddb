use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use perf_cache::Cache;
use tokio::task::JoinSet;

const KEYS: usize = 24;
const READERS: usize = 12;
const WRITES: i64 = 4_000;

/// The truth, and what no reader may fall behind any more.
#[derive(Default)]
struct Row {
    /// The version in the database.
    written: AtomicU64,
    /// The highest version whose invalidation, or insertion, has returned.
    published: AtomicU64,
}

/// Yields a random number of times, so that every run interleaves otherwise.
async fn dither() {
    for _ in 0..fastrand::u8(..6) {
        tokio::task::yield_now().await;
    }
}

/// Readers ask for random keys while writers change them and invalidate: what a reader gets must
/// not be older than what was published before it asked. A small capacity adds evictions.
async fn no_read_is_older_than_the_last_invalidation(capacity: u64) {
    let cache = Cache::<usize, u64>::builder("history").max_capacity(capacity);
    let cache = cache.build().await.unwrap();
    let rows: Arc<Vec<Row>> = Arc::new((0..KEYS).map(|_| Row::default()).collect());
    let left = Arc::new(AtomicI64::new(WRITES));
    let mut tasks = JoinSet::new();

    // Each writer has keys of its own, so that the versions of a key are published in order.
    for writer in 0..2 {
        let (cache, rows, left) = (cache.clone(), Arc::clone(&rows), Arc::clone(&left));
        tasks.spawn(async move {
            while left.load(Ordering::SeqCst) > 0 {
                let key = fastrand::usize(..KEYS / 2) * 2 + writer;
                let version = rows[key].written.fetch_add(1, Ordering::SeqCst) + 1;
                dither().await;
                match fastrand::u8(..10) {
                    0 => cache.invalidate_all().await,
                    1..4 => cache.insert(key, version).await,
                    _ => cache.invalidate(&key).await,
                }
                rows[key].published.store(version, Ordering::SeqCst);
                left.fetch_sub(1, Ordering::SeqCst);
                dither().await;
            }
            0
        });
    }
    for _ in 0..READERS {
        let (cache, rows, left) = (cache.clone(), Arc::clone(&rows), Arc::clone(&left));
        tasks.spawn(async move {
            let mut reads = 0_u64;
            while left.load(Ordering::SeqCst) > 0 {
                // A hit does not yield.
                tokio::task::yield_now().await;
                let key = fastrand::usize(..KEYS);
                let published = rows[key].published.load(Ordering::SeqCst);
                let seen = if fastrand::u8(..4) == 0 {
                    cache.get(&key).await
                } else {
                    let rows = Arc::clone(&rows);
                    let load = move |key: usize| async move {
                        dither().await;
                        let version = rows[key].written.load(Ordering::SeqCst);
                        dither().await;
                        Ok::<_, Infallible>(version)
                    };
                    let caller = cache.get_or_load(&key, load);
                    // Some callers give up at once: their loads run on without them.
                    if fastrand::u8(..8) == 0 {
                        tokio::select! {
                            biased;
                            value = caller => value.ok(),
                            () = dither() => None,
                        }
                    } else {
                        Some(caller.await.unwrap())
                    }
                };
                if let Some(seen) = seen {
                    assert!(
                        *seen >= published,
                        "key {key}: read version {seen}, but {published} was published before"
                    );
                    reads += 1;
                }
            }
            reads
        });
    }
    let reads: u64 = tasks.join_all().await.into_iter().sum();
    let stats = cache.stats();
    assert!(reads > 1_000 && stats.hits > 0, "{reads} reads, {stats:?}");
    assert!(
        stats.loads_superseded > 0,
        "nothing was raced for: {stats:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_read_is_older_than_the_last_invalidation_that_returned_before_it() {
    no_read_is_older_than_the_last_invalidation(1_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nor_is_it_when_entries_are_evicted_all_the_time() {
    no_read_is_older_than_the_last_invalidation(8).await;
}
