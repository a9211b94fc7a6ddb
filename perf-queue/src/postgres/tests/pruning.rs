//! What is not needed any more goes.

use std::time::Duration;

use super::support::*;
use crate::Scope;
use crate::postgres::PostgresRemote;
use crate::remote::{Exchange, How, NewJob, Quota, Remote, Rules};

/// Asks, as an idle process does, until the tables are as small as they get.
async fn empty(remote: &PostgresRemote, table: &str) {
    let start = std::time::Instant::now();
    while remote.rows(table).await > 0 {
        let rows = remote.rows(table).await;
        assert!(start.elapsed() < Duration::from_secs(20), "{rows} {table}");
        take(remote, 100).await;
        tokio::time::sleep(ms(10)).await;
    }
}

#[tokio::test]
async fn nothing_grows_with_keys_and_names_that_are_done_with() {
    let rate = Quota {
        quota: 1,
        period: ms(30),
        burst: 1,
    };
    for concurrency_per_key in [None, Some(1)] {
        let rules = Rules {
            key: Some(rate),
            concurrency_per_key,
            ..Rules::default()
        };
        let Some(remote) = open(rules).await else {
            return;
        };
        for round in 0..4 {
            let new = |n: usize| NewJob {
                unique: Some((format!("name {round} {n}"), ms(20))),
                rate: n.is_multiple_of(2).then_some(rate),
                ..job(&format!("key {round} {n}"))
            };
            let all: Vec<_> = (0..100).map(new).collect();
            add(&remote, &all).await;
            let mut left = 100;
            while left > 0 {
                let Exchange { granted, .. } = take(&remote, 100).await;
                left -= granted.len();
                let ended: Vec<_> = granted.iter().map(done).collect();
                remote.exchange(&ended, want(0)).await.unwrap();
            }
            // A penalty of a key, and one that dies.
            add(&remote, &[job("penalized")]).await;
            let one = take_until(&remote, want(1)).await.granted;
            let penalty = How::Snooze {
                after: ms(20),
                penalty: Some(Scope::Key),
            };
            remote
                .exchange(&[end(&one[0], penalty)], want(0))
                .await
                .unwrap();
            let one = take_until(&remote, want(1)).await.granted;
            remote.exchange(&[done(&one[0])], want(0)).await.unwrap();
            remote.forget_keys().await;
            for table in ["keys", "jobs", "leases", "arrivals", "commits"] {
                empty(&remote, table).await;
            }
            // The next ones take the place of those that are over.
            assert!(remote.rows("names").await <= 100);
        }
    }
}

#[tokio::test]
async fn at_most_one_batch_per_concurrent_enqueue_is_above_the_capacity() {
    const CAPACITY: i64 = 200;
    const BATCH: usize = 20;
    const AT_ONCE: usize = 6;
    let Some(backend) = backend().await else {
        return;
    };
    let remote = backend
        .capacity(CAPACITY as usize)
        .open("q", None)
        .await
        .unwrap();
    let remote = std::sync::Arc::new(remote);
    let mut tasks = Vec::new();
    for _ in 0..AT_ONCE {
        let remote = std::sync::Arc::clone(&remote);
        tasks.push(tokio::spawn(async move {
            // Until it is told that there is no room.
            while remote.enqueue(&jobs("", BATCH)).await.unwrap().is_some() {}
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let here = remote.rows("jobs").await;
    let bound = CAPACITY + ((AT_ONCE - 1) * BATCH) as i64;
    assert!((CAPACITY..=bound).contains(&here), "{here} of {CAPACITY}");
    assert_eq!(remote.enqueue(&jobs("", 1)).await.unwrap(), None);
}
