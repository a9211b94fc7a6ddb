use std::time::Duration;

use super::support::*;
use crate::model::changes::Clock as _;
use crate::remote::{Exchange, Granted, How, Remote, Rules};
use crate::{JobId, Scope};

#[tokio::test]
async fn a_failed_job_runs_again_as_the_next_attempt_with_its_errors() {
    let Some(remote) = open().await else { return };
    remote.add(&jobs("k", 0..1)).await;
    for attempt in 1..=13 {
        let granted = remote.claim_some(1).await.granted.remove(0);
        assert_eq!((granted.attempt, number(&granted)), (attempt, 0));
        let last_ten = (attempt.saturating_sub(10).max(1)..attempt).map(|n| format!("error {n}"));
        assert_eq!(granted.errors, last_ten.collect::<Vec<_>>());
        let how = How::Retry {
            after: MS,
            error: format!("error {attempt}"),
        };
        remote.settle(granted.lease, how).await;
    }
}

#[tokio::test]
async fn a_retry_waits_and_then_rejoins_its_key_last() {
    let Some(remote) = open().await else { return };
    remote.add(&jobs("k", 0..1)).await;
    let lease = remote.claim(1).await.granted[0].lease;
    let exchange = remote.settle(lease, retry(LONG)).await;
    let next = exchange.next.unwrap();
    assert!(next <= LONG && next > LONG / 2, "{next:?}");
    assert_eq!(remote.counts().await.unwrap().scheduled, 1);
    remote.add(&jobs("k", 1..2)).await;
    remote.advance(next).await;
    assert_eq!(numbers(&remote.claim(10).await), [1, 0]);
}

#[tokio::test]
async fn with_a_concurrency_of_one_a_retry_blocks_its_key_and_no_other() {
    let Some(remote) = open_with(one_per_key()).await else {
        return;
    };
    remote.add(&jobs("k", 0..3)).await;
    let mut order = Vec::new();
    while order.len() < 6 {
        let exchange = remote.claim_some(10).await;
        assert_eq!(exchange.granted.len(), 1);
        let granted = &exchange.granted[0];
        order.push(number(granted));
        // The first attempt of each fails.
        if granted.attempt == 1 {
            remote.add(&[job("other", 100 + number(granted))]).await;
            let exchange = remote
                .exchange(&[end(granted.lease, retry(LONG))], want(10))
                .await
                .unwrap();
            assert_eq!(numbers(&exchange), [100 + number(granted)]);
            assert!(remote.claim(10).await.granted.is_empty());
            remote.settle(exchange.granted[0].lease, How::Done).await;
            remote.advance(LONG).await;
        } else {
            remote.settle(granted.lease, How::Done).await;
        }
    }
    assert_eq!(order, [0, 0, 1, 1, 2, 2]);
    assert_eq!(remote.claim(1).await.next, None);
}

#[tokio::test]
async fn a_snoozed_job_runs_again_as_the_same_attempt() {
    let Some(remote) = open().await else { return };
    remote.add(&jobs("k", 0..1)).await;
    let lease = remote.claim(1).await.granted[0].lease;
    remote.settle(lease, snooze(LONG, None)).await;
    assert!(remote.claim(1).await.granted.is_empty());
    // Only the job waits.
    remote.add(&jobs("k", 1..2)).await;
    let exchange = remote.claim(1).await;
    assert_eq!(numbers(&exchange), [1]);
    remote.tell(&done(&exchange.granted)).await;
    remote.advance(LONG).await;
    let granted = remote.claim(1).await.granted.remove(0);
    assert_eq!((granted.attempt, granted.errors.len()), (1, 0));
}

