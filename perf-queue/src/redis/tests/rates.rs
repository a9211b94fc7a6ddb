//! Limits that jobs bring for their keys.

use std::collections::BTreeMap;
use std::time::Duration;

use super::limits::holds;
use super::support::*;
use crate::model::changes::Clock as _;
use crate::redis::RedisRemote;
use crate::remote::{Exchange, Granted, How, NewJob, Quota, Remote, Rules, Want};

fn rate(quota: u32, period: u32, burst: u32) -> Quota {
    super::support::quota(quota, period * MS, burst)
}

fn with(key: &str, number: u64, rate: Quota) -> NewJob {
    NewJob {
        rate: Some(rate),
        ..job(key, number)
    }
}

/// Takes jobs by turns from several processes, until so many were granted: each grant, its slot by
/// the server's clock, and when it was given.
async fn drain(remotes: &[&RedisRemote], n: usize) -> Vec<(Granted, (u64, u64))> {
    let mut all = Vec::new();
    for remote in remotes.iter().cycle() {
        let ask = Want {
            within: 30 * MS,
            ..want(7)
        };
        let (answer, now) = remote.exchange_by_clock(&[], ask).await.unwrap();
        remote.tell(&done(&answer.granted)).await;
        all.extend(answer.granted.into_iter().map(|job| {
            let slot = now + u64::try_from(job.starts.as_micros()).unwrap();
            (job, (slot, now))
        }));
        if all.len() >= n {
            break;
        }
        tokio::time::sleep(3 * MS).await;
    }
    all
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
            all.push(with("group", 2 * n, group));
            all.push(with(["u1", "u2"][n as usize % 2], 2 * n + 1, user));
        }
        one.add(&all).await;
        let grants = drain(&[&one, &two], 48).await;
        assert!(grants.iter().all(|(job, _)| job.limited));
        let mut keys: BTreeMap<_, Vec<(u64, u64)>> = BTreeMap::new();
        for (job, at) in grants {
            keys.entry(job.key).or_default().push(at);
        }
        for (key, slots) in keys {
            let rate = if key == b"group" { group } else { user };
            holds(rate, &slots);
            let times = || slots.iter().map(|(slot, _)| *slot);
            let took = times().max().unwrap() - times().min().unwrap();
            let spaced = slots.len() as u64 - u64::from(rate.burst);
            let ideal = spaced * rate.period.as_micros() as u64 / u64::from(rate.quota);
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
        let Some(remote) = open().await else { return };
        let first: Vec<_> = (0..4).map(|n| with("k", n, old)).collect();
        remote.add(&first).await;
        let before = drain(&[&remote], 2).await;
        let second: Vec<_> = (4..13).map(|n| with("k", n, new)).collect();
        remote.add(&second).await;
        let after = drain(&[&remote], 13 - before.len()).await;
        let after: Vec<_> = after.into_iter().map(|grant| grant.1).collect();
        holds(new, &after);
        // The new windows begin when the last grant by the old rate has left the period.
        let last = before.iter().map(|grant| grant.1.0).max().unwrap();
        let first = after.iter().map(|slots| slots.0).min().unwrap();
        let period = u64::try_from(new.period.as_micros()).unwrap();
        assert!(first >= last + period, "{} after", first - last);
        assert!(first < last + period + 3_000_000, "{} after", first - last);
    }
}

fn alone(answer: Exchange) -> Granted {
    let [one] = <[Granted; 1]>::try_from(answer.granted).unwrap();
    one
}

fn dead() -> How {
    How::Dead {
        error: "no".to_owned(),
    }
}

#[tokio::test]
async fn a_rate_comes_with_delays_retries_and_replays() {
    let Some(remote) = open().await else { return };
    let slow = quota(1, LONG, 1);
    let delayed = |n| NewJob {
        delay: 20 * MS,
        ..with("delayed", n, slow)
    };
    remote.add(&[delayed(1), delayed(2)]).await;
    let one = alone(remote.claim_some(9).await);
    assert!(remote.claim(9).await.granted.is_empty());
    // Forgotten by the key, and known by the job that comes back.
    remote.settle(one.lease, retry(3 * LONG)).await;
    remote.advance(LONG).await;
    let two = alone(remote.claim_some(9).await);
    remote.settle(two.lease, How::Done).await;
    remote.advance(2 * LONG).await;
    let again = alone(remote.claim_some(9).await);
    assert!(again.limited && again.lease.id == one.lease.id);
    remote.settle(again.lease, How::Done).await;

    let jobs = [with("letters", 4, slow), with("letters", 5, slow)];
    remote.add(&jobs).await;
    for _ in 0..2 {
        let one = alone(remote.claim_some(9).await);
        remote.settle(one.lease, dead()).await;
        remote.advance(LONG).await;
    }
    // The key is forgotten.
    remote.advance(2 * slow.period).await;
    for job in &jobs {
        assert_eq!(remote.replay(job.id).await.unwrap(), Some(true));
    }
    assert!(alone(remote.claim_some(9).await).limited);
    assert!(remote.claim(9).await.granted.is_empty());
}

#[tokio::test]
async fn a_rate_stays_for_as_long_as_its_key_has_jobs() {
    let Some(remote) = open().await else { return };
    remote.pause(true).await.unwrap();
    let slow = quota(1, LONG, 1);
    remote.add(&[with("k", 1, slow), job("k", 2)]).await;
    remote.advance(3 * slow.period).await;
    remote.pause(false).await.unwrap();
    let one = alone(remote.claim_some(9).await);
    assert_eq!(number(&one), 1);
    remote.settle(one.lease, How::Done).await;
    assert!(remote.claim(9).await.granted.is_empty());
    remote.advance(slow.period).await;
    assert_eq!(number(&alone(remote.claim_some(9).await)), 2);
}

#[tokio::test]
async fn another_limit_for_all_keys_replaces_their_own() {
    let Some(remote) = open().await else { return };
    let never = rate(1, 3_600_000, 1);
    let all: Vec<_> = (0..9).map(|n| with("k", n, never)).collect();
    remote.add(&all).await;
    let first = alone(remote.claim(9).await);
    remote.settle(first.lease, How::Done).await;
    // Its grants are remembered until the end.
    let common = quota(20, LONG, 20);
    let rules = Rules {
        key: Some(common),
        ..Rules::default()
    };
    remote.set_rules(&rules).await.unwrap();
    // The grant by the old rate is in every window until then.
    remote.advance(common.period).await;
    let grants = drain(&[&remote], 8).await;
    let slots: Vec<_> = grants.into_iter().map(|grant| grant.1).collect();
    holds(common, &slots);
    // And one that comes later is the key's own again.
    remote
        .add(&[with("k", 10, never), with("k", 11, never)])
        .await;
    assert!(remote.claim(9).await.granted.is_empty());
    let next = remote.claim(9).await.next.unwrap();
    assert!(next > Duration::from_secs(3_000), "{next:?}");
}
