//! Random sequences of verbs, against a model in memory.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::Index;

use super::support::*;
use crate::redis::RedisRemote;
use crate::remote::{Ended, Exchange, Granted, How, NewJob, Remote, Rules};
use crate::{JobId, Scope};

const CAPACITY: usize = 30;

#[derive(Debug, Clone)]
enum Step {
    /// Keys, priorities, and whether it is for later.
    Enqueue(Vec<(u8, i8, bool)>),
    /// Which of the running jobs end, and how; how many are wanted.
    Exchange(Vec<(Index, How)>, usize),
    Extend(Index),
    Concurrency(Option<u32>),
    Replay(Index),
    Purge,
    Pause(bool),
}

fn how() -> impl Strategy<Value = How> {
    let after = prop_oneof![4 => Just(Duration::ZERO), 1 => Just(LONG)];
    let retry = after.clone().prop_map(retry);
    let penalty = prop_oneof![6 => Just(None), 1 => Just(Some(Scope::Key))];
    let snooze = (after, penalty).prop_map(|(after, penalty)| snooze(after, penalty));
    let dead = Just(How::Dead {
        error: "dead".to_owned(),
    });
    prop_oneof![4 => Just(How::Done), 2 => retry, 1 => snooze, 2 => Just(How::Released), 1 => dead]
}

fn step() -> impl Strategy<Value = Step> {
    let priority = prop_oneof![4 => Just(0), 1 => -2..2i8, 1 => Just(i8::MIN), 1 => Just(i8::MAX)];
    let job = (0..4u8, priority, prop::bool::weighted(0.1));
    let ended = prop::collection::vec((any::<Index>(), how()), 0..6);
    prop_oneof![
        4 => prop::collection::vec(job, 0..8).prop_map(Step::Enqueue),
        8 => (ended, 0..8usize).prop_map(|(ended, want)| Step::Exchange(ended, want)),
        1 => any::<Index>().prop_map(Step::Extend),
        1 => prop::option::of(1..3u32).prop_map(Step::Concurrency),
        1 => any::<Index>().prop_map(Step::Replay),
        1 => Just(Step::Purge),
        1 => any::<bool>().prop_map(Step::Pause),
    ]
}

#[derive(Debug, Clone, PartialEq)]
struct Job {
    number: u64,
    priority: i8,
    attempt: u32,
}

#[derive(Debug, Default)]
struct Key {
    /// Those that came back to the front, by the lease that they had.
    front: BTreeMap<u64, Job>,
    /// By urgency and then by order.
    rest: BTreeMap<(i16, u64), Job>,
    held: bool,
    running: usize,
}

impl Key {
    fn len(&self) -> usize {
        self.front.len() + self.rest.len()
    }

    fn pop(&mut self) -> Option<Job> {
        let first = self.front.pop_first().map(|(_, job)| job);
        first.or_else(|| self.rest.pop_first().map(|(_, job)| job))
    }
}

#[derive(Debug, Default)]
struct Model {
    keys: BTreeMap<Vec<u8>, Key>,
    running: Vec<(Granted, Job)>,
    scheduled: usize,
    dead: Vec<(Vec<u8>, Job)>,
    concurrency: Option<u32>,
    paused: bool,
    next: u64,
    order: u64,
}

impl Model {
    fn append(&mut self, key: &[u8], job: Job) {
        self.order += 1;
        let place = (-i16::from(job.priority), self.order);
        self.keys
            .entry(key.to_vec())
            .or_default()
            .rest
            .insert(place, job);
    }

    fn waiting(&self) -> usize {
        self.keys.values().map(Key::len).sum()
    }

    fn room(&self) -> usize {
        CAPACITY - self.waiting() - self.running.len() - self.scheduled
    }

    fn startable(&self) -> usize {
        let cap = self.concurrency.map_or(usize::MAX, |cap| cap as usize);
        let of = |key: &Key| match key.held {
            true => 0,
            false => key.len().min(cap.saturating_sub(key.running)),
        };
        self.keys.values().map(of).sum()
    }

    /// Takes some of the running jobs out, each at most once.
    fn choose(&mut self, ended: &[(Index, How)]) -> Vec<(Granted, Job, How)> {
        let mut chosen = Vec::new();
        for (index, how) in ended {
            if self.running.is_empty() {
                break;
            }
            let (granted, job) = self.running.remove(index.index(self.running.len()));
            chosen.push((granted, job, how.clone()));
        }
        chosen
    }

    fn end(&mut self, ended: Vec<(Granted, Job, How)>) {
        let mut due = Vec::new();
        for (granted, mut job, how) in ended {
            let blocks = self.concurrency == Some(1);
            let key = self.keys.entry(granted.key.clone()).or_default();
            key.running -= 1;
            let after = match how {
                How::Done => continue,
                How::Dead { .. } => {
                    self.dead.push((granted.key, job));
                    continue;
                }
                How::Released => {
                    key.front.insert(granted.lease.token, job);
                    continue;
                }
                How::Retry { after, .. } => {
                    job.attempt += 1;
                    after
                }
                How::Snooze { after, penalty } => {
                    key.held |= penalty.is_some() && !after.is_zero();
                    after
                }
            };
            if blocks {
                key.held |= !after.is_zero();
                key.front.insert(granted.lease.token, job);
            } else if after.is_zero() {
                due.push((granted, job));
            } else {
                self.scheduled += 1;
            }
        }
        // Those that fall due in the same microsecond.
        due.sort_by_key(|(granted, _)| granted.lease.id);
        for (granted, job) in due {
            self.append(&granted.key, job);
        }
    }

