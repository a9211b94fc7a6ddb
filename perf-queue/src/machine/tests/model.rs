//! The machine step by step beside a list of jobs that is searched from end to end.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Push { key: u8, priority: i8, wait_ms: u64 },
    PushBatch { key: u8, jobs: u32 },
    Claim,
    Finish(usize),
    PutBack(usize, u8, u64),
    Advance(u64),
    Concurrency(Option<u32>),
    Pause(bool),
}

#[derive(Debug, Clone)]
struct Waiting {
    key: u8,
    /// Smaller goes first within the key: rank, those put first, time of joining, order of coming.
    order: (i16, i64, Time, i64),
    joins: Time,
    seq: u64,
}

#[derive(Debug, Default)]
struct Model {
    waiting: Vec<Waiting>,
    in_flight: BTreeMap<u8, u32>,
    holds: BTreeMap<u8, Time>,
    hold: Time,
    cap: Option<u32>,
    paused: bool,
    added: i64,
    /// For each key that could have had a turn, at which turn that began.
    ready_since: BTreeMap<u8, u64>,
    last_turn: BTreeMap<u8, u64>,
    turn: u64,
}

impl Model {
    fn add(&mut self, job: (u64, u8, i16), first: bool, joins: Time) {
        self.added += 1;
        let (seq, key, rank) = job;
        let order = (
            -rank,
            if first { -self.added } else { 0 },
            joins,
            self.added,
        );
        self.waiting.push(Waiting {
            key,
            order,
            joins,
            seq,
        });
    }

    fn first(&self, key: u8, now: Time) -> Option<&Waiting> {
        let due = self
            .waiting
            .iter()
            .filter(|job| job.key == key && job.joins <= now);
        due.min_by_key(|job| job.order)
    }

    fn is_open(&self, key: u8, now: Time) -> bool {
        let running = self.in_flight.get(&key).copied().unwrap_or(0);
        self.holds.get(&key).is_none_or(|hold| *hold <= now)
            && self.cap.is_none_or(|cap| running < cap)
            && self.first(key, now).is_some()
    }

    fn open(&self, now: Time) -> Vec<u8> {
        (0..KEYS).filter(|key| self.is_open(*key, now)).collect()
    }

    /// To be called whenever anything has changed.
    fn note_open(&mut self, now: Time) {
        let open = self.open(now);
        self.ready_since.retain(|key, _| open.contains(key));
        for key in open {
            self.ready_since.entry(key).or_insert(self.turn);
        }
    }
}

const KEYS: u8 = 4;

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..KEYS, -1_i8..2, prop_oneof![3 => Just(0), 1 => 0_u64..20])
            .prop_map(|(key, priority, wait_ms)| Step::Push { key, priority, wait_ms }),
        2 => (0..KEYS, 1_u32..5).prop_map(|(key, jobs)| Step::PushBatch { key, jobs }),
        6 => Just(Step::Claim),
        3 => (0_usize..8).prop_map(Step::Finish),
        3 => (0_usize..8, 0_u8..4, 0_u64..20).prop_map(|(at, how, wait)| Step::PutBack(at, how, wait)),
        3 => (0_u64..10).prop_map(Step::Advance),
        1 => prop::option::of(1_u32..4).prop_map(Step::Concurrency),
        1 => any::<bool>().prop_map(Step::Pause),
    ]
}

fn claim(
    machine: &mut Machine<u8, u8>,
    model: &mut Model,
    now: Time,
) -> Result<Option<Claimed<u8>>, TestCaseError> {
    let open = model.open(now);
    let Some(job) = machine.claim(now) else {
        prop_assert!(
            model.paused || model.hold > now || open.is_empty(),
            "{open:?} could go"
        );
        return Ok(None);
    };
    prop_assert!(!model.paused && model.hold <= now);
    let key = job.payload;
    prop_assert!(open.contains(&key), "key {key} must wait");
    let seq = model.first(key, now).map(|first| first.seq);
    prop_assert_eq!(
        seq,
        Some(job.ticket.seq),
        "another job of the key was first"
    );
    model.waiting.retain(|job| Some(job.seq) != seq);
    *model.in_flight.entry(key).or_default() += 1;
    model.turn += 1;
    if let Some(before) = model.last_turn.insert(key, model.turn) {
        for (other, since) in &model.ready_since {
            let had = model.last_turn.get(other).copied().unwrap_or(0);
            prop_assert!(
                *other == key || *since >= before || had > before,
                "key {key} had two turns while {other} waited for one"
            );
        }
    }
    Ok(Some(job))
}

