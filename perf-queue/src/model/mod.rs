//! One model of a queue for all places where its jobs may be: random steps are taken by a backend and
//! by lists in memory, which must agree after each.
//!
//! Time stands still, except where a backend goes by a clock that can be moved: on a server, what is
//! for later is for after the test.

#[cfg(any(feature = "postgres", feature = "redis"))]
pub(crate) mod changes;
mod lists;
mod local;
#[cfg(any(feature = "postgres", feature = "redis"))]
mod server;
mod steps;

use proptest::prelude::*;

use self::lists::Model;
pub(crate) use self::lists::{Differs, Front};
pub(crate) use self::local::{Local, parts};
#[cfg(any(feature = "postgres", feature = "redis"))]
pub(crate) use self::server::Server;
use self::steps::Step;
pub(crate) use self::steps::{How, steps};

pub(crate) const CAPACITY: usize = 30;

/// Longer than any test takes, and than a clock is moved in one.
pub(crate) const LONG: u64 = 1_000_000;

/// A job to enqueue. Times are seconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct New {
    pub(crate) number: u64,
    pub(crate) key: u8,
    pub(crate) priority: i8,
    pub(crate) delay: u64,
}

/// A job that was granted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    pub(crate) number: u64,
    pub(crate) attempt: u32,
    /// Of its lease, where it has one: later ones are larger.
    pub(crate) token: u64,
}

/// How many jobs a backend says there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sizes {
    /// Due or not.
    pub(crate) waiting: u64,
    pub(crate) in_flight: u64,
    /// The dead letters, the oldest first.
    pub(crate) dead: Vec<u64>,
}

/// A backend as the model sees it. Jobs are known by their numbers.
pub(crate) trait System {
    fn differs(&self) -> Differs;

    /// Whether there was room for all of them.
    async fn enqueue(&mut self, jobs: &[New]) -> bool;

    /// Ends jobs that run, in this order.
    async fn end(&mut self, ended: &[(u64, How)]);

    /// Takes as many as it can get.
    async fn claim(&mut self, want: usize) -> Vec<Run>;

    /// Says that a job still runs.
    async fn extend(&mut self, _number: u64) {}

    /// A process takes at most so many jobs and is gone at once; `None` where jobs do not outlive it.
    async fn crash(&mut self, want: usize) -> Option<Vec<Run>>;

    /// Moves the clock, where that can be done.
    async fn advance(&mut self, _seconds: u64) -> bool {
        false
    }

    /// Replaces the limit, where that can be done.
    async fn set_concurrency(&mut self, _cap: Option<u32>) -> bool {
        false
    }

    async fn replay(&mut self, number: u64) -> bool;

    async fn purge(&mut self) -> u64;

    async fn pause(&mut self, paused: bool);

    async fn sizes(&mut self) -> Sizes;
}

/// The number of jobs of a key that run at once, at first, and what is done.
pub(crate) fn case() -> impl Strategy<Value = (Option<u32>, Vec<Step>)> {
    (prop::option::of(1..4_u32), steps())
}

/// Takes the steps, on a system that was built with this limit.
pub(crate) async fn run(system: &mut impl System, concurrency: Option<u32>, steps: Vec<Step>) {
    let mut model = Model::new(system.differs(), concurrency);
    for step in steps {
        take(system, &mut model, step).await;
        let sizes = Sizes {
            waiting: model.waiting() as u64,
            in_flight: model.running.len() as u64,
            dead: model.dead.iter().map(|job| job.number).collect(),
        };
        assert_eq!(system.sizes().await, sizes);
    }
}

async fn take(system: &mut impl System, model: &mut Model, step: Step) {
    match step {
        Step::Enqueue(jobs) => {
            let jobs: Vec<New> = jobs.into_iter().map(|job| model.number(job)).collect();
            let fits = jobs.len() <= model.room();
            assert_eq!(system.enqueue(&jobs).await, fits);
            if fits {
                jobs.into_iter().for_each(|job| model.add(job));
            }
        }
        Step::Exchange(ended, want) => {
            let ended = model.choose(ended);
            let told: Vec<(u64, How)> = ended.iter().map(|it| (it.job.number, it.how)).collect();
            system.end(&told).await;
            model.end(ended);
            let granted = system.claim(want).await;
            model.grant(&granted, want);
        }
        Step::Extend(index) => {
            if let Some(job) = model.pick_running(index) {
                system.extend(job).await;
            }
        }
        Step::Crash(want) => {
            if let Some(granted) = system.crash(want).await {
                model.grant(&granted, granted.len());
                model.lose(&granted);
            }
        }
        Step::Advance(seconds) => {
            if system.advance(seconds).await {
                model.advance(seconds);
            }
        }
        Step::Concurrency(cap) => {
            if system.set_concurrency(cap).await {
                model.concurrency = cap;
            }
        }
        Step::Replay(index) => {
            // A replay waits for room.
            if let Some(number) = model.pick_dead(index)
                && model.room() > 0
            {
                assert!(system.replay(number).await);
                model.replay(number);
                // There is no such letter any more.
                assert!(!system.replay(number).await);
            }
        }
        Step::Purge => {
            assert_eq!(system.purge().await, model.dead.len() as u64);
            model.dead.clear();
        }
        Step::Pause(paused) => {
            system.pause(paused).await;
            model.paused = paused;
        }
    }
}
