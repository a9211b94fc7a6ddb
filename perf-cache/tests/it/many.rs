use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use perf_cache::{Cache, LoadError};
use tokio::sync::Semaphore;

/// An origin of many rows that notes what it was asked for, and answers when it may.
#[derive(Clone)]
struct Origin {
    asked: Arc<Mutex<Vec<Vec<u64>>>>,
    open: Arc<Semaphore>,
}

impl Origin {
    fn new(calls: usize) -> Self {
        Self {
            asked: Arc::default(),
            open: Arc::new(Semaphore::new(calls)),
        }
    }

    /// Even keys only; ten times the key.
    async fn rows(self, keys: Vec<u64>) -> Result<HashMap<u64, u64>, &'static str> {
        self.asked.lock().unwrap().push(keys.clone());
        self.open.acquire().await.unwrap().forget();
        if keys.contains(&999_999) {
            return Err("down");
        }
        let even = keys.into_iter().filter(|key| key % 2 == 0);
        Ok(even.map(|key| (key, key * 10)).collect())
    }

    fn asked(&self) -> Vec<Vec<u64>> {
        self.asked.lock().unwrap().clone()
    }
}

async fn cache() -> Cache<u64, u64> {
    Cache::builder("many").build().await.unwrap()
}

async fn get(cache: &Cache<u64, u64>, keys: &[u64], origin: &Origin) -> Vec<(u64, u64)> {
    let origin = origin.clone();
    let found = cache.get_many(keys, move |missing| origin.rows(missing));
    let mut found: Vec<_> = found
        .await
        .unwrap()
        .into_iter()
        .map(|(k, v)| (k, *v))
        .collect();
    found.sort_unstable();
    found
}

#[tokio::test]
async fn a_thousand_missing_keys_are_one_call_of_the_loader_and_then_hits() {
    let (cache, origin) = (cache().await, Origin::new(1));
    let keys: Vec<u64> = (0..1_000).map(|key| key * 2).collect();
    assert_eq!(get(&cache, &keys, &origin).await.len(), 1_000);
    assert_eq!(origin.asked(), std::slice::from_ref(&keys));
    assert_eq!(get(&cache, &keys, &origin).await.len(), 1_000);
    assert_eq!(origin.asked().len(), 1);
    assert_eq!((cache.stats().hits, cache.stats().loads), (1_000, 1));
}

#[tokio::test]
async fn the_loader_gets_exactly_the_misses_each_once() {
    let (cache, origin) = (cache().await, Origin::new(2));
    cache.insert(2, 7).await.unwrap();
    let found = get(&cache, &[2, 4, 5, 4, 6], &origin).await;
    assert_eq!(found, [(2, 7), (4, 40), (6, 60)]);
    assert_eq!(origin.asked(), [[4, 5, 6]]);
    assert_eq!(
        get(&cache, &[5], &origin).await,
        [],
        "what is not there is asked for again"
    );
    assert_eq!(origin.asked().len(), 2);
    assert_eq!(get(&cache, &[], &origin).await, []);
}

#[tokio::test]
async fn callers_of_single_keys_and_of_many_share_their_loads() {
    let (cache, origin) = (cache().await, Origin::new(0));
    let many = {
        let (cache, origin) = (cache.clone(), origin.clone());
        tokio::spawn(async move { get(&cache, &[2, 4], &origin).await })
    };
    tokio::task::yield_now().await;
    let single = {
        let cache = cache.clone();
        tokio::spawn(async move {
            let load = |_| async { Err::<u64, _>("loaded twice") };
            *cache.get_or_load(&4, load).await.unwrap()
        })
    };
    // And many more, of which one is new.
    let more = {
        let (cache, origin) = (cache.clone(), origin.clone());
        tokio::spawn(async move { get(&cache, &[2, 4, 8], &origin).await })
    };
    tokio::task::yield_now().await;
    origin.open.add_permits(2);
    assert_eq!(many.await.unwrap(), [(2, 20), (4, 40)]);
    assert_eq!(single.await.unwrap(), 40);
    assert_eq!(more.await.unwrap(), [(2, 20), (4, 40), (8, 80)]);
    assert_eq!(origin.asked(), [vec![2, 4], vec![8]]);
}

