//! Loads that wait for a place under `max_concurrent_loads`, and what becomes of their callers.

use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use perf_cache::Cache;
use tokio::sync::oneshot;

/// Runs `work` in a runtime of one thread, apart: what keeps that thread busy for ever fails the test
/// instead of hanging it.
fn on_one_thread(work: impl Future<Output = ()> + Send + 'static) {
    let (done, is_done) = mpsc::channel();
    std::thread::spawn(move || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_time().build().unwrap().block_on(work);
        done.send(()).unwrap();
    });
    is_done.recv_timeout(Duration::from_secs(20)).unwrap();
}

fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

async fn others_run() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

/// A cache whose only place is taken until the sender is used.
async fn taken() -> (Cache<u64, u64>, oneshot::Sender<()>) {
    let cache = Cache::builder("test").max_concurrent_loads(1);
    let cache: Cache<u64, u64> = cache.build().await.unwrap();
    let (leave, left) = oneshot::channel::<()>();
    let load = move |key| async move {
        let _ = left.await;
        Ok::<_, Infallible>(key)
    };
    assert!(poll(Box::pin(cache.get_or_load(&0, load)).as_mut()).is_pending());
    while cache.stats().loads < 1 {
        tokio::task::yield_now().await;
    }
    (cache, leave)
}

async fn ten(key: u64) -> Result<u64, Infallible> {
    Ok(key * 10)
}

#[derive(Clone, Default)]
struct Asked(Arc<Mutex<Vec<Vec<u64>>>>);

impl Asked {
    async fn load(self, mut keys: Vec<u64>) -> Result<HashMap<u64, u64>, Infallible> {
        keys.sort_unstable();
        self.0.lock().unwrap().push(keys.clone());
        Ok(keys.into_iter().map(|key| (key, key * 10)).collect())
    }
}

#[test]
fn a_load_that_is_invalidated_while_it_waits_and_wanted_by_nobody_leaves_the_thread_to_others() {
    on_one_thread(async {
        let (cache, leave) = taken().await;
        let mut waiting = Box::pin(cache.get_or_load(&1, ten));
        assert!(poll(waiting.as_mut()).is_pending());
        others_run().await;
        cache.invalidate(&1).await.unwrap();
        drop(waiting);
        others_run().await;
        leave.send(()).unwrap();
        assert_eq!(*cache.get_or_load(&1, ten).await.unwrap(), 10);
        others_run().await;
        assert_eq!(cache.stats().loads, 2, "that which nobody wanted is none");
    });
}

#[test]
fn a_load_of_many_that_wait_and_are_given_up_one_by_one_leaves_the_thread_to_others() {
    on_one_thread(async {
        let (cache, leave) = taken().await;
        let asked = Asked::default();
        let load = |asked: &Asked| {
            let asked = asked.clone();
            move |keys| asked.load(keys)
        };
        let mut both = Box::pin(cache.get_many(&[1, 2], load(&asked)));
        assert!(poll(both.as_mut()).is_pending());
        let mut second = Box::pin(cache.get_or_load(&2, ten));
        assert!(poll(second.as_mut()).is_pending());
        others_run().await;
        drop(both);
        others_run().await;
        let mut first = Box::pin(cache.get_or_load(&1, ten));
        assert!(poll(first.as_mut()).is_pending());
        others_run().await;
        drop(second);
        others_run().await;
        // By a load of its own.
        let mut again = Box::pin(cache.get_or_load(&2, ten));
        assert!(poll(again.as_mut()).is_pending());
        others_run().await;
        leave.send(()).unwrap();
        assert_eq!((*first.await.unwrap(), *again.await.unwrap()), (10, 20));
        assert_eq!(*asked.0.lock().unwrap(), [[1]], "each key once");
    });
}

#[test]
fn nor_does_it_keep_the_thread_when_all_are_given_up() {
    on_one_thread(async {
        let (cache, leave) = taken().await;
        let asked = Asked::default();
        let load = asked.clone();
        let mut both = Box::pin(cache.get_many(&[1, 2], move |keys| load.load(keys)));
        assert!(poll(both.as_mut()).is_pending());
        let mut second = Box::pin(cache.get_or_load(&2, ten));
        assert!(poll(second.as_mut()).is_pending());
        drop(both);
        others_run().await;
        let mut first = Box::pin(cache.get_or_load(&1, ten));
        assert!(poll(first.as_mut()).is_pending());
        drop(second);
        others_run().await;
        drop(first);
        others_run().await;
        leave.send(()).unwrap();
        others_run().await;
        assert_eq!(cache.stats().loads, 1);
        assert!(asked.0.lock().unwrap().is_empty());
    });
}
