use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::{Item, Store, sizes};

const PRIMED: Item = Item {
    key: 7,
    n: 0,
    version: 99,
};

#[tokio::test]
async fn what_was_loaded_is_kept_also_that_there_is_nothing() {
    let store = Store::new();
    let loader = store.loader();
    loader.load_many([3, 4]).await.unwrap();
    let other_handle = loader.clone();
    assert_eq!(other_handle.load(4).await.unwrap(), None);
    let groups = other_handle.load_groups([4, 3]).await.unwrap();
    assert_eq!(sizes(&[4, 3], &groups), [0, 3]);
    let one = other_handle.load(3).await.unwrap().unwrap();
    assert!(Arc::ptr_eq(&one, &groups[1][0]), "it is not copied");
    assert_eq!(store.queries(), [[3, 4]]);
}

#[tokio::test]
async fn a_fresh_loader_has_the_same_settings_and_nothing_kept() {
    let store = Store::new();
    let loader = store
        .builder()
        .key(|item: &Item| item.key)
        .max_batch_size(1)
        .build();
    loader.load(3).await.unwrap();
    store.write();
    let fresh = loader.fresh();
    assert_eq!(fresh.load(3).await.unwrap().unwrap().version, 1);
    assert_eq!(loader.load(3).await.unwrap().unwrap().version, 0);
    fresh.load_many([5, 6]).await.unwrap();
    assert_eq!(store.queries(), [[3], [3], [5], [6]]);
}

#[tokio::test]
async fn a_cleared_key_is_asked_for_again() {
    let store = Store::new();
    let loader = store.loader();
    loader.load_many([2, 3]).await.unwrap();
    store.write();
    loader.clear(&3);
    loader.clear(&1_000);
    let items = loader.load_many([2, 3]).await.unwrap();
    let versions: Vec<_> = items
        .iter()
        .map(|it| it.as_ref().unwrap().version)
        .collect();
    assert_eq!(versions, [0, 1]);
    assert_eq!(store.queries(), [vec![2, 3], vec![3]]);
}

#[tokio::test(start_paused = true)]
async fn a_load_after_a_clear_never_gets_what_an_earlier_query_found() {
    let store = Store::closed();
    let loader = store.loader();
    let before = tokio::spawn({
        let loader = loader.clone();
        async move { loader.load(3).await.unwrap().unwrap().version }
    });
    sleep(Duration::from_millis(1)).await;
    store.write();
    loader.clear(&3);
    let after = tokio::spawn({
        let loader = loader.clone();
        async move { loader.load(3).await.unwrap().unwrap().version }
    });
    sleep(Duration::from_millis(1)).await;
    store.open(2);
    assert_eq!((before.await.unwrap(), after.await.unwrap()), (0, 1));
    assert_eq!(loader.load(3).await.unwrap().unwrap().version, 1);
    assert_eq!(store.queries(), [[3], [3]]);
}

#[tokio::test]
async fn a_primed_key_is_not_asked_for() {
    let store = Store::new();
    let loader = store.loader();
    loader.prime(7, PRIMED);
    let shared = Arc::new(PRIMED);
    loader.prime(8, Arc::clone(&shared));
    loader.prime_group(9, [PRIMED, PRIMED]);
    loader.prime_group(10, [] as [Item; 0]);
    let groups = loader.load_groups([7, 8, 9, 10]).await.unwrap();
    assert_eq!(
        groups.iter().map(Vec::len).collect::<Vec<_>>(),
        [1, 1, 2, 0]
    );
    assert!(Arc::ptr_eq(&groups[1][0], &shared));
    loader.prime(10, PRIMED);
    assert_eq!(loader.load(10).await.unwrap().as_deref(), Some(&PRIMED));
    assert!(store.queries().is_empty());
    loader.clear(&7);
    assert_eq!(loader.load(7).await.unwrap().unwrap().version, 0);
}

#[tokio::test]
async fn what_does_not_fit_is_answered_and_asked_for_again() {
    let store = Store::new();
    let loader = store
        .builder()
        .key(|item: &Item| item.key)
        .max_kept(4)
        .build();
    // 3 values, then 1 for the key without any; 2 do not fit.
    let groups = loader.load_groups([3]).await.unwrap();
    assert_eq!(sizes(&[3], &groups), [3]);
    loader.load_groups([4]).await.unwrap();
    for _ in 0..2 {
        let groups = loader.load_groups([3, 4, 2]).await.unwrap();
        assert_eq!(sizes(&[3, 4, 2], &groups), [3, 0, 2]);
    }
    assert_eq!(store.queries(), [[3], [4], [2], [2]]);
    assert!(format!("{loader:?}").contains("kept: 4"), "{loader:?}");
}

#[tokio::test]
async fn a_loader_that_keeps_nothing_still_shares_queries() {
    let store = Store::new();
    let loader = store
        .builder()
        .key(|item: &Item| item.key)
        .max_kept(0)
        .build();
    let (a, b) = tokio::join!(loader.load(1), loader.load(1));
    assert!(Arc::ptr_eq(&a.unwrap().unwrap(), &b.unwrap().unwrap()));
    loader.load(1).await.unwrap();
    assert_eq!(store.queries(), [[1], [1]]);
}