fn put_back(model: &mut Model, job: &Claimed<u8>, how: Return, now: Time) {
    let (seq, key) = (job.ticket.seq, job.payload);
    let blocks = model.cap == Some(1);
    let rank = if blocks {
        i16::MAX
    } else {
        i16::from(job.ticket.priority)
    };
    match how {
        Return::After(wait) if blocks => {
            let hold = model.holds.entry(key).or_default();
            *hold = now.plus(wait).max(*hold);
            model.add((seq, key, rank), true, now);
        }
        Return::After(wait) => model.add((seq, key, rank), false, now.plus(wait)),
        Return::Now => model.add((seq, key, rank), true, now),
        Return::Penalty(scope, wait) => {
            let hold = match scope {
                Scope::Key => model.holds.entry(key).or_default(),
                Scope::Queue => &mut model.hold,
            };
            *hold = now.plus(wait).max(*hold);
            model.add((seq, key, rank), true, now);
        }
    }
}

fn check_depth(
    machine: &mut Machine<u8, u8>,
    model: &Model,
    now: Time,
) -> Result<(), TestCaseError> {
    while machine.promote(now) {}
    let depth = machine.depth(now);
    let waiting = depth.ready + depth.scheduled + depth.limited;
    prop_assert_eq!(waiting, model.waiting.len());
    let running: u32 = model.in_flight.values().sum();
    prop_assert_eq!(depth.in_flight, running as usize);
    let open = model.open(now);
    let due = model.waiting.iter().filter(|job| job.joins <= now);
    let ready = due.clone().filter(|job| open.contains(&job.key)).count();
    prop_assert_eq!(depth.ready, if model.hold > now { 0 } else { ready });
    // Retries that block their key are in its list, and not counted as due before it is open.
    let blocking = due.clone().filter(|job| job.order.0 == -i16::MAX).count();
    let joined = due.count();
    let counted = depth.ready + depth.limited;
    prop_assert!(counted <= joined && counted + blocking >= joined);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn the_machine_does_what_the_model_does(steps in prop::collection::vec(step(), 1..150)) {
        let mut machine = Machine::new(Rules::default());
        let mut model = Model::default();
        let mut running: Vec<Claimed<u8>> = Vec::new();
        let mut now = Time::ZERO;
        let mut seq = 0;
        for step in steps {
            match step {
                Step::Push { key, priority, wait_ms } => {
                    let due = now.plus(ms(wait_ms));
                    let job = NewJob { priority, ..NewJob::new(seq, key, key, now, due) };
                    machine.push(job, now);
                    model.add((seq, key, i16::from(priority)), false, due);
                    seq += 1;
                }
                Step::PushBatch { key, jobs } => {
                    let payloads = Box::new((0..jobs).map(move |_| key));
                    machine.push_batch(Batch { seq, count: jobs, key, payloads }, now);
                    for _ in 0..jobs {
                        model.add((seq, key, 0), false, now);
                        seq += 1;
                    }
                }
                Step::Claim => running.extend(claim(&mut machine, &mut model, now)?),
                Step::Finish(_) | Step::PutBack(..) if running.is_empty() => {}
                Step::Finish(at) => {
                    let job = running.swap_remove(at % running.len());
                    machine.finish(job.ticket, now);
                    *model.in_flight.entry(job.payload).or_default() -= 1;
                }
                Step::PutBack(at, how, wait) => {
                    let job = running.swap_remove(at % running.len());
                    *model.in_flight.entry(job.payload).or_default() -= 1;
                    let wait = ms(wait);
                    let how = match how {
                        0 => Return::Now,
                        1 => Return::After(wait),
                        2 => Return::Penalty(Scope::Key, wait),
                        _ => Return::Penalty(Scope::Queue, wait),
                    };
                    put_back(&mut model, &job, how, now);
                    let attempt = job.ticket.attempt + 1;
                    machine.put_back(job, attempt, how, now);
                }
                Step::Advance(wait) => now = now.plus(ms(wait)),
                Step::Concurrency(cap) => {
                    model.cap = cap;
                    let rules = Rules { concurrency_per_key: cap, ..Rules::default() };
                    machine.set_rules(rules, now);
                }
                Step::Pause(paused) => {
                    model.paused = paused;
                    if paused { machine.pause() } else { machine.resume() }
                }
            }
            check_depth(&mut machine, &model, now)?;
            model.note_open(now);
        }
    }
}
