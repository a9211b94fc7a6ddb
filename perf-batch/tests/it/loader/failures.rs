use std::error::Error;
use std::future::ready;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use perf_batch::{LoadError, Loader};

use super::{Item, Store};

/// Fails, for a batch with key 13, as long as it is told to.
fn unlucky(
    fails: &Arc<AtomicBool>,
    how: impl Fn() -> io::Result<()> + Clone + Send + Sync + 'static,
) -> Loader<u32, u32> {
    let query = move |fails: Arc<AtomicBool>, keys: Vec<u32>| {
        let how = how.clone();
        async move {
            if keys.contains(&13) && fails.load(Ordering::Relaxed) {
                how()?;
            }
            Ok::<_, io::Error>(keys)
        }
    };
    let builder = Loader::builder(Arc::clone(fails), query);
    builder.key(|key: &u32| *key).max_batch_size(2).build()
}

#[tokio::test]
async fn a_failure_reaches_the_callers_of_its_batch_and_is_not_kept() {
    let fails = Arc::new(AtomicBool::new(true));
    let loader = unlucky(&fails, || Err(io::Error::other("no luck")));
    let (a, b, c, all) = tokio::join!(
        loader.load(12),
        loader.load(13),
        loader.load(14),
        loader.load_many([13, 14, 15]),
    );
    let errors = [a.unwrap_err(), b.unwrap_err(), all.unwrap_err()];
    for error in &errors {
        assert_eq!(error.to_string(), "the query for 2 keys failed");
        assert_eq!(error.source().unwrap().to_string(), "no luck");
        assert!(error.downcast_ref::<io::Error>().is_some());
    }
    assert_eq!(c.unwrap().as_deref(), Some(&14));

    assert!(loader.load(13).await.is_err());
    fails.store(false, Ordering::Relaxed);
    let all = loader.load_many([12, 13, 14, 15]).await.unwrap();
    assert!(all.iter().all(Option::is_some));
}

#[tokio::test]
async fn a_panic_is_an_error_of_the_callers_of_its_batch_and_poisons_nothing() {
    let fails = Arc::new(AtomicBool::new(true));
    let loader = unlucky(&fails, || panic!("unlucky {}", 13));
    let (a, b, c) = tokio::join!(loader.load(13), loader.load(12), loader.load(14));
    for error in [a.unwrap_err(), b.unwrap_err()] {
        assert!(
            matches!(error, LoadError::Panicked { keys: 2, .. }),
            "{error:?}"
        );
        assert_eq!(
            error.to_string(),
            "the query for 2 keys panicked: unlucky 13"
        );
    }
    assert_eq!(c.unwrap().as_deref(), Some(&14));
    fails.store(false, Ordering::Relaxed);
    assert_eq!(loader.load(13).await.unwrap().as_deref(), Some(&13));
}

#[tokio::test]
async fn a_panic_before_the_query_and_after_it_is_an_error_too() {
    fn before((): (), _: Vec<u32>) -> std::future::Ready<io::Result<Vec<u32>>> {
        panic!("before")
    }
    let after = |(): (), keys: Vec<u32>| ready(Ok::<_, io::Error>(keys));
    let loaders = [
        Loader::builder((), before).key(|key: &u32| *key).build(),
        Loader::builder((), after)
            .key(|_: &u32| panic!("after"))
            .build(),
    ];
    for (loader, message) in loaders.iter().zip(["before", "after"]) {
        for _ in 0..2 {
            let error = loader.load(1).await.unwrap_err();
            assert!(error.to_string().ends_with(message), "{error}");
        }
    }
}

#[tokio::test]
async fn a_value_that_was_not_asked_for_is_dropped() {
    let query = |(): (), keys: Vec<u32>| ready(Ok::<_, io::Error>(vec![keys[0], keys[0] + 1]));
    let loader = Loader::builder((), query).key(|key: &u32| *key).build();
    assert_eq!(loader.load(1).await.unwrap().as_deref(), Some(&1));
    assert_eq!(loader.load(2).await.unwrap().as_deref(), Some(&2));
}

/// Polls once; the batch is then open on the runtime that is entered.
fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    std::pin::Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn callers_whose_runtime_ends_are_told_and_the_next_runtime_serves() {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
    };
    let store = Store::closed();
    let loader = store.loader();
    for steps in 0..6 {
        let mut load = Box::pin(loader.load(3));
        let first = runtime();
        first.block_on(async {
            assert!(poll(&mut load).is_pending());
            for _ in 0..steps {
                tokio::task::yield_now().await;
            }
        });
        drop(first);
        let error = runtime().block_on(load).unwrap_err();
        assert!(
            matches!(error, LoadError::Closed),
            "{error:?} after {steps}"
        );
    }
    assert!(!store.queries().is_empty(), "some were sent");
    store.open(1);
    let item = runtime().block_on(loader.load(3)).unwrap();
    assert_eq!(item.unwrap().key, 3);
}

#[test]
fn without_a_runtime_there_is_only_what_is_kept() {
    let loader = Store::new().loader();
    let item = Item {
        key: 1,
        n: 0,
        version: 0,
    };
    loader.prime(1, item);
    let kept = poll(&mut Box::pin(loader.load(1)));
    assert!(matches!(kept, Poll::Ready(Ok(Some(_)))), "{kept:?}");
    for _ in 0..2 {
        let missing = poll(&mut Box::pin(loader.load_many([1, 2])));
        assert!(
            matches!(missing, Poll::Ready(Err(LoadError::Closed))),
            "{missing:?}"
        );
    }
}
