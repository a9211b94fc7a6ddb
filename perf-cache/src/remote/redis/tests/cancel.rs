//! Callers that go away at any moment.

use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::task::{Context, Waker};

use tokio::time::timeout;

use super::support::*;
use crate::Cache;
use crate::remote::redis::RedisTier;

/// More than any call needs.
const MOST: usize = 20_000;

struct World {
    cache: Cache<u64, u64>,
    loads: Arc<AtomicU64>,
}

impl World {
    async fn start() -> Option<Self> {
        Some(Self::on(&tier().await?).await)
    }

    async fn on(tier: &RedisTier) -> Self {
        let remote = open::<u64, u64>(tier, None);
        let cache = Cache::builder("c").remote(remote, None).build().await;
        Self {
            cache: cache.unwrap(),
            loads: Arc::default(),
        }
    }

    async fn get(&self, key: u64) -> u64 {
        let loads = Arc::clone(&self.loads);
        let load = move |key: u64| async move {
            loads.fetch_add(1, SeqCst);
            tokio::task::yield_now().await;
            Ok::<_, Infallible>(key * 2)
        };
        *self.cache.get_or_load(&key, load).await.unwrap()
    }

    async fn get_many(&self, keys: &[u64]) -> HashMap<u64, Arc<u64>> {
        let loads = Arc::clone(&self.loads);
        let load = move |keys: Vec<u64>| async move {
            loads.fetch_add(keys.len() as u64, SeqCst);
            tokio::task::yield_now().await;
            let values = keys.into_iter().map(|key| (key, key * 2));
            Ok::<_, Infallible>(values.collect::<HashMap<_, _>>())
        };
        self.cache.get_many(keys, load).await.unwrap()
    }

    /// Drops the call of a key after `polls`; says whether it had ended. The other tasks get one turn
    /// after each poll.
    async fn cancelled<T>(&self, call: impl Future<Output = T>, polls: usize) -> bool {
        let mut call = pin!(call);
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..polls {
            if call.as_mut().poll(&mut context).is_ready() {
                return true;
            }
            tokio::task::yield_now().await;
        }
        false
    }

    async fn no_load_is_left(&self) {
        let none = async {
            while self.cache.inner.table.loads() > 0 {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENT, none).await.expect("all loads have ended");
        timeout(PATIENT, self.cache.shutdown())
            .await
            .expect("all tasks have ended");
    }
}

#[tokio::test]
async fn a_caller_that_is_cancelled_anywhere_leaves_the_value_to_the_next() {
    let Some(world) = World::start().await else {
        return;
    };
    let mut ended_after = None;
    for polls in 0..MOST {
        let key = polls as u64;
        let ended = world.cancelled(world.get(key), polls).await;
        let next = timeout(PATIENT, world.get(key)).await;
        assert_eq!(next.expect("not for ever"), key * 2, "after {polls} polls");
        assert_eq!(world.loads.load(SeqCst), key + 1, "after {polls} polls");
        if ended {
            ended_after = Some(polls);
            break;
        }
    }
    assert!(
        ended_after.is_some_and(|polls| polls > 2),
        "{ended_after:?}"
    );
    world.no_load_is_left().await;
}

#[tokio::test]
async fn so_does_one_that_finds_the_value_in_redis() {
    let Some(tier) = tier().await else { return };
    let (world, other) = (World::on(&tier).await, World::on(&tier).await);
    let mut ended_after = None;
    for polls in 0..MOST {
        let key = polls as u64;
        other.cache.insert(key, key * 2).await.unwrap();
        let ended = world.cancelled(world.get(key), polls).await;
        let next = timeout(PATIENT, world.get(key)).await;
        assert_eq!(next.expect("not for ever"), key * 2, "after {polls} polls");
        if ended {
            ended_after = Some(polls);
            break;
        }
    }
    assert!(
        ended_after.is_some_and(|polls| polls > 2),
        "{ended_after:?}"
    );
    assert_eq!(world.loads.load(SeqCst), 0);
    world.no_load_is_left().await;
}

#[tokio::test]
async fn so_does_one_that_asks_for_many_keys() {
    let Some(world) = World::start().await else {
        return;
    };
    let mut ended_after = None;
    for polls in 0..MOST {
        let keys: Vec<u64> = (0..3).map(|key| polls as u64 * 3 + key).collect();
        let ended = world.cancelled(world.get_many(&keys), polls).await;
        // One alone, the others together.
        let one = timeout(PATIENT, world.get(keys[1])).await;
        assert_eq!(one.expect("not for ever"), keys[1] * 2);
        let all = timeout(PATIENT, world.get_many(&keys)).await;
        assert_eq!(all.expect("not for ever").len(), 3, "after {polls} polls");
        assert_eq!(world.loads.load(SeqCst), keys[2] + 1, "after {polls} polls");
        if ended {
            ended_after = Some(polls);
            break;
        }
    }
    assert!(
        ended_after.is_some_and(|polls| polls > 2),
        "{ended_after:?}"
    );
    world.no_load_is_left().await;
}