#[tokio::test]
async fn a_penalty_stops_its_scope_until_the_longest_is_over() {
    for scope in [Scope::Key, Scope::Queue] {
        let Some(remote) = open().await else { return };
        remote.add(&jobs("k", 0..4)).await;
        let granted = remote.claim(3).await.granted;
        for (granted, after) in granted.iter().zip([LONG / 2, LONG, LONG / 4]) {
            remote
                .settle(granted.lease, snooze(after, Some(scope)))
                .await;
        }
        remote.add(&jobs("other", 4..5)).await;
        let exchange = remote.claim(10).await;
        match scope {
            Scope::Key => assert_eq!(numbers(&exchange), [4]),
            Scope::Queue => assert_eq!(exchange.granted.len(), 0),
        }
        let counts = remote.counts().await.unwrap();
        assert_eq!((counts.ready, counts.scheduled), (0, 3));
        assert_eq!(counts.limited, if scope == Scope::Key { 1 } else { 2 });
        let next = exchange.next.unwrap();
        assert!(next <= LONG, "{next:?}");
        assert!(exchange.limited[usize::from(scope == Scope::Key)] > 0);
        // Longer than two of the three.
        remote.advance(LONG * 3 / 4).await;
        assert_eq!(of_k(&remote.claim(10).await), 0);
        remote.advance(LONG / 4).await;
        let first = remote.claim_some(10).await;
        assert_eq!(of_k(&first), 4);
    }
}

/// How many jobs of the key `k`.
fn of_k(exchange: &Exchange) -> usize {
    let of_k = |granted: &&Granted| granted.key == b"k";
    exchange.granted.iter().filter(of_k).count()
}

#[tokio::test]
async fn a_slot_after_a_penalty_may_be_had_ahead() {
    let Some(remote) = open().await else { return };
    remote.add(&jobs("k", 0..2)).await;
    let lease = remote.claim(1).await.granted[0].lease;
    let penalty = snooze(100 * MS, Some(Scope::Queue));
    let mut wanted = want(10);
    wanted.within = 500 * MS;
    let exchange = remote
        .exchange(&[end(lease, penalty)], wanted)
        .await
        .unwrap();
    assert_eq!(numbers(&exchange), [1]);
    let starts = exchange.granted[0].starts;
    assert!(starts > 90 * MS && starts <= 100 * MS, "{starts:?}");
}

#[tokio::test]
async fn a_released_job_is_first_of_its_key_again() {
    let Some(remote) = open().await else { return };
    remote.add(&jobs("k", 0..5)).await;
    let granted = remote.claim(3).await.granted;
    // In whatever order they come back.
    for i in [1, 2, 0] {
        remote.settle(granted[i].lease, How::Released).await;
    }
    let exchange = remote.claim(10).await;
    assert_eq!(numbers(&exchange), [0, 1, 2, 3, 4]);
    assert!(exchange.granted.iter().all(|granted| granted.attempt == 1));
}

#[tokio::test]
async fn a_job_that_failed_for_good_is_a_dead_letter_with_its_last_ten_errors() {
    let Some(remote) = open().await else { return };
    remote.add(&jobs("k", 0..2)).await;
    for attempt in 1..=12 {
        let granted = remote.claim_some(1).await.granted.remove(0);
        let error = format!("error {attempt}");
        let how = match attempt {
            1 => How::Dead { error },
            12 => How::Dead { error },
            _ => How::Retry { after: MS, error },
        };
        remote.settle(granted.lease, how).await;
    }
    let letters = remote.dead(10).await.unwrap();
    assert_eq!(letters.len(), 2);
    assert_eq!((letters[0].id, letters[0].attempts), (JobId::new(7, 0), 1));
    assert_eq!(letters[0].errors, ["error 1"]);
    assert_eq!((letters[1].id, letters[1].attempts), (JobId::new(7, 1), 11));
    let last_ten: Vec<String> = (3..=12).map(|n| format!("error {n}")).collect();
    assert_eq!(letters[1].errors, last_ten);
    assert_eq!(
        (&letters[1].key, &letters[1].payload),
        (&b"k".to_vec(), &job("k", 1).payload)
    );
    assert!(letters[1].age >= letters[0].age && letters[1].age < Duration::from_secs(60));
    assert_eq!(remote.dead(1).await.unwrap()[..], letters[..1]);
    assert_eq!(remote.dead(0).await.unwrap(), []);
    assert_eq!(remote.counts().await.unwrap().dead, 2);
    assert_eq!(remote.purge(Duration::ZERO).await.unwrap(), 2);
    assert_eq!(remote.purge(Duration::ZERO).await.unwrap(), 0);
    assert_eq!(remote.dead(10).await.unwrap(), []);
}

