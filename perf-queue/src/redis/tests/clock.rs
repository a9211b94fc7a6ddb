//! A server whose clock is set back while the queue runs.

use std::time::Duration;

use super::limits::{all, paced, run};
use super::support::*;
use crate::redis::RedisRemote;
use crate::remote::{How, NewJob, Remote, Rules, Want};

/// By how much.
const HOUR: i64 = 3_600_000_000;

/// All that is to come is due within half a second.
const SOON: Duration = Duration::from_secs(10);

async fn on_a_clock_that_is_ahead(rules: Rules) -> Option<RedisRemote> {
    let remote = open_with(rules).await?;
    remote.move_clock(HOUR).await;
    Some(remote)
}

#[tokio::test]
async fn limits_go_on_at_their_pace() {
    let rate = quota(50, Duration::from_secs(1), 1);
    let of_queue = Rules {
        queue: Some(rate),
        ..Rules::default()
    };
    let of_key = Rules {
        key: Some(rate),
        ..Rules::default()
    };
    for rules in [of_queue, of_key] {
        let Some(remote) = on_a_clock_that_is_ahead(rules).await else {
            return;
        };
        remote.add(&jobs("k", 0..20)).await;
        let mut slots = all(&run(&remote, 4, || want(2)).await);
        remote.move_clock(-HOUR).await;
        let rest = tokio::time::timeout(SOON, run(&remote, 16, || want(2))).await;
        slots.extend(all(&rest.expect("it waits for the clock")));
        paced(rate, &slots);
    }
}

#[tokio::test]
async fn what_is_for_later_comes_no_later() {
    let Some(remote) = on_a_clock_that_is_ahead(Rules::default()).await else {
        return;
    };
    let delayed = NewJob {
        delay: 40 * MS,
        ..job("delayed", 1)
    };
    remote
        .add(&[delayed, job("leased", 2), job("held", 3), job("retried", 4)])
        .await;
    let short = Want {
        lease: 40 * MS,
        ..want(1)
    };
    let leased = remote.exchange(&[], short).await.unwrap();
    assert_eq!(numbers(&leased), [2]);
    let others = remote.claim(2).await.granted;
    let [held, retried] = others.as_slice() else {
        panic!("{others:?}");
    };
    remote.settle(retried.lease, retry(40 * MS)).await;
    remote.move_clock(-HOUR).await;
    // Prolonged from now on, though nobody has seen yet that the clock was set back.
    assert!(
        remote
            .extend(&[held.lease], LEASE)
            .await
            .unwrap()
            .is_empty()
    );
    let mut came = Vec::new();
    while came.len() < 3 {
        let some = tokio::time::timeout(SOON, remote.claim_some(3)).await;
        came.extend(numbers(&some.expect("it waits for the clock")));
    }
    came.sort_unstable();
    assert_eq!(came, [1, 2, 4]);
    let late = remote.settle(held.lease, How::Done).await;
    assert!(late.lost.is_empty());
    // Nobody has granted it since the hour was over a second time.
    assert_eq!(remote.counts().await.unwrap().in_flight, 3);
}

#[tokio::test]
async fn a_queue_that_nobody_uses_writes_the_time_once_a_second_at_most() {
    let Some(remote) = open().await else { return };
    let seen = loop {
        let start = std::time::Instant::now();
        remote.claim(1).await;
        let seen = remote.seen().await;
        remote.claim(1).await;
        let again = remote.seen().await;
        // Else the machine was held up for a second, and it may have been noted again.
        if start.elapsed() < Duration::from_millis(900) {
            assert_eq!(again, seen);
            break seen;
        }
    };
    remote.move_clock(1_000_001).await;
    remote.claim(1).await;
    assert!(remote.seen().await > seen + 1_000_000);
}

impl RedisRemote {
    /// The latest time that is noted.
    async fn seen(&self) -> u64 {
        let mut seen = redis::cmd("HGET");
        seen.arg(self.keys.state()).arg("seen");
        self.server.query(&seen).await.unwrap()
    }
}
