//! Rules that change while jobs wait.

use std::ops::Range;

use proptest::prelude::*;

use super::world::*;
use super::*;

/// No grant may be the last of a window, of the limit then in force, with more than its quota.
fn check(grants: &[Grant], scope: usize) -> Result<(), TestCaseError> {
    for (last, grant) in grants.iter().enumerate() {
        let Some(pace) = grant.paces[scope] else {
            continue;
        };
        let begin = grant.at.minus_nanos(pace.period);
        let window = grants[..=last].iter().rev();
        let count = window.take_while(|g| g.at > begin).count();
        prop_assert!(
            count <= pace.quota,
            "{count} grants, quota {}, at {:?}",
            pace.quota,
            grant.at
        );
    }
    Ok(())
}

fn pace_or_none() -> impl Strategy<Value = Option<Pace>> {
    prop::option::weighted(0.8, limits().prop_map(|(.., pace)| pace))
}

/// Limits small enough that keys are forgotten and come back between two changes, and much of what
/// the next limit asks for is not known any more.
fn small() -> impl Strategy<Value = Option<Pace>> {
    let period_ms = prop::sample::select(vec![7, 20, 60, 200]);
    let limit = (1_u32..6, period_ms, any::<bool>()).prop_map(|(quota, ms, once)| {
        if once {
            at_once(quota, ms)
        } else {
            paced(quota, ms)
        }
    });
    prop::option::weighted(0.9, limit)
}

prop_compose! {
    /// Some rules stay, as is common.
    fn changes(pace: BoxedStrategy<Option<Pace>>, at: Range<u64>, count: Range<usize>)(
        list in prop::collection::vec(
            (at, pace.clone(), pace, prop::option::of(1_u32..4), 0..8_u8),
            count,
        )
    ) -> Vec<(u64, Rules)> {
        let mut rules = Rules::default();
        let mut list: Vec<_> = list
            .into_iter()
            .map(|(at, queue, key, concurrency_per_key, which)| {
                if which & 1 == 0 { rules.queue = queue; }
                if which & 2 == 0 { rules.key = key; }
                if which & 4 == 0 { rules.concurrency_per_key = concurrency_per_key; }
                (at, rules)
            })
            .collect();
        list.sort_by_key(|(at, _)| *at);
        list
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(800))]

    #[test]
    fn new_rules_hold_in_every_window_that_ends_after_the_change(
        mut world in worlds(),
        queue in pace_or_none(),
        key in pace_or_none(),
        own in prop::option::weighted(0.3, limits()),
        changes in changes(pace_or_none().boxed(), 0..1_500, 1..6),
    ) {
        world.rules.queue = queue;
        world.rules.key = key;
        world.own = own.map(|(.., pace)| pace);
        world.changes = changes;
        check_run(&world)?;
    }

    #[test]
    fn new_rules_count_what_keys_did_that_have_been_forgotten(
        (keys, spread_ms, handler_ms, jobs) in (1_u32..4, 1_u64..9, 0_u64..5, 50_u32..200),
        (queue, key, of_queue) in (small(), small(), prop::bool::weighted(0.3)),
        own in prop::option::weighted(0.3, small()),
        changes in changes(small().boxed(), 0..900, 1..8),
        seed in any::<u64>(),
    ) {
        let mut world = World {
            rules: Rules { queue: queue.filter(|_| of_queue), key, concurrency_per_key: None },
            keys, jobs, workers: 8, handler_ms, late_us: 0, trouble: 0, spread_ms, changes,
            own: own.flatten(), priorities: 1, seed,
        };
        for (_, rules) in &mut world.changes {
            rules.queue = rules.queue.filter(|_| of_queue);
        }
        check_run(&world)?;
    }
}

