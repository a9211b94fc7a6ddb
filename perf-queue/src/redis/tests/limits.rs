use std::collections::HashMap;
use std::time::Duration;

use super::support::*;
use crate::model::changes::Clock as _;
use crate::redis::RedisRemote;
use crate::remote::{NewJob, Quota, Remote, Rules, Want};

const SECOND: Duration = Duration::from_secs(1);

/// Slots by key, in microseconds of the server's clock, each with when it was given.
pub(super) type Slots = HashMap<Vec<u8>, Vec<(u64, u64)>>;

/// Takes all jobs as their slots come, and ends them at once.
pub(super) async fn run(
    remote: &RedisRemote,
    jobs: usize,
    mut wanted: impl FnMut() -> Want,
) -> Slots {
    let (mut slots, mut seen, mut ended) = (Slots::new(), 0, Vec::new());
    while seen < jobs {
        let exchange = remote.exchange_by_clock(&ended, wanted()).await;
        let (exchange, now) = exchange.unwrap();
        ended = done(&exchange.granted);
        seen += ended.len();
        assert!(exchange.granted.is_sorted_by_key(|granted| granted.starts));
        for granted in exchange.granted {
            let slot = now + u64::try_from(granted.starts.as_micros()).unwrap();
            slots.entry(granted.key).or_default().push((slot, now));
        }
        if seen < jobs && ended.is_empty() {
            tokio::time::sleep(exchange.next.unwrap()).await;
        }
    }
    slots
}

pub(super) fn all(slots: &Slots) -> Vec<(u64, u64)> {
    let mut all: Vec<_> = slots.values().flatten().copied().collect();
    all.sort_unstable();
    all
}

/// No half-open window holds more than the quota: the slot `quota` places on is a period away.
pub(super) fn holds(quota: Quota, slots: &[(u64, u64)]) {
    let mut slots: Vec<u64> = slots.iter().map(|(slot, _)| *slot).collect();
    slots.sort_unstable();
    let period = u64::try_from(quota.period.as_micros()).unwrap();
    for window in slots.windows(quota.quota as usize + 1) {
        let [first, .., last] = window else { continue };
        assert!(
            last - first >= period,
            "{} in {} us",
            window.len(),
            last - first
        );
    }
}

/// The slots are evenly spaced, and none is left out while somebody asks for it.
pub(super) fn paced(quota: Quota, slots: &[(u64, u64)]) {
    let period = u64::try_from(quota.period.as_micros()).unwrap();
    let step = period.div_ceil(u64::from(quota.quota));
    for pair in slots.windows(2) {
        let [(before, _), (slot, given)] = pair else {
            continue;
        };
        assert_eq!(*slot, (before + step).max(*given));
    }
}

fn ahead(within: Duration) -> impl FnMut() -> Want {
    move || Want { within, ..want(50) }
}

#[tokio::test]
async fn the_slots_of_a_queue_are_evenly_spaced_and_all_used_with_a_backlog() {
    let limit = quota(300, SECOND, 1);
    let rules = Rules {
        queue: Some(limit),
        ..Rules::default()
    };
    let Some(remote) = open_with(rules).await else {
        return;
    };
    remote.add(&jobs("k", 0..300)).await;
    let slots = all(&run(&remote, 300, ahead(50 * MS)).await);
    holds(limit, &slots);
    paced(limit, &slots);
}

#[tokio::test]
async fn the_slots_of_each_key_are_evenly_spaced_and_no_key_waits_for_another() {
    let limit = quota(20, SECOND, 1);
    let rules = Rules {
        key: Some(limit),
        ..Rules::default()
    };
    let Some(remote) = open_with(rules).await else {
        return;
    };
    for key in 0..10 {
        remote
            .add(&jobs(&format!("{key}"), key * 100..key * 100 + 20))
            .await;
    }
    let first = remote.claim(100).await;
    assert_eq!(first.granted.len(), 10);
    assert!(
        first
            .granted
            .iter()
            .all(|granted| granted.limited && granted.starts.is_zero())
    );
    assert_eq!(first.limited, [0, 10]);
    let next = first.next.unwrap();
    assert!(next > 10 * MS && next <= 50 * MS, "{next:?}");
    let slots = run(&remote, 190, ahead(30 * MS)).await;
    assert_eq!(slots.len(), 10);
    for slots in slots.values() {
        holds(limit, slots);
        paced(limit, slots);
    }
}

