//! Limits that change while the queue runs.

use std::time::Duration;

use proptest::prelude::*;

use super::support::*;
use crate::Scope;
use crate::model::changes::{self, Clock};
use crate::postgres::PostgresRemote;
use crate::remote::{Quota, Remote, Rules, Want};

impl Clock for PostgresRemote {
    async fn advance(&self, by: Duration) {
        self.move_clock(i64::try_from(by.as_micros()).unwrap())
            .await;
    }
}

#[test]
fn limits_that_change_hold_in_every_window_and_nothing_up_for_longer_than_a_period() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let Some(backend) = runtime.block_on(backend()) else {
        return;
    };
    let config = ProptestConfig {
        cases: 100,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(config, |(case in changes::cases())| {
        runtime.block_on(async {
            let remote = backend.clone().open(&testkit::unique("changes"), None).await.unwrap();
            changes::holds(&remote, case).await
        })?;
    });
}

#[tokio::test]
async fn rates_that_change_within_their_period_are_used() {
    for scope in [Scope::Queue, Scope::Key] {
        let Some(remote) = open(Rules::default()).await else {
            return;
        };
        changes::is_used(&remote, scope).await;
    }
}

#[tokio::test]
async fn a_limit_that_was_a_mistake_binds_nobody_once_it_is_corrected() {
    for scope in [Scope::Queue, Scope::Key] {
        let Some(remote) = open(Rules::default()).await else {
            return;
        };
        changes::is_corrected(&remote, scope).await;
    }
}

fn rate(quota: u32, period: u64, burst: u32) -> Option<Quota> {
    Some(Quota {
        quota,
        period: ms(period),
        burst,
    })
}

/// Grants until so many were made, by the clock of the jobs' enqueue.
async fn grants(remote: &PostgresRemote, n: usize, times: &mut Vec<Duration>) {
    let start = std::time::Instant::now();
    let end = times.len() + n;
    while times.len() < end {
        assert!(start.elapsed() < ms(10_000), "{} of {end}", times.len());
        let ask = Want {
            within: ms(20),
            ..want(end - times.len())
        };
        let answer = remote.exchange(&[], ask).await.unwrap();
        times.extend(answer.granted.iter().map(|job| job.age + job.starts));
        let ended: Vec<_> = answer.granted.iter().map(done).collect();
        remote.exchange(&ended, want(0)).await.unwrap();
        tokio::time::sleep(ms(2)).await;
    }
}

#[tokio::test]
async fn a_limit_that_changes_holds_in_every_window_that_ends_later() {
    for (old, new) in [
        // From paced to a burst.
        (rate(10, 300, 1), rate(10, 300, 10)),
        // From a burst to paced, and to another.
        (rate(12, 300, 12), rate(6, 300, 1)),
        (rate(12, 300, 12), rate(6, 300, 3)),
        // Longer periods, at the same pace or a faster one.
        (rate(1, 30, 1), rate(8, 600, 8)),
        (rate(4, 100, 4), rate(10, 600, 1)),
        (rate(10, 100, 1), rate(20, 600, 1)),
        // No limit before.
        (None, rate(5, 300, 5)),
        (None, rate(5, 300, 1)),
    ] {
        for of_key in [false, true] {
            let rules = |quota| Rules {
                queue: if of_key { None } else { quota },
                key: if of_key { quota } else { None },
                concurrency_per_key: None,
            };
            let Some(remote) = open(rules(old)).await else {
                return;
            };
            add(&remote, &jobs("k", 60)).await;
            let mut times = Vec::new();
            grants(&remote, 12, &mut times).await;
            remote.set_rules(&rules(new)).await.unwrap();
            grants(&remote, 12, &mut times).await;
            let new = new.unwrap();
            for (i, last) in times.iter().enumerate().skip(12) {
                let window = times.iter().take(i + 1);
                let n = window.filter(|at| **at + new.period > *last).count();
                assert!(
                    n <= new.quota as usize,
                    "{n} in a window from {old:?} to {new:?}, of a key: {of_key}"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_faster_pace_is_used_at_once_and_a_lifted_limit_does_not_hold() {
    let rules = |queue| Rules {
        queue,
        ..Rules::default()
    };
    let hour = 3_600_000;
    let Some(remote) = open(rules(rate(1, hour, 1))).await else {
        return;
    };
    add(&remote, &jobs("", 60)).await;
    assert_eq!(take(&remote, 9).await.granted.len(), 1);
    remote.set_rules(&rules(rate(100, 1_000, 1))).await.unwrap();
    let next = take(&remote, 1).await.next.unwrap();
    assert!(next <= ms(10), "{next:?}");
    for burst in [1, 9] {
        // After any number of jobs without a limit, a whole period.
        remote.set_rules(&rules(None)).await.unwrap();
        assert_eq!(take(&remote, 9).await.granted.len(), 9);
        let limit = rules(rate(9, hour, burst));
        remote.set_rules(&limit).await.unwrap();
        let answer = take(&remote, 9).await;
        assert_eq!(answer.granted.len(), 0);
        assert!(answer.next.unwrap() > ms(hour - 60_000));
    }
    remote.set_rules(&rules(None)).await.unwrap();
    assert_eq!(take(&remote, 9).await.granted.len(), 9);
}

#[tokio::test]
async fn rules_change_when_no_exchange_grants_by_the_old_ones() {
    let Some(remote) = open(Rules::default()).await else {
        return;
    };
    add(&remote, &jobs("", 9)).await;
    let first = take(&remote, 1).await;
    let never = Rules {
        queue: rate(1, 3_600_000, 1),
        ..Rules::default()
    };
    // An exchange that has read the rules, and has to wait for what it ends.
    let mut conn = remote.connection().await;
    let mut held = sqlx::Connection::begin(&mut *conn).await.unwrap();
    let lock = format!("SELECT * FROM {}.jobs FOR UPDATE", remote.schema());
    let lock = sqlx::query(sqlx::AssertSqlSafe(lock));
    lock.execute(&mut *held).await.unwrap();
    let ended = [done(&first.granted[0])];
    let exchange = remote.exchange(&ended, want(5));
    let set = async {
        let waits = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%{}%'",
            remote.schema().replace('"', "")
        );
        loop {
            let waiting = sqlx::query_scalar::<_, i64>(sqlx::AssertSqlSafe(waits.clone()));
            if waiting.fetch_one(remote.pool()).await.unwrap() > 0 {
                break;
            }
        }
        let mut set = std::pin::pin!(remote.set_rules(&never));
        let early = tokio::time::timeout(ms(200), set.as_mut()).await;
        held.commit().await.unwrap();
        if early.is_err() {
            set.await.unwrap();
        }
        early.is_ok()
    };
    let (answer, early) = tokio::join!(exchange, set);
    assert!(
        !early || answer.unwrap().granted.is_empty(),
        "it granted by rules that were replaced before"
    );
    assert!(take(&remote, 5).await.granted.is_empty());
}
