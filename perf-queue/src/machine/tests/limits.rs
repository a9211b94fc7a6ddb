use std::collections::BTreeSet;

use proptest::prelude::*;

use super::world::*;
use super::*;

/// The grants at `times` that most crowd a half-open window of `period`.
fn busiest_window(times: &[Time], period: Duration) -> usize {
    let mut first = 0;
    (0..times.len())
        .map(|last| {
            while times[first].plus(period) <= times[last] {
                first += 1;
            }
            last - first + 1
        })
        .max()
        .unwrap_or(0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_window_holds_more_grants_than_the_quota(
        mut world in worlds(),
        queue in limits(),
        key in limits(),
        which in 0..3,
    ) {
        world.rules.queue = (which != 1).then_some(queue.2);
        world.rules.key = (which != 0).then_some(key.2);
        let run = world.run();
        if which != 1 {
            let busiest = busiest_window(&times(&run.grants), queue.1);
            prop_assert!(busiest <= queue.0 as usize, "{busiest} grants, quota {}", queue.0);
        }
        if which != 0 {
            for grants in by_key(&run.grants).values() {
                let busiest = busiest_window(&times(grants), key.1);
                prop_assert!(busiest <= key.0 as usize, "{busiest} grants, quota {}", key.0);
            }
        }
    }

    #[test]
    fn every_job_completes_once_and_nothing_is_left_behind(
        mut world in worlds(),
        queue in prop::option::of(limits()),
        key in prop::option::of(limits()),
    ) {
        world.rules.queue = queue.map(|(.., pace)| pace);
        world.rules.key = key.map(|(.., pace)| pace);
        let run = world.run();
        let unique: BTreeSet<u64> = run.completed.iter().copied().collect();
        prop_assert_eq!(run.completed.len(), world.jobs as usize);
        prop_assert_eq!(unique.len(), world.jobs as usize);
        prop_assert!(run.machine.is_empty());
        prop_assert_eq!(run.machine.ready, 0);
        prop_assert_eq!(run.machine.jobs.due(), 0);
        prop_assert_eq!(run.machine.keys.len(), 0, "state of fresh keys is dropped");
        prop_assert_eq!(run.machine.names.len(), 0);
    }

    #[test]
    fn jobs_of_a_key_complete_in_order_when_they_run_one_by_one(
        mut world in worlds(),
        key in prop::option::of(limits()),
    ) {
        world.rules.concurrency_per_key = Some(1);
        world.rules.key = key.map(|(.., pace)| pace);
        let run = world.run();
        for grants in by_key(&run.grants).values() {
            // Delayed jobs join their key later; without trouble there are none.
            if world.trouble == 0 && world.priorities == 1 {
                prop_assert!(grants.windows(2).all(|g| g[0].seq < g[1].seq));
            }
            // A job that comes back is run again before any other of its key.
            let mut seqs: Vec<u64> = grants.iter().map(|g| g.seq).collect();
            seqs.dedup();
            let unique: BTreeSet<u64> = seqs.iter().copied().collect();
            prop_assert_eq!(unique.len(), seqs.len());
        }
    }

    #[test]
    fn with_a_backlog_98_percent_of_the_rate_are_used(
        quota in 1_u32..500,
        period_ms in 200_u64..1_500,
        burst in 1_u32..500,
        late_us in 0_u64..3_000,
        per_key in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let period = ms(period_ms);
        let pace = Pace::new(quota, period_ms * 1_000_000, burst.min(quota));
        let rules = Rules {
            queue: (!per_key).then_some(pace),
            key: per_key.then_some(pace),
            concurrency_per_key: None,
        };
        let jobs = quota * 10 + 1;
        let workers = (jobs as usize).min(2_000);
        let world = World {
            rules, keys: 1, jobs, workers, handler_ms: 50, late_us, trouble: 0, spread_ms: 0,
            changes: Vec::new(), own: None, priorities: 1, seed,
        };
        let run = world.run();
        let took = run.grants.last().unwrap().at.elapsed();
        let ideal = period * 10;
        let used = ideal.as_secs_f64() / took.as_secs_f64();
        prop_assert!(used >= 0.98, "{used} of the rate: {took:?} instead of {ideal:?}");
    }

    #[test]
    fn a_period_that_the_quota_does_not_divide_is_used_to_the_nanosecond(
        quota in 1_u32..200,
        period in 1_u64..100_000,
        burst in 1_u32..200,
    ) {
        let pace = Pace::new(quota, period, burst.min(quota));
        let mut limiter = Limiter::default();
        let mut grants = Vec::new();
        let mut now = Time::ZERO;
        for _ in 0..5 * quota {
            now = now.max(limiter.next_at(&pace));
            limiter.grant(&pace, now, Time::ZERO);
            grants.push(now);
        }
        let busiest = busiest_window(&grants, Duration::from_nanos(period));
        prop_assert!(busiest <= quota as usize, "{busiest} grants, quota {quota}");
        for (periods, grant) in (0..).zip(grants.chunks(quota as usize)) {
            prop_assert_eq!(grant[0], Time::ZERO.plus_nanos(periods * period));
        }
    }
}
