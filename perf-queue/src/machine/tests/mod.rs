//! The machine against random worlds, and against a model that is too simple to be wrong.

mod change;
mod examples;
#[cfg(feature = "sqlite")]
mod gate;
mod limits;
mod memory;
mod model;
mod priority;
#[cfg(feature = "sqlite")]
mod restart;
mod world;

use std::hash::Hash;
use std::time::Duration;

use super::*;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn at(n: u64) -> Time {
    Time::at(ms(n))
}

/// At most `quota` in any `period_ms`, all of them at once.
fn at_once(quota: u32, period_ms: u64) -> Pace {
    Pace::new(quota, period_ms * 1_000_000, quota)
}

/// At most `quota` in any `period_ms`, evenly spaced.
fn paced(quota: u32, period_ms: u64) -> Pace {
    Pace::new(quota, period_ms * 1_000_000, 1)
}

impl<T, K: Hash + Eq + Clone> Machine<T, K> {
    fn claim(&mut self, now: Time) -> Option<Claimed<T>> {
        let mut payload = None;
        let ticket = self.claim_to(now, &mut payload)?;
        let payload = payload?;
        Some(Claimed { payload, ticket })
    }
}

/// Adds a job that is due, with its number as payload.
fn push<K: Hash + Eq + Clone>(machine: &mut Machine<u64, K>, seq: u64, key: K, now: Time) {
    machine.push(NewJob::new(seq, key, seq, now, now), now);
}

/// Takes all jobs that may start, and ends each at once.
fn work<K: Hash + Eq + Clone>(machine: &mut Machine<u64, K>, now: Time) -> Vec<u64> {
    std::iter::from_fn(|| {
        let job = machine.claim(now)?;
        machine.finish(job.ticket, now);
        Some(job.payload)
    })
    .collect()
}