#[tokio::test]
async fn a_key_that_a_load_of_many_did_not_find_is_loaded_by_who_waits_for_it_alone() {
    let (cache, origin) = (cache().await, Origin::new(0));
    let many = {
        let (cache, origin) = (cache.clone(), origin.clone());
        tokio::spawn(async move { get(&cache, &[3], &origin).await })
    };
    tokio::task::yield_now().await;
    let single = {
        let cache = cache.clone();
        tokio::spawn(async move {
            let load = |key| async move { Ok::<_, LoadError>(key) };
            *cache.get_or_load(&3, load).await.unwrap()
        })
    };
    tokio::task::yield_now().await;
    origin.open.add_permits(1);
    assert_eq!(many.await.unwrap(), []);
    assert_eq!(single.await.unwrap(), 3);
}

#[tokio::test]
async fn keys_invalidated_while_they_are_loaded_are_not_kept() {
    let (cache, origin) = (cache().await, Origin::new(0));
    let many = {
        let (cache, origin) = (cache.clone(), origin.clone());
        tokio::spawn(async move { get(&cache, &[2, 4], &origin).await })
    };
    tokio::task::yield_now().await;
    cache.invalidate(&2).await.unwrap();
    origin.open.add_permits(1);
    assert_eq!(many.await.unwrap(), [(2, 20), (4, 40)]);
    assert_eq!(cache.get(&2).await, None);
    assert!(cache.get(&4).await.is_some());
}

#[tokio::test]
async fn the_error_of_the_loader_reaches_the_caller_and_nothing_is_kept() {
    let (cache, origin) = (cache().await, Origin::new(1));
    let load = origin.clone();
    let error = cache
        .get_many(&[2, 999_999], move |missing| load.rows(missing))
        .await;
    assert!(matches!(error, Err(LoadError::Failed(_))));
    assert_eq!(cache.get(&2).await, None);
    let panics = |_| async { panic!("bug") as Result<Vec<(u64, u64)>, &str> };
    let error = cache.get_many(&[2], panics).await;
    assert!(matches!(error, Err(LoadError::Panicked(_))));
}

#[tokio::test(start_paused = true)]
async fn stale_values_stand_in_for_the_keys_whose_load_fails() {
    let ttl = Duration::from_secs(10);
    let builder = Cache::builder("many").time_to_live(ttl).stale_if_error(ttl);
    let (cache, origin) = (builder.build().await.unwrap(), Origin::new(9));
    get(&cache, &[2], &origin).await;
    tokio::time::advance(ttl).await;
    let down = |_| async { Err::<Vec<(u64, u64)>, _>("down") };
    assert_eq!(*cache.get_many(&[2], down).await.unwrap()[&2], 20);
    cache.get_many(&[2, 4], down).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn values_about_to_expire_are_refreshed_by_one_call_behind_the_caller() {
    let ttl = Duration::from_secs(10);
    let builder = Cache::builder("many")
        .time_to_live(ttl)
        .stale_while_revalidate(ttl);
    let (cache, origin) = (builder.build().await.unwrap(), Origin::new(9));
    get(&cache, &[2, 4], &origin).await;
    tokio::time::advance(ttl).await;
    assert_eq!(get(&cache, &[2, 4, 6], &origin).await.len(), 3);
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    let mut asked = origin.asked();
    asked.sort();
    assert_eq!(asked, [vec![2, 4], vec![2, 4], vec![6]]);
    tokio::time::advance(ttl / 2).await;
    get(&cache, &[2, 4, 6], &origin).await;
    assert_eq!(cache.stats().stale, 2, "they are fresh again");
}

#[tokio::test]
async fn warming_loads_by_the_thousand_what_is_not_there() {
    let (cache, origin) = (cache().await, Origin::new(9));
    cache.insert(0, 0).await.unwrap();
    let load = origin.clone();
    let warmed = cache
        .warm(0..2_500, move |missing| load.rows(missing))
        .await;
    assert_eq!(warmed.unwrap(), 1_250);
    let calls: Vec<usize> = origin.asked().iter().map(Vec::len).collect();
    assert_eq!(calls, [999, 1_000, 500]);
}
