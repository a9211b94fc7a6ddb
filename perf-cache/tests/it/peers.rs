//! What the README says of moka. If one of these fails, moka has changed, and so must the README.

use std::convert::Infallible;
use std::pin::pin;
use std::task::{Context, Waker};

use moka::future::Cache;
use tokio::sync::oneshot;

#[tokio::test]
async fn moka_starts_a_load_again_when_its_caller_is_cancelled() {
    let cache = Cache::<u64, u64>::new(10);
    {
        let load = std::future::pending::<Result<u64, Infallible>>();
        let mut caller = Box::pin(cache.try_get_with(1, load));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(caller.as_mut().poll(&mut cx).is_pending());
    }
    let again = cache.try_get_with(1, async { Ok::<_, Infallible>(2) });
    assert_eq!(again.await.unwrap(), 2);
}

#[tokio::test]
async fn moka_stores_the_value_of_a_load_that_was_invalidated() {
    let cache = Cache::<u64, &str>::new(10);
    let (finish, finished) = oneshot::channel();
    let mut caller = pin!(cache.try_get_with(1, finished));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(caller.as_mut().poll(&mut cx).is_pending());
    cache.invalidate(&1).await;
    finish.send("read before the invalidation").unwrap();
    caller.await.unwrap();
    assert_eq!(cache.get(&1).await, Some("read before the invalidation"));
}