fn check_run(world: &World) -> Result<(), TestCaseError> {
    let run = world.run();
    check(&run.grants, 0)?;
    for grants in by_key(&run.grants).values() {
        check(grants, 1)?;
    }
    prop_assert_eq!(run.completed.len(), world.jobs as usize);
    prop_assert!(run.machine.is_empty());
    prop_assert_eq!((run.machine.ready, run.machine.jobs.due()), (0, 0));
    prop_assert_eq!((run.machine.keys.len(), run.machine.names.len()), (0, 0));
    Ok(())
}

fn of_queue(pace: Pace) -> Rules {
    Rules {
        queue: Some(pace),
        ..Rules::default()
    }
}

fn of_key(pace: Pace) -> Rules {
    Rules {
        key: Some(pace),
        ..Rules::default()
    }
}

/// Works through a backlog until `until`; returns the instants of the grants in ms.
fn grants(machine: &mut Machine<u64, u64>, mut now: Time, until: Time) -> Vec<u64> {
    let mut at = Vec::new();
    loop {
        if let Some(job) = machine.claim(now) {
            machine.finish(job.ticket, now);
            at.push(u64::try_from(now.elapsed().as_millis()).unwrap());
            continue;
        }
        match machine.next_at() {
            Some(next) if next.max(now) < until => now = next.max(now),
            _ => return at,
        }
    }
}

fn backlog(rules: Rules) -> Machine<u64, u64> {
    let mut machine = Machine::new(rules);
    for seq in 0..10_000 {
        push(&mut machine, seq, 0, at(0));
    }
    machine
}

#[test]
fn a_raised_rate_is_used_at_once() {
    for rules in [of_queue, of_key] {
        let mut machine = backlog(rules(paced(10, 1_000)));
        assert_eq!(grants(&mut machine, at(0), at(5_050)).len(), 51);
        machine.set_rules(rules(paced(100, 1_000)), at(5_050));
        let after = grants(&mut machine, at(5_050), at(6_050));
        assert!(after[0] <= 5_050, "{after:?}");
        assert!(after.len() >= 88, "{}", after.len());
    }
}

#[test]
fn a_lowered_rate_counts_what_the_old_one_let_through() {
    for rules in [of_queue, of_key] {
        let mut machine = backlog(rules(at_once(100, 1_000)));
        assert_eq!(grants(&mut machine, at(0), at(1)).len(), 100);
        machine.set_rules(rules(at_once(10, 1_000)), at(500));
        let after = grants(&mut machine, at(500), at(3_000));
        assert_eq!((after[0], after.len()), (1_000, 20));
    }
}

#[test]
fn a_longer_period_counts_what_was_granted_before_the_old_one() {
    for rules in [of_queue, of_key] {
        let mut machine = backlog(rules(paced(1, 1_000)));
        assert_eq!(grants(&mut machine, at(0), at(60_500)).len(), 61);
        // 60 of those in the minute before: only when 31 have left is there room again.
        machine.set_rules(rules(at_once(30, 60_000)), at(60_500));
        let after = grants(&mut machine, at(60_500), at(100_000));
        assert_eq!((after[0], after[1]), (91_000, 92_000));
    }
}

#[test]
fn a_first_limit_waits_a_period_from_the_last_job() {
    for rules in [of_queue, of_key] {
        let mut machine = backlog(Rules::default());
        for _ in 0..100 {
            let job = machine.claim(at(300)).unwrap();
            machine.finish(job.ticket, at(300));
        }
        machine.set_rules(rules(at_once(10, 1_000)), at(400));
        let after = grants(&mut machine, at(400), at(2_300));
        assert_eq!((after[0], after.len()), (1_300, 10));
    }
}

#[test]
fn without_a_grant_before_it_a_new_limit_waits_for_nothing() {
    for rules in [of_queue, of_key] {
        let mut machine = backlog(Rules::default());
        machine.set_rules(rules(at_once(10, 1_000)), at(400));
        assert_eq!(grants(&mut machine, at(400), at(500)).len(), 10);
    }
}

