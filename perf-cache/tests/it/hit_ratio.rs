//! What a cache keeps is worth as much as what its engine keeps by itself.

use std::convert::Infallible;

use perf_cache::{Cache, Engine};

const KEYS: usize = 100_000;
const CAPACITY: u64 = 1_000;
const REQUESTS: usize = 200_000;
/// How far two runs may be apart: engines pick what to evict partly by chance.
const CHANCE: f64 = 0.01;

/// Keys by a zipf distribution of exponent 0.9; with scans, every 10,000 of them are followed by
/// 2,000 keys that are asked for once.
fn requests(scans: bool) -> Vec<u64> {
    let mut sum = 0.0;
    let weights: Vec<f64> = (1..=KEYS)
        .map(|rank| {
            sum += (rank as f64).powf(-0.9);
            sum
        })
        .collect();
    let mut random = fastrand::Rng::with_seed(42);
    let mut scanned = KEYS as u64;
    let mut requests = Vec::new();
    for at in 1..=REQUESTS {
        let point = random.f64() * sum;
        requests.push(weights.partition_point(|weight| *weight < point) as u64);
        if scans && at % 10_000 == 0 {
            requests.extend(scanned..scanned + 2_000);
            scanned += 2_000;
        }
    }
    requests
}

async fn ours(engine: Engine, requests: &[u64]) -> f64 {
    let builder = Cache::<u64, u64>::builder("hit_ratio").engine(engine);
    let cache = builder.max_capacity(CAPACITY).build().await.unwrap();
    for key in requests {
        let load = |key| async move { Ok::<_, Infallible>(key) };
        assert_eq!(*cache.get_or_load(key, load).await.unwrap(), *key);
    }
    cache.stats().hit_ratio()
}

fn bare(requests: &[u64], get_or_insert: impl Fn(u64) -> bool) -> f64 {
    let hits = requests.iter().filter(|key| get_or_insert(**key)).count();
    hits as f64 / requests.len() as f64
}

async fn is_not_below(engine: Engine, get_or_insert: impl Fn() -> Box<dyn Fn(u64) -> bool>) {
    for scans in [false, true] {
        let requests = requests(scans);
        let (ours, bare) = (
            ours(engine, &requests).await,
            bare(&requests, get_or_insert()),
        );
        println!("{engine:?}, scans {scans}: {ours:.4}, by itself {bare:.4}");
        assert!(
            ours >= bare - CHANCE,
            "{engine:?}, scans {scans}: {ours} < {bare}"
        );
        assert!(bare > 0.3, "{bare}");
    }
}

#[tokio::test]
async fn on_moka_it_is_not_below_that_of_moka_itself() {
    is_not_below(Engine::Moka, || {
        let moka = moka::sync::Cache::new(CAPACITY);
        Box::new(move |key| {
            let hit = moka.get(&key).is_some();
            if !hit {
                moka.insert(key, key);
            }
            hit
        })
    })
    .await;
}

#[cfg(feature = "quick_cache")]
#[tokio::test]
async fn on_quick_cache_it_is_not_below_that_of_quick_cache_itself() {
    is_not_below(Engine::QuickCache, || {
        let quick = quick_cache::sync::Cache::new(CAPACITY as usize);
        Box::new(move |key| {
            let hit = quick.get(&key).is_some();
            if !hit {
                quick.insert(key, key);
            }
            hit
        })
    })
    .await;
}
