use std::time::Duration;

use tokio::time::sleep;

use super::{Item, Store, poll_times};

#[tokio::test(start_paused = true)]
async fn a_caller_dropped_at_any_await_takes_nothing_from_the_others() {
    for concurrent in [1, 4] {
        for polls in 0..4 {
            for steps in 0..8 {
                let store = Store::closed();
                let builder = store.builder().key(|item: &Item| item.key);
                let builder = builder.max_batch_size(2).max_concurrent_batches(concurrent);
                let loader = builder.build();
                let other = tokio::spawn({
                    let loader = loader.clone();
                    async move { loader.load_many([1, 2, 3]).await.unwrap() }
                });
                let mut doomed = Box::pin(loader.load_groups([3, 5, 6, 7]));
                poll_times(polls, &mut doomed).await;
                for _ in 0..steps {
                    tokio::task::yield_now().await;
                }
                store.open(steps / 4);
                drop(doomed);
                store.open(10);
                let keys: Vec<_> = other.await.unwrap().into_iter().flatten().collect();
                let keys: Vec<_> = keys.iter().map(|item| item.key).collect();
                assert_eq!(keys, [1, 2, 3], "{polls} polls, {steps} steps");
                let items = loader.load_many([7, 6, 5]).await.unwrap();
                assert!(items.iter().all(Option::is_some));
                let mut asked = store.queries().concat();
                asked.sort_unstable();
                assert_eq!(asked, [1, 2, 3, 5, 6, 7], "{polls} polls, {steps} steps");
                drop((items, loader));
                sleep(Duration::from_millis(1)).await;
                assert_eq!(store.handles(), 1, "nothing is left");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_nobody_waits_for_is_not_sent() {
    let store = Store::closed();
    let loader = store
        .builder()
        .key(|item: &Item| item.key)
        .max_concurrent_batches(1)
        .build();
    assert!(!poll_times(1, &mut Box::pin(loader.load(1))).await);
    sleep(Duration::from_millis(1)).await;
    assert!(store.queries().is_empty());

    // One is sent, the other waits for its turn; then a third takes the place of the other.
    let sent = tokio::spawn({
        let loader = loader.clone();
        async move { loader.load(2).await.unwrap() }
    });
    sleep(Duration::from_millis(1)).await;
    assert!(!poll_times(1, &mut Box::pin(loader.load(3))).await);
    sleep(Duration::from_millis(1)).await;
    store.open(2);
    loader.load(5).await.unwrap();
    assert_eq!(sent.await.unwrap().unwrap().key, 2);
    assert_eq!(store.queries(), [[2], [5]]);
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_is_kept_although_nobody_waits() {
    let store = Store::closed();
    let loader = store.loader();
    let mut load = Box::pin(loader.load(3));
    poll_times(1, &mut load).await;
    sleep(Duration::from_millis(1)).await;
    assert_eq!(store.queries(), [[3]]);
    drop(load);
    store.open(1);
    assert_eq!(loader.load(3).await.unwrap().unwrap().key, 3);
    assert_eq!(store.queries(), [[3]]);
}

#[tokio::test(start_paused = true)]
async fn callers_that_come_and_go_while_the_database_hangs_leave_nothing() {
    let store = Store::closed();
    let loader = store
        .builder()
        .key(|item: &Item| item.key)
        .max_concurrent_batches(1)
        .build();
    let hung = tokio::spawn({
        let loader = loader.clone();
        async move { loader.load(0).await.unwrap() }
    });
    sleep(Duration::from_millis(1)).await;
    for key in 1..10_000 {
        let wait = tokio::time::timeout(Duration::from_millis(1), loader.load(key));
        assert!(wait.await.is_err());
    }
    store.open(2);
    hung.await.unwrap();
    loader.load(1).await.unwrap();
    assert_eq!(store.queries(), [[0], [1]]);
}
