use std::convert::Infallible;
use std::future::pending;
use std::pin::{Pin, pin};
use std::time::Duration;

use perf_cache::{Cache, LoadError};
use tokio::sync::oneshot;

async fn cache() -> Cache<u64, u64> {
    Cache::<u64, u64>::builder("test").build().await.unwrap()
}

type LoadFuture = Pin<Box<dyn Future<Output = Result<u64, Infallible>> + Send>>;
type News = oneshot::Receiver<()>;

/// A load that never ends by itself, and the news of its start and its end.
fn endless() -> (impl FnOnce(u64) -> LoadFuture, News, News) {
    let (started, is_started) = oneshot::channel();
    let (alive, is_over) = oneshot::channel::<()>();
    let load = move |_| -> LoadFuture {
        Box::pin(async move {
            let _alive = alive;
            started.send(()).unwrap();
            pending().await
        })
    };
    (load, is_started, is_over)
}

#[tokio::test]
async fn shutdown_ends_the_loads_and_tells_those_who_wait() {
    let cache = cache().await;
    cache.insert(2, 20).await.unwrap();
    let (load, started, over) = endless();
    let waiter = tokio::spawn({
        let cache = cache.clone();
        async move { cache.get_or_load(&1, load).await }
    });
    started.await.unwrap();
    cache.shutdown().await;
    assert!(over.await.is_err(), "the load is dropped");
    assert!(matches!(waiter.await.unwrap(), Err(LoadError::Closed)));
    assert_eq!(cache.stats().loads_failed, 1);

    let load = |k| async move { Ok::<_, Infallible>(k) };
    let refused = cache.get_or_load(&3, load).await;
    assert!(matches!(refused, Err(LoadError::Closed)));
    assert_eq!(cache.stats().loads, 1, "none is started any more");
    assert_eq!(*cache.get_or_load(&2, load).await.unwrap(), 20);
    cache.shutdown().await;
}

#[tokio::test]
async fn shutdown_tells_those_who_wait_for_a_place() {
    let cache = Cache::<u64, u64>::builder("test").max_concurrent_loads(1);
    let cache = cache.build().await.unwrap();
    let (first, started, _over) = endless();
    let (second, _, _) = endless();
    let mut running = pin!(cache.get_or_load(&1, first));
    let mut waiting = pin!(cache.get_or_load(&2, second));
    tokio::select! {
        biased;
        _ = &mut running => panic!("ended"),
        _ = &mut waiting => panic!("ended"),
        started = started => started.unwrap(),
    }
    cache.shutdown().await;
    assert!(matches!(running.await, Err(LoadError::Closed)));
    assert!(matches!(waiting.await, Err(LoadError::Closed)));
}

#[tokio::test]
async fn the_loads_end_with_the_last_handle() {
    let cache = cache().await;
    let other = cache.clone();
    let (load, started, mut over) = endless();
    {
        let asked = tokio::time::timeout(Duration::ZERO, cache.get_or_load(&1, load));
        assert!(asked.await.is_err());
    }
    started.await.unwrap();
    drop(cache);
    tokio::task::yield_now().await;
    assert!(
        over.try_recv()
            .is_err_and(|e| e == oneshot::error::TryRecvError::Empty)
    );
    drop(other);
    assert!(over.await.is_err(), "the load is dropped");
}

#[test]
fn a_load_whose_runtime_ends_tells_those_who_wait_elsewhere() {
    let (home, away) = (runtime(), runtime());
    let cache = home.block_on(cache());
    let (load, started, _over) = endless();
    {
        let _away = away.enter();
        let mut leader = Box::pin(cache.get_or_load(&1, load));
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(leader.as_mut().poll(&mut cx).is_pending());
    }
    away.block_on(started).unwrap();
    let (unused, _, _) = endless();
    let waiter = home.spawn({
        let cache = cache.clone();
        async move { cache.get_or_load(&1, unused).await }
    });
    while cache.stats().misses < 2 {
        std::thread::yield_now();
    }
    away.shutdown_background();
    let told = home.block_on(waiter).unwrap();
    assert!(matches!(told, Err(LoadError::Closed)));
    assert_eq!(cache.stats().loads_failed, 1);
    // And the key is free for a new load.
    let load = |k| async move { Ok::<_, Infallible>(k) };
    assert_eq!(*home.block_on(cache.get_or_load(&1, load)).unwrap(), 1);
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}
