//! Limits that jobs bring for their keys.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use sqlx::Connection as _;

use super::limits::busiest;
use super::support::*;
use crate::model::changes::Clock as _;
use crate::postgres::PostgresRemote;
use crate::remote::{Granted, How, NewJob, Quota, Remote, Rules, Want};

fn rate(quota: u32, period: u64, burst: u32) -> Quota {
    Quota {
        quota,
        period: ms(period),
        burst,
    }
}

fn with(key: &str, rate: Quota) -> NewJob {
    NewJob {
        rate: Some(rate),
        ..job(key)
    }
}

/// Takes jobs by turns from several processes, until so many were granted. Gives each grant's job, and
/// its start by the server's clock.
async fn drain(remotes: &[&PostgresRemote], n: usize) -> Vec<(Granted, i64)> {
    drain_since(remotes, n).await.0
}

/// Also gives when the last one was asked for.
async fn drain_since(remotes: &[&PostgresRemote], n: usize) -> (Vec<(Granted, i64)>, Instant) {
    let mut all = Vec::new();
    let mut asked = Instant::now();
    for remote in remotes.iter().cycle() {
        asked = Instant::now();
        let ask = Want {
            within: ms(30),
            ..want(7)
        };
        let answer = remote.exchange(&[], ask).await.unwrap();
        let ended: Vec<_> = answer.granted.iter().map(done).collect();
        remote.exchange(&ended, want(0)).await.unwrap();
        // By the age, since a job's enqueue is a time of the server's.
        all.extend(answer.granted.into_iter().map(|job| {
            let at = i64::try_from((job.age + job.starts).as_micros()).unwrap();
            (job, at)
        }));
        if all.len() >= n {
            break;
        }
        tokio::time::sleep(ms(3)).await;
    }
    (all, asked)
}

#[tokio::test]
async fn each_key_has_the_windows_of_its_own_rate_over_two_processes() {
    for (group, user) in [(4, 1), (20, 2)].map(|(g, u)| (rate(g, 400, g / 2), rate(u, 100, 1))) {
        let Some(backend) = backend().await else {
            return;
        };
        let one = backend.clone().open("q", None).await.unwrap();
        let two = backend.open("q", None).await.unwrap();
        let mut all = Vec::new();
        for n in 0..24 {
            all.push(with("group", group));
            all.push(with(["u1", "u2"][n % 2], user));
        }
        add(&one, &all).await;
        let grants = drain(&[&one, &two], 48).await;
        assert!(grants.iter().all(|(job, _)| job.limited));
        let mut keys: BTreeMap<_, Vec<i64>> = BTreeMap::new();
        for (job, at) in grants {
            keys.entry(job.key).or_default().push(at);
        }
        for (key, times) in keys {
            let rate = if key == b"group" { group } else { user };
            let n = busiest(times.clone(), rate.period);
            assert!(n <= rate.quota as usize, "{n} of {key:?} for {rate:?}");
            let took = times.iter().max().unwrap() - times.iter().min().unwrap();
            let slots = i64::try_from(times.len()).unwrap() - i64::from(rate.burst);
            let ideal = slots * rate.period.as_micros() as i64 / i64::from(rate.quota);
            // Slots that nobody asks for in time, as on a busy machine, are lost.
            assert!(took < ideal * 3 + 3_000_000, "{took} instead of {ideal}");
        }
    }
}

#[tokio::test]
async fn a_rate_that_changes_keeps_the_windows_of_the_new_one() {
    for (old, new) in [
        (rate(20, 200, 20), rate(3, 300, 1)),
        (rate(20, 200, 1), rate(3, 300, 3)),
        (rate(2, 300, 1), rate(10, 200, 10)),
    ] {
        let Some(remote) = open(Rules::default()).await else {
            return;
        };
        let first: Vec<_> = (0..4).map(|_| with("k", old)).collect();
        add(&remote, &first).await;
        let (before, asked) = drain_since(&[&remote], 2).await;
        let second: Vec<_> = (0..9).map(|_| with("k", new)).collect();
        add(&remote, &second).await;
        let left = 13 - before.len();
        let after = drain(&[&remote], left).await;
        // All by the clock of the second enqueue.
        let offset = |job: &Granted| first.iter().any(|old| old.id == job.lease.id);
        let fresh: Vec<i64> = after
            .iter()
            .filter(|g| !offset(&g.0))
            .map(|g| g.1)
            .collect();
        let n = busiest(fresh, new.period);
        assert!(n <= new.quota as usize, "{n} in a window of {new:?}");
        assert!(
            asked.elapsed() + ms(60) > new.period,
            "it did not wait a period"
        );
    }
}

