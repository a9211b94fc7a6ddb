//! The machine against random worlds: late timers, slow handlers, few workers, failing jobs.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use proptest::prelude::*;

use super::*;

/// A simulated world: workers that each take one job at a time, and a timer that fires late.
#[derive(Debug, Clone)]
struct World {
    rules: Rules,
    keys: u32,
    jobs: u32,
    workers: usize,
    handler_ms: u64,
    late_us: u64,
    /// Of 100 runs, how many end in a retry, a snooze, a penalty or a release.
    trouble: u32,
    spread_ms: u64,
    seed: u64,
}

#[derive(Debug, Clone, Copy)]
struct Grant {
    at: Time,
    key: u32,
    seq: u64,
}

struct Run {
    grants: Vec<Grant>,
    completed: Vec<u64>,
    machine: Machine<u32, u32>,
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

impl World {
    fn run(&self) -> Run {
        let mut rng = fastrand::Rng::with_seed(self.seed);
        let mut machine = Machine::new(self.rules);
        let mut arrivals: VecDeque<(Time, u64)> = (0..u64::from(self.jobs))
            .map(|seq| (Time::at(ms(seq * self.spread_ms)), seq))
            .collect();
        let mut running: Vec<(Time, Claimed<u32>)> = Vec::new();
        let (mut grants, mut completed) = (Vec::new(), Vec::new());
        let mut now = Time::ZERO;
        loop {
            while let Some((at, seq)) = arrivals.front().copied()
                && at <= now
            {
                arrivals.pop_front();
                let key = rng.u32(0..self.keys);
                let delayed = rng.u32(0..10) == 0 && self.trouble > 0;
                let due = now.plus(ms(if delayed { rng.u64(0..50) } else { 0 }));
                machine.push(seq, key, key, now, due);
            }
            while let Some(at) = running.iter().position(|(until, _)| *until <= now) {
                let (_, job) = running.swap_remove(at);
                self.end(&mut machine, job, now, &mut rng, &mut completed);
            }
            while running.len() < self.workers
                && let Some(job) = machine.claim(now)
            {
                let (key, seq) = (job.payload, job.ticket.seq);
                grants.push(Grant { at: now, key, seq });
                let until = now.plus(ms(rng.u64(0..=self.handler_ms)));
                running.push((until, job));
            }
            let timer = (running.len() < self.workers)
                .then(|| machine.next_at())
                .flatten()
                .map(|at| at.max(now).plus_nanos(rng.u64(0..=self.late_us * 1_000)));
            let events = [
                timer,
                running.iter().map(|(until, _)| *until).min(),
                arrivals.front().map(|(at, _)| *at),
            ];
            match events.into_iter().flatten().min() {
                Some(at) => now = at.max(now),
                None => break,
            }
        }
        machine.tidy(now.plus(Duration::from_secs(3_600)));
        Run {
            grants,
            completed,
            machine,
        }
    }

    fn end(
        &self,
        machine: &mut Machine<u32, u32>,
        job: Claimed<u32>,
        now: Time,
        rng: &mut fastrand::Rng,
        completed: &mut Vec<u64>,
    ) {
        let attempt = job.ticket.attempt;
        let wait = ms(rng.u64(0..30));
        let how = match rng.u32(0..100) {
            n if n >= self.trouble => {
                completed.push(job.ticket.seq);
                return machine.finish(job.ticket, now);
            }
            n if n % 4 == 0 => Return::Now,
            n if n % 4 == 1 => Return::Penalty(Scope::Key, wait),
            n if n % 8 == 2 => Return::Penalty(Scope::Queue, wait),
            _ => Return::After(wait),
        };
        machine.put_back(job, attempt + 1, how, now);
    }
}

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

fn by_key(grants: &[Grant]) -> BTreeMap<u32, Vec<Grant>> {
    let mut keys: BTreeMap<u32, Vec<Grant>> = BTreeMap::new();
    for grant in grants {
        keys.entry(grant.key).or_default().push(*grant);
    }
    keys
}

fn times(grants: &[Grant]) -> Vec<Time> {
    grants.iter().map(|g| g.at).collect()
}

prop_compose! {
    fn limits()(quota in 1_u32..60, period in 20_u64..400, burst in 1_u32..60)
        -> (u32, Duration, Pace)
    {
        let period = ms(period);
        let nanos = u64::try_from(period.as_nanos()).unwrap();
        (quota, period, Pace::new(quota, nanos, burst.min(quota)))
    }
}

prop_compose! {
    fn worlds()(
        concurrency_per_key in prop::option::of(1_u32..4),
        (keys, jobs) in (1_u32..20, 1_u32..300),
        (workers, handler_ms, late_us) in (1_usize..12, 0_u64..40, 0_u64..5_000),
        (trouble, spread_ms, seed) in (0_u32..40, 0_u64..5, any::<u64>()),
    ) -> World {
        let rules = Rules { concurrency_per_key, ..Rules::default() };
        World { rules, keys, jobs, workers, handler_ms, late_us, trouble, spread_ms, seed }
    }
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
            if world.trouble == 0 {
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
            rules, keys: 1, jobs, workers, handler_ms: 50, late_us, trouble: 0, spread_ms: 0, seed,
        };
        let run = world.run();
        let took = run.grants.last().unwrap().at.elapsed();
        let ideal = period * 10;
        let used = ideal.as_secs_f64() / took.as_secs_f64();
        prop_assert!(used >= 0.98, "{used} of the rate: {took:?} instead of {ideal:?}");
    }
}