#[test]
fn a_limit_that_is_lifted_lets_all_go() {
    for rules in [of_queue, of_key] {
        let mut machine = backlog(rules(paced(1, 60_000)));
        assert_eq!(grants(&mut machine, at(0), at(10)).len(), 1);
        machine.set_rules(Rules::default(), at(10));
        assert_eq!(grants(&mut machine, at(10), at(11)).len(), 9_999);
    }
}

#[test]
fn more_or_fewer_at_once_than_before_holds_from_the_change_on() {
    let concurrency = |jobs| Rules {
        concurrency_per_key: jobs,
        ..Rules::default()
    };
    let mut machine = backlog(concurrency(Some(1)));
    let mut running: Vec<_> = std::iter::from_fn(|| machine.claim(at(0))).collect();
    assert_eq!(running.len(), 1);
    assert_eq!(machine.next_at(), None);
    machine.set_rules(concurrency(Some(3)), at(1));
    running.extend(std::iter::from_fn(|| machine.claim(at(1))));
    assert_eq!(running.len(), 3);
    machine.set_rules(concurrency(Some(2)), at(2));
    machine.finish(running.pop().unwrap().ticket, at(2));
    assert!(machine.claim(at(2)).is_none());
    machine.finish(running.pop().unwrap().ticket, at(2));
    assert!(machine.claim(at(2)).is_some());
    machine.set_rules(concurrency(None), at(3));
    assert_eq!(machine.depth(at(3)).ready, 9_996);
}

#[test]
fn a_longer_period_waits_for_what_a_key_may_have_done_before_it_was_forgotten() {
    let mut machine = Machine::new(of_key(at_once(2, 1_000)));
    push(&mut machine, 0, 1, at(0));
    push(&mut machine, 1, 2, at(9_000));
    assert_eq!(work(&mut machine, at(9_000)), [0, 1]);
    machine.set_rules(of_key(at_once(2, 30_000)), at(9_500));
    // One grant is known, and others may have been forgotten that were at 8.5 s at the latest.
    push(&mut machine, 2, 2, at(9_600));
    assert!(work(&mut machine, at(9_600)).is_empty());
    assert!(work(&mut machine, at(38_000)).is_empty());
    assert_eq!(work(&mut machine, at(38_500)), [2]);
    machine.tidy(at(38_500));
    assert_eq!(
        machine.keys.len(),
        2,
        "remembered for as long as it matters"
    );
    // From then on all is known.
    machine.tidy(at(70_000));
    assert_eq!(machine.keys.len(), 0);
    push(&mut machine, 3, 3, at(70_000));
    assert_eq!(work(&mut machine, at(70_000)), [3]);
}

#[test]
fn a_key_whose_own_limit_becomes_another_waits_one_of_its_periods() {
    let mut machine = Machine::new(Rules::default());
    let job = |seq, pace| NewJob {
        pace: Some(pace),
        ..NewJob::new(seq, 0, seq, at(0), at(0))
    };
    for seq in 0..4 {
        machine.push(job(seq, at_once(2, 1_000)), at(0));
    }
    assert_eq!(work(&mut machine, at(0)), [0, 1]);
    machine.push(job(4, at_once(3, 5_000)), at(10));
    assert!(work(&mut machine, at(4_999)).is_empty());
    assert_eq!(work(&mut machine, at(5_000)), [2, 3, 4]);
}

#[test]
fn one_limit_for_all_keys_is_that_of_keys_which_had_their_own() {
    let mut machine = Machine::new(Rules::default());
    for seq in 0..20 {
        let pace = Some(at_once(1, 60_000));
        let job = NewJob::new(seq, 0, seq, at(0), at(0));
        machine.push(NewJob { pace, ..job }, at(0));
    }
    assert_eq!(work(&mut machine, at(0)), [0]);
    machine.set_rules(of_key(at_once(5, 1_000)), at(100));
    assert!(work(&mut machine, at(999)).is_empty());
    assert_eq!(work(&mut machine, at(1_000)), [1, 2, 3, 4, 5]);
}