#[tokio::test]
async fn a_rate_comes_with_delays_commits_retries_and_replays() {
    let Some(backend) = backend().await else {
        return;
    };
    let remote = backend.open("q", None).await.unwrap();
    let slow = rate(1, 3_600_000, 1);
    let alone = |answer: crate::remote::Exchange| {
        let [one] = <[Granted; 1]>::try_from(answer.granted).unwrap();
        one
    };
    // Delayed jobs.
    let delayed = || NewJob {
        delay: ms(20),
        ..with("delayed", slow)
    };
    add(&remote, &[delayed(), delayed()]).await;
    let one = alone(take_until(&remote, want(9)).await);
    assert!(take(&remote, 9).await.granted.is_empty());
    // Forgotten by the key, and known by the job that comes back.
    let back = How::Retry {
        after: 3 * slow.period,
        error: "no".to_owned(),
    };
    remote.exchange(&[end(&one, back)], want(0)).await.unwrap();
    remote.advance(slow.period).await;
    let two = alone(take_until(&remote, want(9)).await);
    remote.exchange(&[done(&two)], want(0)).await.unwrap();
    remote.advance(2 * slow.period).await;
    let one = alone(take_until(&remote, want(9)).await);
    assert!(one.limited);
    remote.exchange(&[done(&one)], want(0)).await.unwrap();

    // A transaction's.
    let mut conn = remote.connection().await;
    let mut tx = conn.begin().await.unwrap();
    let jobs = [with("committed", slow), with("committed", slow)];
    remote.enqueue_all_in(&mut tx, &jobs).await.unwrap();
    tx.commit().await.unwrap();
    let one = alone(take_until(&remote, want(9)).await);
    let dead = || How::Dead {
        error: "no".to_owned(),
    };
    remote
        .exchange(&[end(&one, dead())], want(0))
        .await
        .unwrap();
    remote.advance(slow.period).await;
    let two = alone(take_until(&remote, want(9)).await);
    remote
        .exchange(&[end(&two, dead())], want(0))
        .await
        .unwrap();

    // Dead letters of a key that is forgotten.
    remote.advance(2 * slow.period).await;
    let start = std::time::Instant::now();
    while remote.keys().await > 0 {
        assert!(start.elapsed() < Duration::from_secs(20));
        assert!(take(&remote, 9).await.granted.is_empty());
        tokio::time::sleep(ms(20)).await;
    }
    for job in &jobs {
        assert_eq!(remote.replay(job.id).await.unwrap(), Some(true));
    }
    assert!(alone(take_until(&remote, want(9)).await).limited);
    assert!(take(&remote, 9).await.granted.is_empty());
}

#[tokio::test]
async fn another_limit_for_all_keys_replaces_their_own() {
    let Some(remote) = open(Rules::default()).await else {
        return;
    };
    let never = rate(1, 3_600_000, 1);
    add(
        &remote,
        &(0..9).map(|_| with("k", never)).collect::<Vec<_>>(),
    )
    .await;
    assert_eq!(take(&remote, 9).await.granted.len(), 1);
    let common = Rules {
        key: every(20, ms(200)),
        ..Rules::default()
    };
    remote.set_rules(&common).await.unwrap();
    let grants = drain(&[&remote], 8).await;
    let times = grants.iter().map(|grant| grant.1).collect();
    assert!(busiest(times, ms(200)) <= 20);
    // And one that comes later is the key's own again.
    add(&remote, &[with("k", never), with("k", never)]).await;
    // Not even one, unless its last grant is so long ago that the key is forgotten.
    assert!(take(&remote, 9).await.granted.len() <= 1);
    let start = std::time::Instant::now();
    while start.elapsed() < ms(50) {
        assert!(take(&remote, 9).await.granted.is_empty());
    }
}
