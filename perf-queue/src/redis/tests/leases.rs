use std::time::Duration;

use super::support::*;
use crate::model::changes::Clock as _;
use crate::remote::{How, Lease, Remote, Want};

#[tokio::test]
async fn when_a_lease_ends_the_job_runs_again_first_of_its_key_as_the_next_attempt() {
    for rules in [crate::remote::Rules::default(), one_per_key()] {
        let Some(remote) = open_with(rules).await else {
            return;
        };
        remote.add(&jobs("k", 0..3)).await;
        let exchange = remote.lend(1, 20 * MS).await;
        let old = exchange.granted[0].lease;
        assert!(exchange.next.is_some_and(|next| next <= 20 * MS));
        tokio::time::sleep(25 * MS).await;
        let exchange = remote.claim_some(1).await;
        let granted = &exchange.granted[0];
        assert_eq!((number(granted), granted.attempt), (0, 2));
        assert!(granted.waited < granted.age);
        // Who has the old lease has no say any more, in whatever it says.
        assert_ne!(granted.lease.token, old.token);
        assert_eq!(
            remote.extend(&[old, granted.lease], LEASE).await.unwrap(),
            [old.id]
        );
        for how in [How::Done, How::Released, retry(MS), snooze(MS, None)] {
            assert_eq!(remote.settle(old, how).await.lost, [old.id]);
        }
        let dead = How::Dead {
            error: String::new(),
        };
        assert_eq!(remote.settle(old, dead).await.lost, [old.id]);
        assert_eq!(remote.counts().await.unwrap().in_flight, 1);
        let exchange = remote.settle(granted.lease, How::Done).await;
        assert!(exchange.lost.is_empty());
        assert_eq!(numbers(&remote.claim(1).await), [1]);
    }
}

#[tokio::test]
async fn a_lease_that_is_prolonged_does_not_end() {
    let Some(remote) = open().await else { return };
    remote.add(&jobs("k", 0..2)).await;
    let granted = remote.lend(2, LONG).await.granted;
    for round in 0..4 {
        assert!(
            remote
                .extend(&[granted[0].lease], LONG)
                .await
                .unwrap()
                .is_empty()
        );
        remote.advance(LONG * 3 / 4).await;
        let exchange = remote.lend(2, LONG).await;
        // The other one, which nobody prolongs, each time that its lease is over.
        let over = [vec![], vec![1]];
        assert_eq!(numbers(&exchange), over[round % 2]);
    }
    assert!(
        remote
            .settle(granted[0].lease, How::Done)
            .await
            .lost
            .is_empty()
    );
    assert_eq!(
        remote.extend(&[granted[0].lease], LEASE).await.unwrap(),
        [granted[0].lease.id]
    );
}

#[tokio::test]
async fn a_lease_that_is_over_counts_until_somebody_takes_the_job() {
    let Some(remote) = open().await else { return };
    remote.add(&jobs("k", 0..1)).await;
    let granted = remote.lend(1, 20 * MS).await.granted;
    tokio::time::sleep(30 * MS).await;
    // The work is done, so better not again.
    assert!(
        remote
            .settle(granted[0].lease, How::Done)
            .await
            .lost
            .is_empty()
    );
    assert_eq!(remote.claim(1).await.next, None);
}

#[tokio::test]
async fn nobody_ends_a_job_with_a_lease_that_never_was() {
    let Some(remote) = open().await else { return };
    remote.add(&jobs("k", 0..2)).await;
    let lease = remote.claim(1).await.granted[0].lease;
    let forged = [
        Lease {
            token: lease.token + 1,
            ..lease
        },
        Lease {
            id: job("k", 1).id,
            ..lease
        },
    ];
    let ended: Vec<_> = forged.iter().map(|lease| end(*lease, How::Done)).collect();
    assert_eq!(remote.tell(&ended).await, [forged[0].id, forged[1].id]);
    assert_eq!(remote.counts().await.unwrap().ready, 1);
    assert_eq!(remote.extend(&[], LEASE).await.unwrap(), []);
}

#[tokio::test]
async fn ended_jobs_and_granted_ones_go_in_one_trip_in_any_number() {
    let Some(remote) = open().await else { return };
    remote.add(&jobs("k", 0..5_000)).await;
    let mut granted = Vec::new();
    while granted.len() < 5_000 {
        granted.extend(remote.claim(5_000).await.granted);
    }
    let mut ended = done(&granted);
    for ended in ended.iter_mut().step_by(2) {
        ended.how = How::Released;
    }
    let exchange = remote.exchange(&ended, want(1)).await.unwrap();
    assert_eq!((numbers(&exchange), exchange.lost.len()), (vec![0], 0));
    let counts = remote.counts().await.unwrap();
    assert_eq!((counts.ready, counts.in_flight), (2_499, 1));
    assert!(
        counts
            .oldest
            .is_some_and(|oldest| oldest < Duration::from_secs(60))
    );
}

#[tokio::test]
async fn a_lease_is_prolonged_by_the_time_given_whatever_was_asked_for_before() {
    let Some(remote) = open().await else { return };
    remote.add(&jobs("k", 0..1)).await;
    let short = Want {
        lease: 300 * MS,
        ..want(1)
    };
    let held = remote.exchange(&[], short).await.unwrap().granted;
    let kept = remote.extend(&[held[0].lease], LEASE).await.unwrap();
    assert!(kept.is_empty());
    tokio::time::sleep(600 * MS).await;
    assert!(
        remote
            .exchange(&[], short)
            .await
            .unwrap()
            .granted
            .is_empty()
    );
    assert!(
        remote
            .settle(held[0].lease, How::Done)
            .await
            .lost
            .is_empty()
    );
}

#[tokio::test]
async fn of_ends_that_are_told_with_some_that_were_told_before_those_are_lost() {
    let Some(remote) = open().await else { return };
    remote.add(&jobs("k", 0..4)).await;
    let all = done(&remote.claim(4).await.granted);
    let lost = |ended: &[_]| {
        ended
            .iter()
            .map(|e: &crate::remote::Ended| e.lease.id)
            .collect::<Vec<_>>()
    };
    assert_eq!(remote.tell(&all[..2]).await, []);
    assert_eq!(remote.tell(&all[..3]).await, lost(&all[..2]));
    assert_eq!(remote.tell(&all[..3]).await, lost(&all[..3]));
    assert_eq!(remote.counts().await.unwrap().in_flight, 1);
}

#[tokio::test]
async fn a_lease_that_was_taken_over_is_lost_among_later_ones_that_hold() {
    let Some(remote) = open().await else { return };
    remote.add(&jobs("k", 0..2)).await;
    let old = remote.lend(1, 20 * MS).await.granted;
    tokio::time::sleep(25 * MS).await;
    let new = remote.claim_some(2).await.granted;
    assert_eq!(new.len(), 2);
    // The first job is the new holder's, and still runs.
    let ended = [done(&old), done(&new[1..])].concat();
    assert_eq!(remote.tell(&ended).await, [old[0].lease.id]);
    let exchange = remote.settle(new[0].lease, How::Done).await;
    assert_eq!(exchange.lost, []);
}
