//! Late timers, slow handlers, few workers, failing jobs, and rules that change.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::*;

/// A simulated world: workers that each take one job at a time, and a timer that fires late.
#[derive(Debug, Clone)]
pub(super) struct World {
    pub(super) rules: Rules,
    pub(super) keys: u32,
    pub(super) jobs: u32,
    pub(super) workers: usize,
    pub(super) handler_ms: u64,
    pub(super) late_us: u64,
    /// Of 100 runs, how many end in a retry, a snooze, a penalty or a release.
    pub(super) trouble: u32,
    pub(super) spread_ms: u64,
    /// Other rules from a time on, in order of time.
    pub(super) changes: Vec<(u64, Rules)>,
    /// Keys of an odd number have this limit, until a change gives all keys one.
    pub(super) own: Option<Pace>,
    /// How many priorities there are.
    pub(super) priorities: i8,
    pub(super) seed: u64,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Grant {
    pub(super) at: Time,
    pub(super) key: u32,
    pub(super) seq: u64,
    /// The limits in force: of the queue and of the key.
    pub(super) paces: [Option<Pace>; 2],
}

pub(super) struct Run {
    pub(super) grants: Vec<Grant>,
    pub(super) completed: Vec<u64>,
    pub(super) machine: Machine<u32, u32>,
}

impl World {
    pub(super) fn run(&self) -> Run {
        let mut rng = fastrand::Rng::with_seed(self.seed);
        let mut machine = Machine::new(self.rules);
        let mut arrivals: VecDeque<(Time, u64)> = (0..u64::from(self.jobs))
            .map(|seq| (Time::at(ms(seq * self.spread_ms)), seq))
            .collect();
        let mut running: Vec<(Time, Claimed<u32>)> = Vec::new();
        let (mut grants, mut completed) = (Vec::new(), Vec::new());
        let mut now = Time::ZERO;
        let (mut rules, mut own) = (self.rules, self.own);
        let mut changes: VecDeque<_> = self.changes.clone().into();
        loop {
            while let Some((_, new)) = changes.pop_front_if(|(at, _)| Time::at(ms(*at)) <= now) {
                machine.set_rules(new, now);
                if new.key != rules.key {
                    own = None;
                }
                rules = new;
            }
            while let Some((at, seq)) = arrivals.front().copied()
                && at <= now
            {
                arrivals.pop_front();
                let key = rng.u32(0..self.keys);
                let delayed = rng.u32(0..10) == 0 && self.trouble > 0;
                let due = now.plus(ms(if delayed { rng.u64(0..50) } else { 0 }));
                let job = NewJob {
                    priority: rng.i8(0..self.priorities.max(1)),
                    pace: own.filter(|_| key % 2 == 1),
                    ..NewJob::new(seq, key, key, now, due)
                };
                machine.push(job, now);
            }
            while let Some(at) = running.iter().position(|(until, _)| *until <= now) {
                let (_, job) = running.swap_remove(at);
                self.end(&mut machine, job, now, &mut rng, &mut completed);
            }
            while running.len() < self.workers
                && let Some(job) = machine.claim(now)
            {
                let (key, seq) = (job.payload, job.ticket.seq);
                let of_key = own.filter(|_| key % 2 == 1).or(rules.key);
                let paces = [rules.queue, of_key];
                grants.push(Grant {
                    at: now,
                    key,
                    seq,
                    paces,
                });
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
                changes.front().map(|(at, _)| Time::at(ms(*at))),
            ];
            match events.into_iter().flatten().min() {
                Some(at) => now = at.max(now),
                None => break,
            }
        }
        machine.tidy(now.plus(Duration::from_secs(36_000)));
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

pub(super) fn by_key(grants: &[Grant]) -> BTreeMap<u32, Vec<Grant>> {
    let mut keys: BTreeMap<u32, Vec<Grant>> = BTreeMap::new();
    for grant in grants {
        keys.entry(grant.key).or_default().push(*grant);
    }
    keys
}

pub(super) fn times(grants: &[Grant]) -> Vec<Time> {
    grants.iter().map(|g| g.at).collect()
}

prop_compose! {
    pub(super) fn limits()(quota in 1_u32..60, period in 20_u64..400, burst in 1_u32..60)
        -> (u32, Duration, Pace)
    {
        let period = ms(period);
        let nanos = u64::try_from(period.as_nanos()).unwrap();
        (quota, period, Pace::new(quota, nanos, burst.min(quota)))
    }
}

prop_compose! {
    pub(super) fn worlds()(
        concurrency_per_key in prop::option::of(1_u32..4),
        (keys, jobs) in (1_u32..20, 1_u32..300),
        (workers, handler_ms, late_us) in (1_usize..12, 0_u64..40, 0_u64..5_000),
        (trouble, spread_ms, seed) in (0_u32..40, 0_u64..5, any::<u64>()),
        priorities in 1_i8..4,
    ) -> World {
        let rules = Rules { concurrency_per_key, ..Rules::default() };
        let (changes, own) = (Vec::new(), None);
        World {
            rules, keys, jobs, workers, handler_ms, late_us, trouble, spread_ms, changes, own,
            priorities, seed,
        }
    }
}
