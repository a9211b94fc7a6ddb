use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use perf_cache::{Builder, Cache, Engine, Invalidation, LoadContext, Stats, Value};
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

fn tag(key: usize) -> String {
    format!("tag:{}", key % 4)
}

/// Loads the version of a key, in its own time.
async fn load(rows: Arc<Vec<Row>>, key: usize) -> u64 {
    dither().await;
    let version = rows[key].written.load(Ordering::SeqCst);
    dither().await;
    version
}

/// Readers ask for random keys, one or many, while writers change them and invalidate: what a
/// reader gets must not be older than what was published before it asked.
async fn no_read_is_older_than_the_last_invalidation(
    with: impl FnOnce(Builder<usize, u64>) -> Builder<usize, u64>,
) -> Stats {
    let cache = with(Cache::<usize, u64>::builder("history"));
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
                let done = match fastrand::u8(..10) {
                    0 => cache.invalidate_all().await,
                    1..3 => cache.insert(key, Value::new(version).tag(tag(key))).await,
                    3..5 => cache.invalidate_tag(&tag(key)).await,
                    _ => cache.invalidate(&key).await,
                };
                assert_eq!(done.unwrap(), Invalidation::Applied);
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
                reads += read(&cache, &rows).await;
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
    stats
}

/// One reader's read, of one key or of several; how many values it saw.
async fn read(cache: &Cache<usize, u64>, rows: &Arc<Vec<Row>>) -> u64 {
    let keys: Vec<usize> = (0..4).map(|_| fastrand::usize(..KEYS)).collect();
    let published = |key: &usize| rows[*key].published.load(Ordering::SeqCst);
    let published: Vec<u64> = keys.iter().map(published).collect();
    let key = keys[0];
    let origin = Arc::clone(rows);
    let seen: Vec<(usize, Arc<u64>)> = match fastrand::u8(..4) {
        0 => cache
            .get(&key)
            .await
            .into_iter()
            .map(|v| (key, v))
            .collect(),
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
            let seen = if fastrand::u8(..8) == 0 {
                tokio::select! {
                    biased;
                    value = caller => value.ok(),
                    () = dither() => None,
                }
            } else {
                Some(caller.await.unwrap())
            };
            seen.into_iter().map(|v| (key, v)).collect()
        }
    };
    for (key, version) in &seen {
        let asked = keys.iter().position(|k| k == key).unwrap();
        let published = published[asked];
        assert!(
            **version >= published,
            "key {key}: read version {version}, but {published} was published before"
        );
    }
    seen.len() as u64
}

const ENGINES: &[Engine] = &[
    Engine::Moka,
    #[cfg(feature = "quick_cache")]
    Engine::QuickCache,
];

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_read_is_older_than_the_last_invalidation_that_returned_before_it() {
    for engine in ENGINES {
        no_read_is_older_than_the_last_invalidation(|c| c.engine(*engine)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nor_is_it_when_entries_are_evicted_all_the_time() {
    for engine in ENGINES {
        no_read_is_older_than_the_last_invalidation(|c| c.engine(*engine).max_capacity(8)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nor_is_it_when_values_are_served_stale_and_loaded_again_behind_it() {
    for engine in ENGINES {
        let stats = no_read_is_older_than_the_last_invalidation(|c| {
            c.engine(*engine)
                .time_to_live(Duration::from_micros(50))
                .stale_while_revalidate(Duration::from_secs(3_600))
        });
        assert!(stats.await.stale > 0);
    }
}
