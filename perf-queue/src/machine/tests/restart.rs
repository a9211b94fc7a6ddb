//! Machines one after the other: limits hold in windows that span the end of one.

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use super::*;

/// A machine, from its start in milliseconds on.
#[derive(Debug, Clone)]
struct Life {
    key: Option<Pace>,
    /// The limit is another one from then on, that of all keys: those with one of their own get it again by
    /// their next job.
    change: Option<(u64, Option<Pace>)>,
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

/// The limit where it is another one, when, whether it is orderly and has limits of its own, the change,
/// and the jobs.
type Drawn = (
    Option<Option<Pace>>,
    (u64, u64),
    (bool, bool),
    Option<(u64, Option<Pace>)>,
    Vec<(u64, u64)>,
);

prop_compose! {
    fn lives()(
        first in prop::option::weighted(0.8, pace()),
        own in pace(),
        list in prop::collection::vec(
            (
                prop::option::weighted(0.3, prop::option::weighted(0.9, pace())),
                (0..40_u64, 1..150_u64),
                (any::<bool>(), prop::bool::weighted(0.3)),
                prop::option::weighted(0.3, (0..150_u64, prop::option::weighted(0.9, pace()))),
                prop::collection::vec((0..150_u64, 0..4_u64), 0..40),
            ),
            2..6,
        )
    ) -> Vec<Life> {
        let mut key = first;
        let life = |drawn: Drawn| {
            let (other, (after, lives), (orderly, own_ones), change, mut jobs) = drawn;
            let first = other.unwrap_or(key);
            // What a key had by a shorter period is not counted where it was idle for that one.
            let counts = |to: Option<Pace>| to.is_some_and(|to| to.period >= own.period);
            let change = change.filter(|(at, to)| *at < lives && (!own_ones || counts(*to)));
            key = change.map_or(first, |(_, other)| other);
            jobs.sort();
            let own = own_ones.then_some(own);
            Life { key: first, change, own, after, lives, orderly, jobs }
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
    keys: Option<KnownKeys>,
    orderly: bool,
    own: bool,
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
                    [past.own, life.own.is_some()],
                );
                if past.key == life.key && past.own == life.own.is_some() {
                    since = past.since;
                }
                machine.set_rules(rules(life.key), at(0));
                machine
            }
        };
        let mut jobs = life.jobs.iter().peekable();
        let (mut key, mut own) = (life.key, HashSet::new());
        for time in 0..life.lives {
            if let Some((when, other)) = life.change
                && when == time
                && other != key
            {
                machine.set_rules(rules(other), at(time));
                (key, since) = (other, born + time);
                own.clear();
            }
            while let Some((_, name)) = jobs.next_if(|(at, _)| *at <= time) {
                let mut job = NewJob::new(time, *name, *name, at(time), at(time));
                job.pace = life.own.filter(|_| name % 2 == 1);
                if job.pace.is_some() {
                    own.insert(*name);
                }
                machine.push(job, at(time));
            }
            for name in work(&mut machine, at(time)) {
                let pace = life.own.filter(|_| own.contains(&name)).or(key);
                grants.entry(name).or_default().push((pace, born + time));
            }
        }
        let end = at(life.lives);
        let last = machine.last_grant().map(|last| {
            let ago = end.since(last).as_millis();
            now - u64::try_from(ago).unwrap()
        });
        left = Some(Left {
            key,
            since,
            last,
            keys: machine.keep(end).filter(|_| life.orderly),
            orderly: life.orderly,
            own: life.own.is_some(),
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
    next.go_on(newest, Time::LONG_AGO, machine.keep(at(end)), [false; 2]);
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
        machine.go_on(at(0), Time::LONG_AGO, None, [false; 2]);
        push(&mut machine, 0, 1, at(0));
        push(&mut machine, 1, 2, at(20));
        assert_eq!(work(&mut machine, at(wait - 1)), [0; 0]);
        // Who lets go of it in between waits for the rest of it.
        let mut next = after(&machine, pace, wait - 10);
        push(&mut next, 0, 1, at(0));
        push(&mut next, 1, 3, at(0));
        assert_eq!(work(&mut next, at(9)), [0; 0]);
        assert_eq!(work(&mut next, at(10)), [0, 1]);
        assert_eq!(work(&mut machine, at(wait)), [0, 1]);
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
        assert_eq!(machine.keep(at(1)).is_some(), key == 0);
    }
    let known = machine.keep(at(1_000)).unwrap();
    assert_eq!((known.1, known.2.len()), (None, 0));
}

#[test]
fn a_longer_period_set_while_it_runs_counts_what_was_granted_before() {
    let pace = at_once(3, 1_000);
    let mut m = Machine::new(rules(pace));
    for (seq, time) in [600, 700, 800, 1_600, 1_700, 1_800].into_iter().enumerate() {
        push(&mut m, seq as u64, 1, at(time));
        assert_eq!(work(&mut m, at(time)), [seq as u64]);
    }
    m.set_rules(rules(at_once(6, 10_000)), at(1_850));
    for seq in 6..12 {
        push(&mut m, seq, 1, at(1_850));
    }
    assert_eq!(work(&mut m, at(1_850)), [0; 0]);
}

#[test]
fn a_longer_period_set_while_it_runs_counts_what_the_process_before_granted() {
    let pace = at_once(3, 1_000);
    let mut machine = Machine::new(rules(pace));
    for (seq, time) in [(0, 600), (1, 700), (2, 800)] {
        push(&mut machine, seq, 1, at(time));
        assert_eq!(work(&mut machine, at(time)), [seq]);
    }
    let mut next = after(&machine, pace, 900);
    for (seq, time) in [(0, 700), (1, 800), (2, 900)] {
        push(&mut next, seq, 1, at(time));
        assert_eq!(work(&mut next, at(time)), [seq]);
    }
    next.set_rules(rules(at_once(6, 10_000)), at(950));
    for seq in 3..9 {
        push(&mut next, seq, 1, at(950));
    }
    // Three at -300, -200, -100, and three at 700, 800, 900.
    assert_eq!(work(&mut next, at(950)), [0; 0]);
}

fn push_own(machine: &mut Machine<u64, u64>, seq: u64, key: u64, pace: Pace, time: u64) {
    let mut job = NewJob::new(seq, key, seq, at(time), at(time));
    job.pace = Some(pace);
    machine.push(job, at(time));
}

#[test]
fn another_rate_of_its_own_counts_what_the_process_before_granted() {
    let (short, long) = (at_once(5, 1_000), at_once(5, 10_000));
    let mut machine = Machine::new(Rules::default());
    for seq in 0..4 {
        push_own(&mut machine, seq, 1, short, 0);
    }
    assert_eq!(work(&mut machine, at(0)).len(), 4);
    push_own(&mut machine, 4, 1, short, 1_900);
    assert_eq!(work(&mut machine, at(1_900)), [4]);
    let mut next = Machine::new(Rules::default());
    next.go_on(
        at(0).before(ms(100)),
        Time::LONG_AGO,
        machine.keep(at(2_000)),
        [true; 2],
    );
    push_own(&mut next, 100, 2, short, 0);
    push_own(&mut next, 0, 1, short, 0);
    assert_eq!(work(&mut next, at(0)), [100, 0]);
    for seq in 1..6 {
        push_own(&mut next, seq, 1, long, 10);
    }
    // Four at -2000, one at -100, one at 0.
    assert_eq!(work(&mut next, at(10)), [0; 0]);
}

#[test]
fn a_key_is_not_taken_for_another_of_the_same_hash() {
    #[derive(Clone, PartialEq, Eq)]
    struct Chat(u64);
    impl Hash for Chat {
        fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
            (self.0 / 10).hash(state);
        }
    }
    let pace = paced(1, 1_000);
    let mut machine = Machine::new(rules(pace));
    push(&mut machine, 0, Chat(1), at(0));
    work(&mut machine, at(0));
    let mut next = Machine::new(rules(pace));
    next.go_on(
        at(0).before(ms(50)),
        Time::LONG_AGO,
        machine.keep(at(50)),
        [false; 2],
    );
    push(&mut next, 2, Chat(2), at(0));
    push(&mut next, 1, Chat(1), at(0));
    assert!(!work(&mut next, at(0)).contains(&1));
}

#[test]
fn a_kill_costs_a_key_one_wait_however_often_it_is_restarted_after() {
    let hour = 3_600_000;
    let (short, long) = (paced(1, 1_000), paced(1, 20 * hour));
    let (mut newest, mut keys) = (at(0), None);
    let end = 19 * hour;
    let mut started = 0;
    for _ in 0..30 {
        let mut m = Machine::new(Rules::default());
        m.go_on(newest, Time::LONG_AGO, keys, [true; 2]);
        push_own(&mut m, 2, 2, long, 0);
        for hours in 1..19 {
            push_own(&mut m, 1, 1, short, hours * hour);
            started += work(&mut m, at(hours * hour))
                .iter()
                .filter(|it| **it == 2)
                .count();
        }
        keys = m.keep(at(end));
        newest = at(0).before(at(end).since(m.last_grant().unwrap()));
    }
    assert!(started > 0, "in 570 hours");
}
