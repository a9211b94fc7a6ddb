use std::time::Duration;

use super::support::*;
use crate::Scope;
use crate::model::changes::Clock as _;
use crate::remote::{How, Remote, Rules, Want};

fn short() -> Want {
    Want {
        lease: ms(40),
        ..want(9)
    }
}

#[tokio::test]
async fn a_job_whose_lease_is_over_runs_again_first_of_its_key_and_the_old_lease_ends_nothing() {
    for (key, rules) in [
        ("", Rules::default()),
        ("k", Rules::default()),
        (
            "k",
            Rules {
                concurrency_per_key: Some(1),
                ..Rules::default()
            },
        ),
    ] {
        let Some(remote) = open(rules).await else {
            return;
        };
        let first = jobs(key, 1);
        add(&remote, &first).await;
        let old = remote.exchange(&[], short()).await.unwrap();
        assert_eq!(old.granted.len(), 1);
        assert!(old.next.unwrap() <= ms(40));
        add(&remote, &jobs(key, 2)).await;
        let again = loop {
            let one = remote.exchange(&[], want(1)).await.unwrap();
            if let Some(job) = one.granted.first() {
                if job.lease.id == first[0].id {
                    break one;
                }
                let back = [end(job, How::Released)];
                remote.exchange(&back, want(0)).await.unwrap();
            }
        };
        assert_eq!(again.granted[0].attempt, 2);
        for how in [
            How::Done,
            How::Released,
            How::Dead {
                error: String::new(),
            },
        ] {
            let late = remote
                .exchange(&[end(&old.granted[0], how)], want(0))
                .await
                .unwrap();
            assert_eq!(late.lost, ids(&first));
        }
        assert_eq!(
            remote.extend(&[old.granted[0].lease], LEASE).await.unwrap(),
            ids(&first)
        );
        let end = remote
            .exchange(&[done(&again.granted[0])], want(0))
            .await
            .unwrap();
        assert!(end.lost.is_empty());
        assert_eq!(
            remote
                .extend(&[again.granted[0].lease], LEASE)
                .await
                .unwrap(),
            ids(&first)
        );
    }
}

#[tokio::test]
async fn a_lease_that_is_prolonged_does_not_end() {
    let Some(remote) = open(Rules::default()).await else {
        return;
    };
    add(&remote, &jobs("", 2)).await;
    let hour = ms(3_600_000);
    let ask = Want {
        lease: hour,
        ..want(9)
    };
    let held = remote.exchange(&[], ask).await.unwrap();
    // Only one of the two.
    let [kept, other] = [0, 1].map(|n| held.granted[n].lease);
    for round in 0..4 {
        assert!(remote.extend(&[kept], hour).await.unwrap().is_empty());
        remote.advance(hour * 3 / 4).await;
        let taken = remote.exchange(&[], ask).await.unwrap();
        let over = [vec![], vec![other.id]];
        assert_eq!(got(&taken), over[usize::from(round == 1)]);
        let ended: Vec<_> = taken.granted.iter().map(done).collect();
        remote.exchange(&ended, want(0)).await.unwrap();
    }
    assert_eq!(remote.counts().await.unwrap().in_flight, 1);
    let end = remote
        .exchange(&[done(&held.granted[0])], want(9))
        .await
        .unwrap();
    assert!(end.lost.is_empty() && end.next.is_none());
}

#[tokio::test]
async fn a_dead_letter_keeps_its_last_ten_errors_and_can_be_replayed() {
    let Some(remote) = open(Rules::default()).await else {
        return;
    };
    let all = jobs("k", 1);
    add(&remote, &all).await;
    for n in 1..=12 {
        let taken = take(&remote, 1).await;
        let job = &taken.granted[0];
        assert_eq!(job.attempt, n);
        let error = format!("error\0{n}");
        let how = match n {
            12 => How::Dead { error },
            _ => How::Retry {
                after: ms(0),
                error,
            },
        };
        remote.exchange(&[end(job, how)], want(0)).await.unwrap();
    }
    assert_eq!(remote.counts().await.unwrap().dead, 1);
    let letter = remote.dead(9).await.unwrap().pop().unwrap();
    assert_eq!(
        (letter.id, &*letter.key, letter.attempts),
        (all[0].id, &b"k"[..], 12)
    );
    let errors: Vec<_> = (3..=12).map(|n| format!("error\u{fffd}{n}")).collect();
    assert_eq!(letter.errors, errors);
    let other = jobs("k", 1);
    add(&remote, &other).await;
    assert_eq!(remote.replay(letter.id).await.unwrap(), Some(true));
    assert_eq!(remote.replay(letter.id).await.unwrap(), Some(false));
    let taken = take(&remote, 9).await;
    assert_eq!(got(&taken), [other[0].id, letter.id]);
    assert_eq!(taken.granted[1].attempt, 1);
    let how = || How::Dead {
        error: String::new(),
    };
    let ended: Vec<_> = taken.granted.iter().map(|job| end(job, how())).collect();
    remote.exchange(&ended, want(0)).await.unwrap();
    let dead: Vec<_> = remote.dead(1).await.unwrap();
    assert_eq!(dead.len(), 1);
    assert_eq!(remote.purge(Duration::ZERO).await.unwrap(), 2);
    assert_eq!(remote.purge(Duration::ZERO).await.unwrap(), 0);
}

