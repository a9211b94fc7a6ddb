//! A server whose clock is set back while the queue runs.

use std::time::Duration;

use super::support::*;
use crate::postgres::PostgresRemote;
use crate::remote::{Granted, How, NewJob, Quota, Remote, Rules, Want};

/// By how much.
const HOUR: i64 = 3_600_000_000;

/// All that is to come is due within half a second.
const SOON: Duration = Duration::from_secs(10);

async fn on_a_clock_that_is_ahead(rules: Rules) -> Option<PostgresRemote> {
    let remote = open(rules).await?;
    remote.move_clock(HOUR).await;
    Some(remote)
}

/// Asks until there are so many.
async fn all(remote: &PostgresRemote, n: usize) -> Vec<Granted> {
    let mut all = Vec::new();
    let ask = async {
        while all.len() < n {
            all.extend(take_until(remote, want(n - all.len())).await.granted);
        }
    };
    let came = tokio::time::timeout(SOON, ask).await;
    came.expect("it waits for the clock");
    all
}

#[tokio::test]
async fn limits_go_on_at_their_pace() {
    let rate = Quota {
        quota: 50,
        period: ms(1_000),
        burst: 1,
    };
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
        add(&remote, &jobs("k", 20)).await;
        let mut granted = all(&remote, 4).await;
        remote.move_clock(-HOUR).await;
        granted.extend(all(&remote, 16).await);
        let times: Vec<_> = granted.iter().map(|job| job.age + job.starts).collect();
        let step = rate.period / rate.quota;
        assert!(
            times.windows(2).all(|pair| pair[1] >= pair[0] + step),
            "{times:?}"
        );
    }
}

#[tokio::test]
async fn what_is_for_later_comes_no_later() {
    let Some(remote) = on_a_clock_that_is_ahead(Rules::default()).await else {
        return;
    };
    let delayed = NewJob {
        delay: ms(40),
        ..job("delayed")
    };
    let [leased, held, retried] = ["leased", "held", "retried"].map(job);
    let due = [leased.id, retried.id, delayed.id];
    add(&remote, &[leased, held, retried, delayed]).await;
    let short = Want {
        lease: ms(40),
        ..want(1)
    };
    let first = remote.exchange(&[], short).await.unwrap();
    assert_eq!(got(&first), [due[0]]);
    let others = all(&remote, 2).await;
    let [held, retried] = others.as_slice() else {
        panic!("{others:?}");
    };
    let how = How::Retry {
        after: ms(40),
        error: "no".to_owned(),
    };
    remote
        .exchange(&[end(retried, how)], want(0))
        .await
        .unwrap();
    remote.move_clock(-HOUR).await;
    // Prolonged from now on, though nobody has seen yet that the clock was set back.
    assert!(
        remote
            .extend(&[held.lease], LEASE)
            .await
            .unwrap()
            .is_empty()
    );
    let came = all(&remote, 3).await;
    assert!(
        due.iter()
            .all(|id| came.iter().any(|job| job.lease.id == *id))
    );
    let late = remote.exchange(&[done(held)], want(0)).await.unwrap();
    assert!(late.lost.is_empty());
}
