//! How dead letters become jobs again.

use std::hash::Hash;

use super::store::{Store, Stored};
use crate::backend::{Errors, NotReplayed};
use crate::machine::{NewJob, Time};
use crate::{DeadLetter, JobId};

impl<T, K> Store<T, K>
where
    K: Hash + Eq + Clone,
{
    /// Whether there is a dead letter of this id, with its job.
    pub(super) fn is_dead(&self, id: JobId) -> bool {
        let state = self.lock();
        let found = |(_, letter): &(Time, DeadLetter<T>)| letter.id == id && letter.job.is_ok();
        state.dead.iter().any(found)
    }

    /// Puts a dead letter back, for which there is room.
    pub(super) fn put_back(&self, id: JobId) -> Result<bool, NotReplayed> {
        let mut state = self.lock();
        if state.closed {
            return Err(NotReplayed::Closed);
        }
        let found = |(_, letter): &(Time, DeadLetter<T>)| letter.id == id && letter.job.is_ok();
        let at = state.dead.iter().position(found);
        let Some((_, letter)) = at.and_then(|at| state.dead.remove(at)) else {
            return Ok(false);
        };
        drop(state);
        let Ok(job) = letter.job else {
            return Ok(false);
        };
        let key = (self.key)(&job);
        let pace = self.settings.rate_per_key.as_ref();
        let pace = pace.and_then(|rate| rate.own(&job));
        let mut state = self.lock();
        let now = self.now();
        let seq = state.next_seq;
        state.next_seq += 1;
        let stored = Stored {
            job,
            id,
            trace: None,
            errors: Errors::default(),
        };
        let new = NewJob {
            pace,
            ..NewJob::new(seq, key, stored, now, now)
        };
        state.machine.push(new, now);
        self.finish(state, now, None);
        Ok(true)
    }
}
