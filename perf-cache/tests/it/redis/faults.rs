use std::time::{Duration, Instant};

use perf_cache::{Cache, Invalidation, LoadError, RedisTier};
use testkit::Redis;
use tokio::time::timeout;

use super::{HANGS, MS, Origin, behind_proxy, cache, until_there};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_down_defers_invalidations_and_gets_them_when_it_is_back() {
    let Some(server) = Redis::start().await else {
        return;
    };
    let tier = RedisTier::connect(server.url()).await.unwrap();
    // What is put there in time on any machine; a server that is down is known at once.
    let tier = tier.timeout(Duration::from_secs(10));
    let (a, b, origin) = (cache(&tier).await, cache(&tier).await, Origin::default());
    origin.get(&a, 1).await;
    until_there(&b, 1).await;
    server.stop().await;
    let written = origin.write();
    assert_eq!(a.invalidate(&1).await.unwrap(), Invalidation::Deferred);
    assert_eq!(origin.get(&a, 1).await, written, "never an older one here");
    let inserted = a.insert(2, "inserted".to_owned()).await.unwrap();
    assert_eq!(inserted, Invalidation::Deferred);
    assert_eq!(a.get(&2).await.unwrap().as_str(), "inserted");
    server.restart().await;
    origin.until(&b, 1, &written).await;
    // And the tier is used again. An insertion that is cut off by the restart leaves nothing there.
    while b.get(&3).await.is_none() {
        a.insert(3, "3".to_owned()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_black_hole_costs_one_timeout_and_then_nothing() {
    let Some((_server, proxy, tier)) = behind_proxy().await else {
        return;
    };
    let within = 300 * MS;
    let (a, origin) = (cache(&tier.timeout(within)).await, Origin::default());
    origin.get(&a, 1).await;
    proxy.black_hole(true);
    let began = Instant::now();
    for key in 100..200 {
        origin.get(&a, key).await;
    }
    let took = began.elapsed();
    println!("100 loads beside a black hole: {took:?}");
    // One each would be a hundred.
    assert!(took >= within && took < 10 * within, "{took:?}");
    assert_eq!(a.stats().remote_errors, 100);
    proxy.heal();
    while a.insert(3, "3".to_owned()).await.unwrap() == Invalidation::Deferred {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// However long the tier would wait for an answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_that_is_shut_down_does_not_wait_for_a_black_hole() {
    let Some((_server, proxy, tier)) = behind_proxy().await else {
        return;
    };
    let builder = Cache::<u64, u64>::builder("black hole");
    let tier = tier.timeout(Duration::from_secs(600));
    let cache = builder.redis(tier).build().await.unwrap();
    proxy.black_hole(true);
    let caller = {
        let cache = cache.clone();
        let load = async |key| Ok::<_, std::convert::Infallible>(key);
        tokio::spawn(async move { cache.get_or_load(&1, load).await })
    };
    while cache.stats().misses == 0 {
        tokio::task::yield_now().await;
    }
    timeout(HANGS, cache.shutdown()).await.unwrap();
    let outcome = timeout(HANGS, caller).await.unwrap().unwrap();
    assert!(matches!(outcome, Err(LoadError::Closed)), "{outcome:?}");
}