#[tokio::test]
async fn both_limits_hold_at_once_with_bursts_as_well() {
    let (queue, key) = (quota(100, SECOND / 2, 10), quota(5, SECOND / 4, 5));
    let rules = Rules {
        queue: Some(queue),
        key: Some(key),
        ..Rules::default()
    };
    let Some(remote) = open_with(rules).await else {
        return;
    };
    for number in 0..15 {
        remote
            .add(&jobs(&format!("{number}"), number * 100..number * 100 + 20))
            .await;
    }
    let mut trip = 0;
    let wanted = || {
        trip += 1;
        Want {
            within: Duration::from_millis([0, 40, 5][trip % 3]),
            ..want([1, 50, 7, 200][trip % 4])
        }
    };
    let slots = run(&remote, 300, wanted).await;
    holds(queue, &all(&slots));
    for slots in slots.values() {
        holds(key, slots);
    }
}

#[tokio::test]
async fn a_burst_goes_at_once_and_then_the_window_holds() {
    let limit = quota(10, LONG, 10);
    for rules in [
        Rules {
            queue: Some(limit),
            ..Rules::default()
        },
        Rules {
            key: Some(limit),
            ..Rules::default()
        },
    ] {
        let Some(remote) = open_with(rules).await else {
            return;
        };
        remote.add(&jobs("k", 0..30)).await;
        let work_off = async |jobs| {
            let granted = remote.claim(jobs).await.granted;
            remote.tell(&done(&granted)).await;
            granted.len()
        };
        assert_eq!(work_off(4).await, 4);
        // What is left of the burst is ready.
        assert_eq!(remote.counts().await.unwrap().ready, 26);
        assert_eq!(work_off(100).await, 6);
        assert_eq!(remote.counts().await.unwrap().limited, 20);
        for _ in 0..2 {
            assert_eq!(work_off(100).await, 0);
            remote.advance(limit.period).await;
            assert_eq!(work_off(100).await, 10);
        }
    }
}

#[tokio::test]
async fn two_processes_share_the_limits() {
    let limit = quota(200, SECOND, 1);
    let rules = Rules {
        queue: Some(limit),
        ..Rules::default()
    };
    let Some(backend) = backend().await else {
        return;
    };
    let one = backend.clone().open("q", Some(&rules)).await.unwrap();
    let two = backend.open("q", None).await.unwrap();
    one.add(&jobs("k", 0..200)).await;
    one.add(&jobs("j", 200..400)).await;
    let (one, two) = tokio::join!(
        run(&one, 150, ahead(20 * MS)),
        run(&two, 150, ahead(35 * MS))
    );
    let mut slots = [all(&one), all(&two)].concat();
    slots.sort_unstable();
    holds(limit, &slots);
    paced(limit, &slots);
}

#[tokio::test]
async fn a_job_gets_no_slot_beyond_the_time_that_was_asked_for() {
    let rules = Rules {
        queue: Some(quota(10, 100 * SECOND, 1)),
        ..Rules::default()
    };
    let Some(remote) = open_with(rules).await else {
        return;
    };
    remote.add(&jobs("k", 0..20)).await;
    let wanted = Want {
        within: 45 * SECOND,
        ..want(20)
    };
    let exchange = remote.exchange(&[], wanted).await.unwrap();
    let starts: Vec<u128> = exchange
        .granted
        .iter()
        .map(|g| g.starts.as_millis())
        .collect();
    assert_eq!(starts, [0, 10_000, 20_000, 30_000, 40_000]);
    // The next slot is 50 s ahead, and may be had 45 s before that.
    let next = exchange.next.unwrap();
    assert!(next > 2 * SECOND && next <= 5 * SECOND, "{next:?}");
    assert_eq!(exchange.limited[0], 5);
    // Whoever does not look ahead gets none of those that were given away.
    let exchange = remote.claim(20).await;
    assert!(exchange.granted.is_empty());
    assert!(exchange.next.is_some_and(|next| next > 30 * SECOND));
    assert_eq!(remote.counts().await.unwrap().limited, 15);
}