#[test]
fn a_key_with_many_jobs_does_not_delay_a_key_with_one() {
    let mut machine = Machine::new(Rules::default());
    for seq in 0..10_000 {
        machine.push(seq, "hot", "hot", Time::ZERO, Time::ZERO);
    }
    machine.push(10_000, "cold", "cold", Time::ZERO, Time::ZERO);
    let first: Vec<&str> = (0..2)
        .filter_map(|_| machine.claim(Time::ZERO).map(|job| job.payload))
        .collect();
    assert_eq!(first, ["hot", "cold"]);
}

#[test]
fn a_key_that_waits_for_its_limit_delays_no_other_key() {
    let rules = Rules {
        key: Some(Pace::new(1, 1_000_000_000, 1)),
        ..Rules::default()
    };
    let mut machine = Machine::new(rules);
    for (seq, key) in [(0, 1), (1, 1), (2, 1), (3, 2)] {
        machine.push(seq, key, seq, Time::ZERO, Time::ZERO);
    }
    let mut take = |at| machine.claim(Time::at(ms(at))).map(|job| job.payload);
    assert_eq!(take(0), Some(0));
    assert_eq!(take(0), Some(3));
    assert_eq!((take(0), take(999)), (None, None));
    assert_eq!((take(1_000), take(1_000)), (Some(1), None));
    assert_eq!(machine.next_at(), Some(Time::at(ms(2_000))));
    assert_eq!(machine.depth(Time::at(ms(1_000))).limited, 1);
    let limited = machine.take_limited();
    assert_eq!((limited.by_queue, limited.by_key), (0, 2));
}

#[test]
fn many_jobs_due_in_the_same_instant_are_all_handed_out() {
    let mut machine = Machine::new(Rules::default());
    let due = Time::at(ms(500));
    for seq in 0..50_000 {
        machine.push(seq, seq % 100, seq, Time::ZERO, due);
    }
    assert_eq!(machine.depth(Time::ZERO).scheduled, 50_000);
    assert_eq!(machine.next_at(), Some(due));
    assert!(machine.claim(Time::at(ms(499))).is_none());
    let claimed = std::iter::from_fn(|| machine.claim(due)).count();
    assert_eq!(claimed, 50_000);
}

#[test]
fn a_shorter_penalty_does_not_end_a_longer_one() {
    let mut machine = Machine::new(Rules::default());
    for seq in 0..3 {
        machine.push(seq, (), seq, Time::ZERO, Time::ZERO);
    }
    let jobs: Vec<_> = (0..2).filter_map(|_| machine.claim(Time::ZERO)).collect();
    let waits = [ms(100), ms(20)];
    for (job, wait) in jobs.into_iter().zip(waits) {
        machine.put_back(job, 1, Return::Penalty(Scope::Queue, wait), Time::ZERO);
    }
    assert_eq!(machine.next_at(), Some(Time::at(ms(100))));
    assert!(machine.claim(Time::at(ms(99))).is_none());
    assert!(machine.claim(Time::at(ms(100))).is_some());
}

#[test]
fn a_key_that_cannot_be_hashed_for_a_while_is_not_half_forgotten() {
    use std::cell::Cell;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    thread_local!(static BROKEN: Cell<bool> = const { Cell::new(false) });
    #[derive(Clone, PartialEq, Eq)]
    struct Name;
    impl Hash for Name {
        fn hash<H: std::hash::Hasher>(&self, _: &mut H) {
            assert!(!BROKEN.get(), "no hash");
        }
    }
    let mut machine = Machine::new(Rules::default());
    machine.push(0, Name, 0, Time::ZERO, Time::ZERO);
    let job = machine.claim(Time::ZERO).unwrap();
    BROKEN.set(true);
    assert!(catch_unwind(AssertUnwindSafe(|| machine.finish(job.ticket, Time::ZERO))).is_err());
    BROKEN.set(false);
    machine.push(1, Name, 1, Time::ZERO, Time::ZERO);
    let job = machine.claim(Time::ZERO).unwrap();
    machine.finish(job.ticket, Time::ZERO);
    assert_eq!((machine.keys.len(), machine.names.len()), (0, 0));
}