#[tokio::test]
async fn a_replayed_letter_is_last_of_its_key_with_its_first_attempt_before_it() {
    let Some(backend) = backend().await else {
        return;
    };
    let remote = backend.capacity(3).open("q", None).await.unwrap();
    remote.add(&jobs("k", 0..1)).await;
    let lease = remote.claim(1).await.granted[0].lease;
    remote.settle(lease, retry(Duration::ZERO)).await;
    let lease = remote.claim_some(1).await.granted[0].lease;
    let dead = How::Dead {
        error: "for good".to_owned(),
    };
    remote.settle(lease, dead).await;
    remote.add(&jobs("k", 1..4)).await;
    let id = JobId::new(7, 0);
    assert_eq!(remote.replay(id).await.unwrap(), None);
    assert_eq!(remote.replay(JobId::new(7, 1)).await.unwrap(), Some(false));
    let exchange = remote.claim(1).await;
    remote.settle(exchange.granted[0].lease, How::Done).await;
    assert_eq!(remote.replay(id).await.unwrap(), Some(true));
    assert_eq!(remote.replay(id).await.unwrap(), Some(false));
    let exchange = remote.claim(10).await;
    assert_eq!(numbers(&exchange), [2, 3, 0]);
    assert_eq!(exchange.granted[2].attempt, 1);
    assert_eq!(exchange.granted[2].errors, ["no", "for good"]);
    assert_eq!(remote.counts().await.unwrap().dead, 0);
}

#[tokio::test]
async fn the_oldest_dead_letters_give_way() {
    for (kept, expected) in [(2, vec![3, 4]), (0, vec![])] {
        let Some(backend) = backend().await else {
            return;
        };
        let remote = backend.dead_letters(kept).open("q", None).await.unwrap();
        remote.add(&jobs("k", 0..5)).await;
        let granted = remote.claim(5).await.granted;
        let dead = |error: &str| How::Dead {
            error: error.to_owned(),
        };
        let ended: Vec<_> = granted.iter().map(|g| end(g.lease, dead("no"))).collect();
        remote.tell(&ended).await;
        let letters = remote.dead(10).await.unwrap();
        let expected: Vec<_> = expected.into_iter().map(|n| JobId::new(7, n)).collect();
        assert_eq!(letters.iter().map(|l| l.id).collect::<Vec<_>>(), expected);
        let dropped = remote.counts().await.unwrap().dropped;
        assert_eq!(dropped, 5 - kept as u64);
    }
}

#[tokio::test]
async fn no_more_jobs_of_a_key_run_than_may() {
    let rules = Rules {
        concurrency_per_key: Some(2),
        ..Rules::default()
    };
    let Some(remote) = open_with(rules).await else {
        return;
    };
    remote.add(&jobs("k", 0..6)).await;
    let first = remote.claim(10).await;
    assert_eq!(numbers(&first), [0, 1]);
    assert_eq!(remote.counts().await.unwrap().limited, 4);
    let hows = [
        How::Done,
        retry(LONG),
        snooze(LONG, None),
        How::Dead {
            error: String::new(),
        },
    ];
    let mut running = first.granted;
    for (how, number) in hows.into_iter().zip(2..) {
        assert!(remote.claim(10).await.granted.is_empty());
        let lease = running.remove(0).lease;
        let exchange = remote.exchange(&[end(lease, how)], want(10)).await.unwrap();
        assert_eq!(numbers(&exchange), [number]);
        running.extend(exchange.granted);
    }
    let exchange = remote.settle(running[0].lease, How::Released).await;
    assert_eq!(exchange.next, Some(Duration::ZERO));
    assert_eq!(numbers(&remote.claim(10).await), [4]);
}

#[tokio::test]
async fn a_change_of_the_concurrency_counts_what_runs_already() {
    let Some(remote) = open().await else { return };
    remote.add(&jobs("k", 0..5)).await;
    let granted = remote.claim(2).await.granted;
    remote.set_rules(&one_per_key()).await.unwrap();
    assert!(remote.claim(10).await.granted.is_empty());
    remote.settle(granted[0].lease, How::Done).await;
    assert!(remote.claim(10).await.granted.is_empty());
    remote.settle(granted[1].lease, How::Done).await;
    assert_eq!(numbers(&remote.claim(10).await), [2]);
    assert!(remote.claim(10).await.granted.is_empty());
    // Parked keys learn of it as well.
    remote.set_rules(&Rules::default()).await.unwrap();
    assert_eq!(numbers(&remote.claim(10).await), [3, 4]);
}