    fn grant(&mut self, exchange: Exchange, want: usize) {
        let expected = if self.paused {
            0
        } else {
            self.startable().min(want)
        };
        assert_eq!(exchange.granted.len(), expected);
        assert_eq!(exchange.paused, self.paused);
        let cap = self.concurrency.map_or(usize::MAX, |cap| cap as usize);
        for granted in exchange.granted {
            let key = self.keys.get_mut(&granted.key).unwrap();
            let job = key.pop().unwrap();
            key.running += 1;
            assert!(!key.held && key.running <= cap);
            assert_eq!(
                (job.number, job.attempt),
                (number(&granted), granted.attempt)
            );
            self.running.push((granted, job));
        }
        if !self.paused && self.startable() > 0 {
            assert_eq!(exchange.next, Some(Duration::ZERO));
        }
    }
}

async fn enqueue(remote: &RedisRemote, model: &mut Model, new: &[(u8, i8, bool)]) {
    let mut batch = Vec::new();
    for (key, priority, later) in new {
        model.next += 1;
        let delay = if *later { LONG } else { Duration::ZERO };
        batch.push(NewJob {
            delay,
            priority: *priority,
            ..job(&key.to_string(), model.next)
        });
    }
    let answer = remote.enqueue(&batch).await.unwrap();
    assert_eq!(answer.is_some(), batch.len() <= model.room());
    if answer.is_none() {
        return;
    }
    // The answer was lost: once more.
    remote.add(&batch).await;
    for new in batch {
        let job = Job {
            number: new.id.seq(),
            priority: new.priority,
            attempt: 1,
        };
        if new.delay.is_zero() {
            model.append(&new.key, job);
        } else {
            model.scheduled += 1;
        }
    }
}

async fn take(remote: &RedisRemote, model: &mut Model, step: &Step) {
    match step {
        Step::Enqueue(new) => enqueue(remote, model, new).await,
        Step::Exchange(ended, wanted) => {
            // The server ends those that are done first.
            let mut chosen = model.choose(ended);
            chosen.sort_by_key(|(_, _, how)| *how != How::Done);
            let ended: Vec<Ended> = chosen
                .iter()
                .map(|(granted, _, how)| end(granted.lease, how.clone()))
                .collect();
            let exchange = remote.exchange(&ended, want(*wanted)).await.unwrap();
            assert_eq!(exchange.lost, []);
            model.end(chosen);
            model.grant(exchange, *wanted);
            // Who says it twice has lost them.
            let lost = remote.exchange(&ended, want(0)).await.unwrap().lost;
            assert_eq!(lost.len(), ended.len());
        }
        Step::Extend(index) => {
            if let Some(n) = model.running.len().checked_sub(1) {
                let lease = model.running[index.index(n + 1)].0.lease;
                assert_eq!(remote.extend(&[lease], LEASE).await.unwrap(), []);
            }
        }
        Step::Concurrency(concurrency) => {
            let rules = Rules {
                concurrency_per_key: *concurrency,
                ..Rules::default()
            };
            remote.set_rules(&rules).await.unwrap();
            model.concurrency = *concurrency;
        }
        Step::Replay(index) => {
            if let Some(n) = model.dead.len().checked_sub(1) {
                let index = index.index(n + 1);
                let id = JobId::new(7, model.dead[index].1.number);
                let replayed = remote.replay(id).await.unwrap();
                assert_eq!(replayed.is_some(), model.room() > 0);
                if replayed == Some(true) {
                    let (key, mut job) = model.dead.remove(index);
                    job.attempt = 1;
                    model.append(&key, job);
                }
            }
        }
        Step::Purge => {
            assert_eq!(
                remote.purge(Duration::ZERO).await.unwrap(),
                model.dead.len() as u64
            );
            model.dead.clear();
        }
        Step::Pause(paused) => {
            remote.pause(*paused).await.unwrap();
            model.paused = *paused;
        }
    }
    let counts = remote.counts().await.unwrap();
    assert_eq!(counts.ready + counts.limited, model.waiting() as u64);
    assert_eq!(counts.in_flight, model.running.len() as u64);
    assert_eq!(counts.scheduled, model.scheduled as u64);
    let letters = remote.dead(CAPACITY * 100).await.unwrap();
    let letters: Vec<u64> = letters.iter().map(|letter| letter.id.seq()).collect();
    assert_eq!(
        letters,
        model
            .dead
            .iter()
            .map(|(_, job)| job.number)
            .collect::<Vec<_>>()
    );
    assert_eq!(counts.dead, letters.len() as u64);
}

#[test]
fn the_verbs_agree_with_the_model() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let Some(server) = runtime.block_on(testkit::Redis::shared()) else {
        return;
    };
    proptest!(ProptestConfig::with_cases(100), |(steps in prop::collection::vec(step(), 1..60))| {
        runtime.block_on(async {
            let backend = crate::Redis::connect(server.url()).prefix(server.prefix());
            let backend = backend.allow_data_loss().capacity(CAPACITY);
            let remote = backend.open("q", None).await.unwrap();
            let mut model = Model::default();
            for step in &steps {
                take(&remote, &mut model, step).await;
            }
        });
    });
}
