use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::{Item, Store, sizes};

#[tokio::test]
async fn loads_joined_in_a_task_are_one_query() {
    let store = Store::new();
    let loader = store.loader();
    let (a, b, c, d) = tokio::join!(
        loader.load(1),
        loader.load_many([5, 1, 4, 5]),
        loader.load_groups([3, 1]),
        loader.load(4),
    );
    assert_eq!(a.unwrap().unwrap().key, 1);
    let keys: Vec<_> = b
        .unwrap()
        .iter()
        .map(|it| it.as_ref().map(|it| it.key))
        .collect();
    assert_eq!(keys, [Some(5), Some(1), None, Some(5)]);
    assert_eq!(sizes(&[3, 1], &c.unwrap()), [3, 1]);
    assert_eq!(d.unwrap(), None);
    assert_eq!(store.queries(), [[1, 5, 4, 3]]);
}

#[tokio::test]
async fn loads_of_a_thousand_ready_tasks_are_one_query() {
    let store = Store::new();
    let loader = store.loader();
    let mut tasks = JoinSet::new();
    for key in 0..1_000 {
        let loader = loader.clone();
        tasks.spawn(async move { loader.load(key).await.unwrap() });
    }
    tasks.join_all().await;
    assert_eq!(store.queries().len(), 1);
}

#[tokio::test]
async fn loads_of_tasks_that_a_query_woke_are_one_query() {
    let (users, posts) = (Store::new(), Store::new());
    let (user_loader, post_loader) = (users.loader(), posts.loader());
    let mut tasks = JoinSet::new();
    for key in 0..200 {
        let (users, posts) = (user_loader.clone(), post_loader.clone());
        tasks.spawn(async move {
            users.load(key).await.unwrap();
            posts.load_groups([key, key + 1]).await.unwrap();
        });
    }
    tasks.join_all().await;
    assert_eq!((users.queries().len(), posts.queries().len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn loads_on_several_threads_are_few_queries_and_each_key_is_in_one() {
    let store = Store::new();
    let loader = store.loader();
    let mut tasks = JoinSet::new();
    for task in 0..4_000 {
        let loader = loader.clone();
        tasks.spawn(async move {
            let item = loader.load(task % 1_000).await.unwrap();
            assert_eq!(
                item.map(|it| it.key),
                (task % 4 != 0).then_some(task % 1_000)
            );
        });
    }
    tasks.join_all().await;
    let mut keys = store.queries().concat();
    keys.sort_unstable();
    assert_eq!(keys, Vec::from_iter(0..1_000));
    let queries = store.queries().len();
    assert!(queries < 100, "{queries} queries for 1,000 keys");
}

#[tokio::test(start_paused = true)]
async fn a_lone_load_waits_for_no_time_at_all() {
    let store = Store::new();
    let started = Instant::now();
    store.loader().load(1).await.unwrap();
    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_delay_gathers_until_it_is_over() {
    let store = Store::new();
    let delay = Duration::from_millis(10);
    let loader = store
        .builder()
        .key(|item: &Item| item.key)
        .delay(delay)
        .build();
    let started = Instant::now();
    let late = async {
        sleep(Duration::from_millis(9)).await;
        loader.load(2).await.unwrap();
        assert_eq!(started.elapsed(), delay);
    };
    let later = async {
        sleep(Duration::from_millis(11)).await;
        loader.load(3).await.unwrap();
        assert_eq!(started.elapsed(), Duration::from_millis(21));
    };
    let (first, (), ()) = tokio::join!(loader.load(1), late, later);
    first.unwrap();
    assert_eq!(store.queries(), [vec![1, 2], vec![3]]);
}

#[tokio::test(start_paused = true)]
async fn a_full_batch_does_not_wait_for_its_delay() {
    let store = Store::new();
    let builder = store.builder().key(|item: &Item| item.key);
    let loader = builder
        .delay(Duration::from_secs(1))
        .max_batch_size(2)
        .build();
    let started = Instant::now();
    let late = async {
        sleep(Duration::from_millis(100)).await;
        loader.load(2).await.unwrap();
        assert_eq!(started.elapsed(), Duration::from_millis(100));
    };
    let (first, ()) = tokio::join!(loader.load(1), late);
    first.unwrap();
    loader.load_many([5, 6]).await.unwrap();
    assert_eq!(started.elapsed(), Duration::from_millis(100));
    assert_eq!(store.queries(), [[1, 2], [5, 6]]);
}

#[tokio::test]
async fn many_keys_are_split_and_answered_in_their_order() {
    let store = Store::new();
    let loader = store
        .builder()
        .max_batch_size(3)
        .key(|item: &Item| item.key)
        .build();
    let keys: Vec<u32> = (0..10).rev().chain(0..10).collect();
    let items = loader.load_many(keys.clone()).await.unwrap();
    for (key, item) in keys.iter().zip(&items) {
        let item = item.as_ref().map(|item| (item.key, item.n));
        assert_eq!(item, (key % 4 != 0).then_some((*key, 0)));
    }
    let expected = [vec![9, 8, 7], vec![6, 5, 4], vec![3, 2, 1], vec![0]];
    assert_eq!(store.queries(), expected);
    let groups = loader.load_groups(keys.clone()).await.unwrap();
    let expected: Vec<_> = keys.iter().map(|key| (key % 4) as usize).collect();
    assert_eq!(sizes(&keys, &groups), expected);
    assert_eq!(store.queries().len(), 4);
}

#[tokio::test]
async fn no_keys_are_no_query() {
    let store = Store::new();
    let loader = store.loader();
    assert!(loader.load_many([]).await.unwrap().is_empty());
    assert!(loader.load_groups([]).await.unwrap().is_empty());
    assert!(store.queries().is_empty());
}

#[tokio::test(start_paused = true)]
async fn batches_beyond_the_bound_wait_and_take_further_keys() {
    let store = Store::closed();
    let builder = store.builder().key(|item: &Item| item.key);
    let loader = builder.max_batch_size(2).max_concurrent_batches(2).build();
    let mut tasks = JoinSet::new();
    let mut load = |keys: Vec<u32>| {
        let loader = loader.clone();
        tasks.spawn(async move { loader.load_many(keys).await.unwrap() });
    };
    load(vec![1, 2, 3, 4, 5]);
    // The clock stands still until all tasks wait.
    sleep(Duration::from_millis(1)).await;
    assert_eq!(store.queries(), [[1, 2], [3, 4]]);
    load(vec![6]);
    load(vec![7]);
    sleep(Duration::from_millis(1)).await;
    assert_eq!(store.queries().len(), 2);
    store.open(1);
    sleep(Duration::from_millis(1)).await;
    assert_eq!(store.queries()[2..], [[5, 6]]);
    store.open(3);
    tasks.join_all().await;
    assert_eq!(store.queries()[3..], [[7]]);
}

#[tokio::test(start_paused = true)]
async fn zero_as_a_bound_counts_as_one() {
    let store = Store::new();
    let builder = store.builder().key(|item: &Item| item.key);
    let loader = builder.max_batch_size(0).max_concurrent_batches(0).build();
    loader.load_many([1, 2]).await.unwrap();
    assert_eq!(store.queries(), [[1], [2]]);
}