#[tokio::test]
async fn a_limit_changes_at_once_for_jobs_that_wait_by_the_old_one() {
    let slow = quota(1, LONG, 1);
    let fast = quota(100, SECOND, 1);
    for (slow, fast) in [
        (rules_of(Some(slow), None), rules_of(Some(fast), None)),
        (rules_of(None, Some(slow)), rules_of(None, Some(fast))),
    ] {
        let Some(remote) = open_with(slow).await else {
            return;
        };
        remote.add(&jobs("k", 0..5)).await;
        assert_eq!(remote.claim(5).await.granted.len(), 1);
        assert!(remote.claim(5).await.granted.is_empty());
        assert_eq!(remote.counts().await.unwrap().limited, 4);
        remote.set_rules(&fast).await.unwrap();
        let slots = all(&run(&remote, 4, ahead(Duration::ZERO)).await);
        paced(quota(100, SECOND, 1), &slots);
    }
}

const fn rules_of(queue: Option<Quota>, key: Option<Quota>) -> Rules {
    Rules {
        queue,
        key,
        concurrency_per_key: None,
    }
}

#[tokio::test]
async fn a_hot_key_does_not_delay_a_cold_one() {
    let rules = Rules {
        queue: Some(quota(200, SECOND, 1)),
        key: Some(quota(100, SECOND, 1)),
        concurrency_per_key: Some(4),
    };
    let Some(remote) = open_with(rules).await else {
        return;
    };
    remote.add(&jobs("hot", 0..5_000)).await;
    let _ = run(&remote, 20, ahead(20 * MS)).await;
    for number in 10_000..10_020 {
        remote.add(&[job("cold", number)]).await;
        let (mut ended, mut hot) = (Vec::new(), 0);
        loop {
            let exchange = remote.exchange(&ended, want(50)).await.unwrap();
            ended = done(&exchange.granted);
            let cold = exchange
                .granted
                .iter()
                .position(|granted| granted.key == b"cold");
            hot += cold.unwrap_or(ended.len());
            if cold.is_some() {
                break;
            }
            tokio::time::sleep(exchange.next.unwrap()).await;
        }
        // One that was in its turn, and one while the cold key waited for its own limit.
        assert!(hot <= 2, "{hot}");
        remote.tell(&ended).await;
    }
}

#[tokio::test]
async fn limits_are_as_strict_whatever_is_asked_for() {
    // Prime numbers, so that nothing divides evenly.
    let (queue, key) = (quota(67, SECOND / 3, 3), quota(7, SECOND / 7, 2));
    let Some(remote) = open_with(rules_of(Some(queue), Some(key))).await else {
        return;
    };
    let mut random = fastrand::Rng::with_seed(1);
    let batch: Vec<NewJob> = (0..400)
        .map(|number| NewJob {
            delay: Duration::from_millis(random.u64(0..300)),
            priority: random.i8(..),
            ..job(&random.u8(0..12).to_string(), number)
        })
        .collect();
    remote.add(&batch).await;
    let wanted = || Want {
        within: Duration::from_millis(random.u64(0..60)),
        ..want(random.usize(1..40))
    };
    let slots = run(&remote, 400, wanted).await;
    holds(queue, &all(&slots));
    for slots in slots.values() {
        holds(key, slots);
    }
}
