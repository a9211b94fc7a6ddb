//! Machines one after the other: limits hold in windows that span the end of one.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

/// A machine, from its start in milliseconds on.
#[derive(Debug, Clone)]
struct Life {
    key: Option<Pace>,
    /// Limits of their own for every other key.
    own: Option<Pace>,
    /// How long after the last one it starts, and how long it lives.
    after: u64,
    lives: u64,
    /// Whether it leaves to the next what it knows.
    orderly: bool,
    /// When jobs come, and of which keys.
    jobs: Vec<(u64, u64)>,
}

fn pace() -> impl Strategy<Value = Pace> {
    let period_ms = prop::sample::select(vec![20, 60, 200]);
    (1_u32..5, period_ms, any::<bool>()).prop_map(|(quota, ms, once)| match once {
        true => at_once(quota, ms),
        false => paced(quota, ms),
    })
}

prop_compose! {
    fn lives()(
        first in prop::option::weighted(0.8, pace()),
        own in prop::option::weighted(0.4, pace()),
        list in prop::collection::vec(
            (
                prop::option::weighted(0.3, prop::option::weighted(0.9, pace())),
                (0..40_u64, 1..150_u64),
                any::<bool>(),
                prop::collection::vec((0..150_u64, 0..4_u64), 0..40),
            ),
            2..6,
        )
    ) -> Vec<Life> {
        let mut key = first;
        let life = |(other, (after, lives), orderly, mut jobs): (Option<Option<Pace>>, _, _, Vec<_>)| {
            key = other.unwrap_or(key);
            jobs.sort();
            Life { key, own, after, lives, orderly, jobs }
        };
        list.into_iter().map(life).collect()
    }
}

/// What the next machine finds.
struct Left {
    key: Option<Pace>,
    /// That was the limit.
    since: u64,
    last: Option<u64>,
    keys: Option<Vec<KeptKey>>,
    orderly: bool,
}

/// Of a key: its limit then, and when by the clock of all.
type Grants = HashMap<u64, Vec<(Option<Pace>, u64)>>;

fn live(lives: &[Life]) -> Grants {
    let mut grants = Grants::new();
    let mut now = 1_000;
    let mut left: Option<Left> = None;
    for life in lives {
        let born = now + life.after;
        now = born + life.lives;
        let rules = |key| Rules {
            key,
            ..Rules::default()
        };
        let mut since = born;
        let mut machine = match left.take() {
            None => Machine::new(rules(life.key)),
            Some(past) => {
                let mut machine = Machine::new(rules(past.key));
                // Who was killed may have started jobs until now.
                let last = past.last.filter(|_| past.orderly);
                let quiet = last.map_or(0, |last| born - last);
                let before = |d| at(0).before(ms(d));
                machine.go_on(
                    before(quiet),
                    before(born - past.since),
                    past.keys,
                    life.own.is_some(),
                );
                if past.key == life.key {
                    since = past.since;
                }
                machine.set_rules(rules(life.key), at(0));
                machine
            }
        };
        let mut jobs = life.jobs.iter().peekable();
        for time in 0..life.lives {
            while let Some((_, key)) = jobs.next_if(|(at, _)| *at <= time) {
                let mut job = NewJob::new(time, *key, *key, at(time), at(time));
                job.pace = life.own.filter(|_| key % 2 == 1);
                machine.push(job, at(time));
            }
            for key in work(&mut machine, at(time)) {
                let pace = life.own.filter(|_| key % 2 == 1).or(life.key);
                grants.entry(key).or_default().push((pace, born + time));
            }
        }
        let end = at(life.lives);
        let last = machine.last_grant().map(|last| {
            let ago = end.since(last).as_millis();
            now - u64::try_from(ago).unwrap()
        });
        left = Some(Left {
            key: life.key,
            since,
            last,
            keys: machine
                .keep(end, life.own.is_some())
                .filter(|_| life.orderly),
            orderly: life.orderly,
        });
    }
    grants
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn no_key_gets_more_than_its_quota_in_a_window_over_several_processes(lives in lives()) {
        for (key, grants) in live(&lives) {
            for (last, (pace, at)) in grants.iter().enumerate() {
                let Some(pace) = pace else { continue };
                let period = pace.period / 1_000_000;
                let window = grants[..=last].iter().rev();
                let count = window.take_while(|(_, t)| t + period > *at).count();
                prop_assert!(
                    count <= pace.quota,
                    "{count} of {key}, quota {} in {period} ms, at {at}: {grants:?}",
                    pace.quota,
                );
            }
        }
    }
}

fn rules(key: Pace) -> Rules {
    Rules {
        key: Some(key),
        ..Rules::default()
    }
}

/// What the next machine finds, that starts at once.
fn after(machine: &Machine<u64, u64>, key: Pace, end: u64) -> Machine<u64, u64> {
    let mut next = Machine::new(rules(key));
    let last = machine.last_grant().unwrap();
    let newest = at(0).before(at(end).since(last));
    next.go_on(newest, Time::LONG_AGO, machine.keep(at(end), false), false);
    next
}

#[test]
fn a_key_goes_on_where_the_last_process_left_it_and_others_are_new() {
    let pace = at_once(3, 1_000);
    let mut machine = Machine::new(rules(pace));
    for (seq, time) in [(0, 0), (1, 100), (2, 600)] {
        push(&mut machine, seq, 1, at(time));
        assert_eq!(work(&mut machine, at(time)), [seq]);
    }
    // Not even looked at by the one in between.
    let machine = after(&after(&machine, pace, 700), pace, 50);
    let mut next = after(&machine, pace, 50);
    for seq in 0..3 {
        push(&mut next, seq, 1, at(0));
        push(&mut next, 10 + seq, 2, at(0));
    }
    assert_eq!(work(&mut next, at(0)), [10, 11, 12]);
    // 800 after the first.
    assert_eq!(next.next_at(), Some(at(200)));
    assert_eq!(work(&mut next, at(299)), [0]);
    assert_eq!(work(&mut next, at(300)), [1]);
}

#[test]
fn after_a_kill_every_key_waits_for_one_slot_or_with_a_burst_for_a_period() {
    for (pace, wait) in [(paced(10, 1_000), 150), (at_once(10, 1_000), 1_000)] {
        let mut machine = Machine::new(rules(pace));
        machine.go_on(at(0), Time::LONG_AGO, None, false);
        push(&mut machine, 0, 1, at(0));
        push(&mut machine, 1, 2, at(20));
        assert_eq!(work(&mut machine, at(wait - 1)), [0; 0]);
        assert_eq!(work(&mut machine, at(wait)), [0, 1]);
        // Also for who lets go of it in between.
        let mut next = after(&machine, pace, wait + 1);
        push(&mut next, 0, 3, at(0));
        assert_eq!(work(&mut next, at(0)).is_empty(), wait < 1_000);
    }
}

#[test]
fn keys_that_cannot_be_told_apart_are_not_kept() {
    #[derive(Clone, PartialEq, Eq)]
    struct Alike(u64);
    impl Hash for Alike {
        fn hash<H: std::hash::Hasher>(&self, _: &mut H) {}
    }
    let mut machine = Machine::new(rules(paced(1, 1_000)));
    for key in 0..2 {
        push(&mut machine, key, Alike(key), at(0));
        work(&mut machine, at(0));
        assert_eq!(machine.keep(at(1), false).is_some(), key == 0);
    }
    assert_eq!(machine.keep(at(1_000), false), Some(Vec::new()));
}
