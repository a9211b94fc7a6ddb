//! What `get_many` costs Redis.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use perf_cache::Cache;

use super::{Origin, behind_proxy, until_there};

/// How often the server has run a script, and been asked for many values at once, also by scripts.
async fn calls(url: &str) -> [u64; 2] {
    let client = redis::Client::open(url).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut info = redis::cmd("INFO");
    let info: String = info
        .arg("commandstats")
        .query_async(&mut connection)
        .await
        .unwrap();
    ["evalsha", "mget"].map(|command| {
        let start = format!("cmdstat_{command}:calls=");
        let line = info.lines().find_map(|line| line.strip_prefix(&start));
        let calls = line.and_then(|line| line.split(',').next());
        calls.map_or(0, |calls| calls.parse().unwrap())
    })
}

/// Also of a process that has found nearly all of what it looked for in Redis before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_keys_that_are_nowhere_are_one_round_trip_and_one_call_of_the_loader() {
    let Some((server, proxy, tier)) = behind_proxy().await else {
        return;
    };
    let url = server.url();
    // Nothing in memory, so that all is looked for in Redis; no bus, which sends something as well.
    let builder = Cache::<u64, String>::builder("trips").max_capacity(0);
    let tier = tier.timeout(Duration::from_secs(10));
    let cache = builder.redis(tier).build().await.unwrap();
    let origin = Origin::default();
    origin.get(&cache, 5_000).await;
    until_there(&cache, 5_000).await;
    for _ in 0..20 {
        origin.get(&cache, 5_000).await;
    }
    let before = calls(&url).await;
    assert_eq!(origin.loads(), 1);
    proxy.delay(ONE_WAY);
    let keys: Vec<u64> = (0..1_000).collect();
    let loader_calls = Arc::new(AtomicU64::new(0));
    let began = Instant::now();
    let load = {
        let loader_calls = Arc::clone(&loader_calls);
        move |missing: Vec<u64>| async move {
            loader_calls.fetch_add(1, SeqCst);
            let read = began.elapsed();
            assert_eq!(missing.len(), 1_000);
            // Two calls of 500 keys that were sent at once, and nothing else.
            let [scripts, reads] = before;
            assert_eq!(calls(&url).await, [scripts + 2, reads + 2]);
            let found = missing.into_iter().map(|key| (key, format!("{read:?}")));
            Ok::<_, Infallible>(found.collect::<HashMap<_, _>>())
        }
    };
    let found = cache.get_many(&keys, load).await.unwrap();
    assert_eq!(found.len(), 1_000);
    assert_eq!(loader_calls.load(SeqCst), 1);
    // What was loaded is on its way as well, and no longer then.
    until_there(&cache, 999).await;
    // Once more with others, whose time counts. And it is not two trips if there is but one key.
    let many = |n: u64| (10_000 + n * 1_000..11_000 + n * 1_000).collect();
    takes_one_round_trip(&cache, many).await;
    until_there(&cache, 10_999).await;
    takes_one_round_trip(&cache, |n| vec![7_777 + n]).await;
}

const ONE_WAY: Duration = Duration::from_millis(150);

/// The shortest of some times, as long as none is short enough: a busy machine only adds to them.
async fn takes_one_round_trip(cache: &Cache<u64, String>, keys: impl Fn(u64) -> Vec<u64>) {
    let mut shortest = Duration::MAX;
    for attempt in 0..10 {
        let load = async move |missing: Vec<u64>| {
            let found = missing.into_iter().map(|key| (key, key.to_string()));
            Ok::<_, Infallible>(found.collect::<HashMap<_, _>>())
        };
        let keys = keys(attempt);
        let began = Instant::now();
        let found = cache.get_many(&keys, load).await.unwrap();
        shortest = shortest.min(began.elapsed());
        assert_eq!(found.len(), keys.len());
        // There and back; a second round trip would take as long again.
        assert!(shortest >= 2 * ONE_WAY, "{shortest:?}");
        if shortest < 4 * ONE_WAY {
            break;
        }
        until_there(cache, *keys.last().unwrap()).await;
    }
    println!("over a network of {ONE_WAY:?} one way: {shortest:?}");
    assert!(shortest < 4 * ONE_WAY, "{shortest:?}");
}
