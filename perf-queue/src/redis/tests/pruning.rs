//! What is not needed any more goes.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use redis::cmd;

use super::support::*;
use crate::Scope;
use crate::redis::{Redis, RedisRemote};
use crate::remote::{Exchange, NewJob, Rules};

/// The names below the prefix, without it.
async fn names(url: &str, prefix: &str) -> BTreeSet<String> {
    let client = redis::Client::open(url).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let names: Vec<String> = cmd("KEYS")
        .arg(format!("{{{prefix}:*"))
        .query_async(&mut connection)
        .await
        .unwrap();
    let short = |name: String| name.rsplit_once('}').unwrap().1.to_owned();
    names.into_iter().map(short).collect()
}

async fn work_off(remote: &RedisRemote, mut left: usize) {
    while left > 0 {
        let Exchange { granted, .. } = remote.claim(100).await;
        left -= granted.len();
        remote.tell(&done(&granted)).await;
    }
}

#[tokio::test]
async fn nothing_grows_with_keys_and_names_that_are_done_with() {
    let Some(server) = testkit::Redis::shared().await else {
        return;
    };
    let rate = quota(1, 30 * MS, 1);
    for (concurrency_per_key, burst) in [(None, 1), (Some(1), 1), (Some(2), 3)] {
        let prefix = testkit::unique("pruning");
        let rules = Rules {
            key: Some(quota(3, 30 * MS, burst)),
            concurrency_per_key,
            ..Rules::default()
        };
        let backend = Redis::connect(server.url()).prefix(prefix.clone());
        let backend = backend.allow_data_loss();
        let remote = backend.open("q", Some(&rules)).await.unwrap();
        for round in 0..3 {
            let new = |n: u64| NewJob {
                unique: Some((format!("name {round} {n}"), 20 * MS)),
                rate: n.is_multiple_of(2).then_some(rate),
                delay: if n.is_multiple_of(5) {
                    5 * MS
                } else {
                    Duration::ZERO
                },
                ..job(&format!("key {round} {n}"), round * 1_000 + n)
            };
            let all: Vec<_> = (0..100).map(new).collect();
            remote.add(&all).await;
            work_off(&remote, 100).await;
            remote.add(&[job("penalized", round * 1_000 + 500)]).await;
            let one = remote.claim_some(1).await.granted;
            let penalty = snooze(20 * MS, Some(Scope::Key));
            remote.settle(one[0].lease, penalty).await;
            let one = remote.claim_some(1).await.granted;
            remote.tell(&done(&one)).await;
            // All that is left is the state.
            let start = Instant::now();
            loop {
                let left = names(&server.url(), &prefix).await;
                if left.iter().eq([":state"]) {
                    break;
                }
                assert!(start.elapsed() < Duration::from_secs(20), "{left:?}");
                tokio::time::sleep(10 * MS).await;
            }
        }
    }
}