#[tokio::test]
async fn only_the_newest_thousand_dead_letters_are_kept() {
    let Some(remote) = open(Rules::default()).await else {
        return;
    };
    let all = jobs("", 1_010);
    add(&remote, &all).await;
    let mut ended = Vec::new();
    for _ in 0..12 {
        let taken = remote.exchange(&ended, want(100)).await.unwrap();
        let how = || How::Dead {
            error: String::new(),
        };
        ended = taken.granted.iter().map(|job| end(job, how())).collect();
    }
    let letters = remote.dead(2_000).await.unwrap();
    assert_eq!(letters.len(), 1_000);
    assert_eq!(letters[0].id, all[10].id);
}

#[tokio::test]
async fn a_penalty_stops_its_scope_and_a_shorter_one_does_not_end_it() {
    let Some(remote) = open(Rules::default()).await else {
        return;
    };
    let (a, b) = (jobs("a", 4), jobs("b", 4));
    add(&remote, &a).await;
    add(&remote, &b).await;
    let taken = take(&remote, 4).await;
    let snooze = |job, after, scope| {
        let penalty = Some(scope);
        end(job, How::Snooze { after, penalty })
    };
    let hour = ms(3_600_000);
    let (of_a, of_b): (Vec<_>, Vec<_>) = taken.granted.iter().partition(|job| job.key == b"a");
    assert_eq!(of_a.len(), 2);
    let ended: Vec<_> = of_b.into_iter().map(done).collect();
    remote.exchange(&ended, want(0)).await.unwrap();
    remote
        .exchange(&[snooze(of_a[0], hour, Scope::Key)], want(0))
        .await
        .unwrap();
    remote
        .exchange(&[snooze(of_a[1], ms(0), Scope::Key)], want(0))
        .await
        .unwrap();
    let rest = take(&remote, 9).await;
    assert_eq!(got(&rest), [b[2].id, b[3].id]);
    let half = hour / 2;
    let stop = snooze(&rest.granted[0], half, Scope::Queue);
    let short = snooze(&rest.granted[1], ms(1), Scope::Queue);
    remote.exchange(&[stop, short], want(0)).await.unwrap();
    let c = jobs("c", 1);
    add(&remote, &c).await;
    let stopped = take(&remote, 9).await;
    assert!(stopped.granted.is_empty() && stopped.next.unwrap() <= half);
    assert_eq!(stopped.limited[0], 1);
    remote.advance(half).await;
    // What is behind the penalty of its key goes on waiting.
    let mut rest = got(&take_until(&remote, want(9)).await);
    rest.sort_unstable();
    assert_eq!(rest, [b[2].id, b[3].id, c[0].id]);
}

#[tokio::test]
async fn a_lease_is_prolonged_by_the_time_given_whatever_was_asked_for_before() {
    let Some(remote) = open(Rules::default()).await else {
        return;
    };
    add(&remote, &jobs("", 1)).await;
    let short = Want {
        lease: ms(300),
        ..want(1)
    };
    let held = remote.exchange(&[], short).await.unwrap().granted;
    let kept = remote.extend(&[held[0].lease], LEASE).await.unwrap();
    assert!(kept.is_empty());
    tokio::time::sleep(ms(600)).await;
    assert!(
        remote
            .exchange(&[], short)
            .await
            .unwrap()
            .granted
            .is_empty()
    );
    let end = remote.exchange(&[done(&held[0])], want(0)).await.unwrap();
    assert!(end.lost.is_empty());
}
