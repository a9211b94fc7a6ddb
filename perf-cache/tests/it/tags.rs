use std::convert::Infallible;

use perf_cache::{Cache, LoadContext, Value};
use tokio::sync::oneshot;

async fn cache() -> Cache<u64, u64> {
    Cache::builder("tags").build().await.unwrap()
}

#[tokio::test]
async fn a_tag_takes_all_its_values_along_and_no_others() {
    let cache = cache().await;
    for key in 0..100 {
        let value = Value::new(key).tag(format!("org:{}", key % 10)).tag("all");
        cache.insert(key, value).await.unwrap();
    }
    cache.insert(100, 100).await.unwrap();
    cache.invalidate_tag("org:7").await.unwrap();
    for key in 0..=100 {
        assert_eq!(
            cache.get(&key).await.is_some(),
            key % 10 != 7 || key > 99,
            "{key}"
        );
    }
    cache.invalidate_tag("all").await.unwrap();
    assert!(cache.get(&1).await.is_none() && cache.get(&100).await.is_some());
    // The tag is as good as new for what comes later.
    cache.insert(7, Value::new(7).tag("org:7")).await.unwrap();
    assert!(cache.get(&7).await.is_some());
}

/// A load that ends when it is told to, with a tag that nobody knows before.
fn tagged(
    value: u64,
    end: oneshot::Receiver<()>,
) -> impl FnOnce(u64, LoadContext<u64>) -> Load + Send {
    move |_, cx| {
        Box::pin(async move {
            let _ = end.await;
            Ok(cx.value(value).tag("red"))
        })
    }
}

type Load = std::pin::Pin<Box<dyn Future<Output = Result<Value<u64>, Infallible>> + Send>>;

#[tokio::test]
async fn a_tag_invalidated_while_a_value_with_it_is_loaded_keeps_it_from_who_asks_afterwards() {
    let cache = cache().await;
    let (end, ended) = oneshot::channel();
    let mut first = asking(&cache, tagged(1, ended));
    tokio::task::yield_now().await;
    cache.invalidate_tag("red").await.unwrap();
    // This one joins the load in flight: nobody knows yet that it will have the tag.
    let (end_second, ended_second) = oneshot::channel();
    let mut second = asking(&cache, tagged(2, ended_second));
    tokio::task::yield_now().await;
    end.send(()).unwrap();
    assert_eq!(
        (&mut first).await.unwrap(),
        1,
        "it asked before the invalidation"
    );
    end_second.send(()).unwrap();
    assert_eq!((&mut second).await.unwrap(), 2, "it asked after it");
    assert_eq!(cache.get(&1).await.as_deref(), Some(&2));
}

fn asking(
    cache: &Cache<u64, u64>,
    load: impl FnOnce(u64, LoadContext<u64>) -> Load + Send + 'static,
) -> tokio::task::JoinHandle<u64> {
    let cache = cache.clone();
    tokio::spawn(async move { *cache.get_or_load_with(&1, load).await.unwrap() })
}
