//! Keys are found where they are, however often they came before, and each has its turn.

use std::time::Duration;

use super::key_heads::own_server;
use super::support::*;
use crate::Postgres;
use crate::remote::{NewJob, Remote, Rules};

#[tokio::test]
async fn keys_that_come_again_and_again_are_found_without_going_through_what_they_were() {
    let Some(server) = own_server().await else {
        return;
    };
    let remote = Postgres::new(pool(&server.url()).await).open("q", None);
    let remote = remote.await.unwrap();
    let _held = hold_back(&remote).await;
    let all: Vec<_> = (0..8_000).map(|i| job(&format!("{}", i % 100))).collect();
    for some in all.chunks(100) {
        add(&remote, some).await;
        remote.work_off(100).await;
    }
    add(&remote, &jobs_of_keys(100)).await;
    let entries = remote.entries_of_a_claim().await;
    assert!(entries < 3_000, "{entries} entries");
}

/// A job for each of so many keys.
fn jobs_of_keys(n: usize) -> Vec<NewJob> {
    (0..n).map(|i| job(&format!("{i}"))).collect()
}

#[tokio::test]
async fn keys_that_wait_for_a_time_are_found_without_going_through_those_that_waited_before() {
    let Some(server) = own_server().await else {
        return;
    };
    let rules = Rules {
        key: every(1, Duration::from_secs(1)),
        ..Rules::default()
    };
    let remote = Postgres::new(pool(&server.url()).await).open("q", Some(&rules));
    let remote = remote.await.unwrap();
    for _ in 0..41 {
        add(&remote, &jobs_of_keys(100)).await;
    }
    let _held = hold_back(&remote).await;
    let all = async || {
        remote.move_clock(1_000_000).await;
        // Noted, so that the next ones may rely on it.
        remote.exchange(&[], want(0)).await.unwrap();
    };
    for _ in 0..40 {
        all().await;
        remote.work_off(100).await;
    }
    all().await;
    let entries = remote.entries_of_a_claim().await;
    assert!(entries < 3_000, "{entries} entries");
}

/// Thousands at once: an exchange looks at a part of them, and the next one goes on where it left off.
#[tokio::test]
async fn keys_that_wait_for_the_same_time_are_all_found() {
    let Some(server) = own_server().await else {
        return;
    };
    let remote = Postgres::new(pool(&server.url()).await).open("q", None);
    let remote = remote.await.unwrap();
    add(&remote, &jobs_of_keys(1)).await;
    remote.work_off(1).await;
    // What is not known of the keys may have been granted just now, so they all wait for the same time.
    let rules = Rules {
        key: every(1, Duration::from_secs(3)),
        ..Rules::default()
    };
    remote.set_rules(&rules).await.unwrap();
    add(&remote, &jobs_of_keys(3_000)).await;
    for _ in 0..3 {
        assert!(take(&remote, 0).await.granted.is_empty());
    }
    remote.move_clock(5_000_000).await;
    let mut granted = 0;
    for _ in 0..5 {
        let some = take(&remote, 1_000).await.granted;
        granted += some.len();
        let ended: Vec<_> = some.iter().map(done).collect();
        remote.exchange(&ended, want(0)).await.unwrap();
    }
    assert_eq!(granted, 3_000);
    // Nor is any of them kept for ever.
    remote.move_clock(10_000_001).await;
    for _ in 0..40 {
        take(&remote, 1).await;
    }
    assert_eq!(remote.keys().await, 0);
}

/// Its turn comes before that of a key that was heard of later, though that one was not known.
#[tokio::test]
async fn a_key_that_comes_again_goes_before_those_that_come_after_it() {
    for concurrency_per_key in [None, Some(1)] {
        let rules = Rules {
            concurrency_per_key,
            ..Rules::default()
        };
        let Some(remote) = open(rules).await else {
            return;
        };
        add(&remote, &jobs("again", 1)).await;
        remote.work_off(1).await;
        let again = job("again");
        add(&remote, std::slice::from_ref(&again)).await;
        add(&remote, &jobs_of_keys(100)).await;
        assert_eq!(got(&take(&remote, 1).await), [again.id]);
    }
}
