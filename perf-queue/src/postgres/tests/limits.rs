//! Limits of the queue and of keys: their windows, the slots ahead, and that all of the rate is used.

use std::collections::BTreeMap;
use std::time::Duration;

use super::support::*;
use crate::postgres::PostgresRemote;
use crate::remote::{Granted, Quota, Remote, Rules, Want};

/// Two processes that take jobs until there are none. Gives each grant's key, and its start by the
/// server's clock, in microseconds.
async fn drain(remotes: [&PostgresRemote; 2], within: Duration, n: usize) -> Vec<(Vec<u8>, i64)> {
    let one = async |remote: &PostgresRemote, left: &std::cell::Cell<usize>| {
        let mut all: Vec<Granted> = Vec::new();
        let mut ended = Vec::new();
        while left.get() > 0 {
            let ask = Want { within, ..want(7) };
            let answer = remote.exchange(&ended, ask).await.unwrap();
            left.set(left.get() - answer.granted.len());
            ended = answer.granted.iter().map(done).collect();
            all.extend(answer.granted);
            if ended.is_empty() {
                tokio::time::sleep(answer.next.unwrap_or(ms(1)).min(ms(5))).await;
            }
        }
        remote.exchange(&ended, want(0)).await.unwrap();
        all
    };
    let left = std::cell::Cell::new(n);
    let (a, b) = tokio::join!(one(remotes[0], &left), one(remotes[1], &left));
    // All were enqueued in one statement: their age is a clock of the server's.
    let at = |job: &Granted| i64::try_from((job.age + job.starts).as_micros()).unwrap();
    a.iter()
        .chain(&b)
        .map(|job| (job.key.clone(), at(job)))
        .collect()
}

pub(super) fn busiest(mut times: Vec<i64>, period: Duration) -> usize {
    times.sort_unstable();
    let period = i64::try_from(period.as_micros()).unwrap();
    let mut first = 0;
    (0..times.len())
        .map(|last| {
            while times[first] + period <= times[last] {
                first += 1;
            }
            last - first + 1
        })
        .max()
        .unwrap()
}

#[tokio::test]
async fn no_window_holds_more_grants_than_the_quota_for_two_processes() {
    let rate = |quota, period, burst| {
        Some(Quota {
            quota,
            period: ms(period),
            burst,
        })
    };
    for (queue, key) in [
        (rate(20, 100, 1), None),
        (rate(20, 100, 20), None),
        (None, rate(3, 50, 1)),
        (None, rate(5, 50, 5)),
        (rate(30, 100, 1), rate(5, 50, 5)),
        (rate(30, 100, 10), rate(7, 97, 1)),
    ] {
        for within in [ms(0), ms(60)] {
            let rules = Rules {
                queue,
                key,
                concurrency_per_key: None,
            };
            let Some(backend) = backend().await else {
                return;
            };
            let one = backend.clone().open("q", Some(&rules)).await.unwrap();
            let two = backend.open("q", Some(&rules)).await.unwrap();
            let all: Vec<_> = (0..60).map(|i| job(&format!("{}", i % 4))).collect();
            add(&one, &all).await;
            let grants = drain([&one, &two], within, 60).await;
            assert_eq!(grants.len(), 60);
            let mut keys: BTreeMap<_, Vec<i64>> = BTreeMap::new();
            for (key, at) in &grants {
                keys.entry(key).or_default().push(*at);
            }
            if let Some(q) = queue {
                let n = busiest(grants.iter().map(|(_, at)| *at).collect(), q.period);
                assert!(n <= q.quota as usize, "{n} in a window of {rules:?}");
            }
            if let Some(q) = key {
                for times in keys.into_values() {
                    let n = busiest(times, q.period);
                    assert!(
                        n <= q.quota as usize,
                        "{n} of a key in a window of {rules:?}"
                    );
                }
            }
        }
    }
}

#[tokio::test]
async fn slots_are_reserved_ahead_and_no_further_than_wanted() {
    let rules = Rules {
        queue: every(10, Duration::from_secs(100)),
        ..Rules::default()
    };
    for key in ["", "k"] {
        let Some(remote) = open(rules).await else {
            return;
        };
        add(&remote, &jobs(key, 50)).await;
        let ahead = Want {
            within: ms(100_000),
            ..want(50)
        };
        let answer = remote.exchange(&[], ahead).await.unwrap();
        let starts: Vec<_> = answer.granted.iter().map(|job| job.starts).collect();
        let expected: Vec<_> = (0..11).map(|n| ms(10_000 * n)).collect();
        assert_eq!(starts, expected);
        assert!(answer.granted.iter().all(|job| job.limited));
        assert_eq!(answer.next, Some(ms(110_000)));
        assert_eq!(answer.limited, [10, 0]);
        let again = take(&remote, 50).await;
        assert!(again.granted.is_empty());
        assert!(again.next.unwrap() <= ms(110_000));
        assert_eq!(remote.counts().await.unwrap().limited, 39);
    }
}

#[tokio::test]
async fn a_key_that_waits_for_its_limit_delays_no_other_key() {
    let rules = Rules {
        key: every(1, Duration::from_secs(3_600)),
        ..Rules::default()
    };
    let Some(remote) = open(rules).await else {
        return;
    };
    add(&remote, &jobs("hot", 5_000)).await;
    assert_eq!(take(&remote, 10).await.granted.len(), 1);
    for n in 0..50 {
        let cold = job(&format!("cold{n}"));
        add(&remote, std::slice::from_ref(&cold)).await;
        let answer = take(&remote, 10).await;
        assert_eq!(got(&answer), [cold.id]);
        assert!(answer.granted[0].starts.is_zero());
    }
    let counts = remote.counts().await.unwrap();
    assert_eq!((counts.limited, counts.ready), (4_999, 0));
    // Other rules set them free.
    remote.set_rules(&Rules::default()).await.unwrap();
    assert_eq!(take(&remote, 10).await.granted.len(), 10);
}

#[tokio::test]
async fn with_a_backlog_the_rate_is_used() {
    let rules = Rules {
        queue: every(500, Duration::from_secs(10)),
        ..Rules::default()
    };
    let Some(remote) = open(rules).await else {
        return;
    };
    add(&remote, &jobs("", 600)).await;
    let (mut all, mut ended) = (Vec::new(), Vec::new());
    while all.len() < 400 {
        let ahead = Want {
            // For longer than any machine is late.
            within: ms(6_000),
            ..want(100)
        };
        let answer = remote.exchange(&ended, ahead).await.unwrap();
        ended = answer.granted.iter().map(done).collect();
        all.extend(answer.granted.iter().map(|job| job.age + job.starts));
        tokio::time::sleep(ms(20)).await;
    }
    let took = all.iter().max().unwrap().saturating_sub(all[0]);
    let ideal = ms(20) * u32::try_from(all.len() - 1).unwrap();
    assert!(took <= ideal.mul_f64(1.02), "{took:?} instead of {ideal:?}");
}
