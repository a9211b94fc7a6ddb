//! How dead letters become jobs again.

use std::hash::Hash;

use super::store::{Store, Stored};
use crate::backend::{Errors, NotReplayed};
use crate::machine::{NewJob, Time};
use crate::panics::contained;
use crate::{DeadLetter, JobId};

impl<T, K> Store<T, K>
where
    K: Hash + Eq + Clone,
{
    /// Whether there is a dead letter of this id, with its job.
    pub(super) fn is_dead(&self, id: JobId) -> bool {
        self.lock().dead.iter().any(|(_, letter)| is(letter, id))
    }

    /// Puts a dead letter back, for which there is room.
    pub(super) fn put_back(&self, id: JobId) -> Result<bool, NotReplayed> {
        let Some(mut letter) = self.take_letter(id)? else {
            return Ok(false);
        };
        let Some(job) = letter.job() else {
            return Ok(false);
        };
        // The user's code, outside of the lock.
        let key = (self.key)(job);
        let pace = self.settings.rate_per_key.as_ref();
        let pace = pace.and_then(|rate| rate.own(job));
        let (mut state, now) = self.enter();
        // If this panics, too, the letter goes back after the lock.
        let key = state.machine.enter(key, pace, now);
        let Some(job) = letter.take() else {
            return Ok(false);
        };
        let seq = state.next_seq;
        state.next_seq += 1;
        let stored = Stored {
            job,
            id,
            trace: None,
            errors: Errors::default(),
        };
        let new = NewJob::new(seq, (), stored, now, now);
        state.machine.push_to(key, new, now);
        self.finish(state, now, None);
        Ok(true)
    }

    fn take_letter(&self, id: JobId) -> Result<Option<Letter<'_, T, K>>, NotReplayed> {
        let mut state = self.lock();
        if state.closed {
            return Err(NotReplayed::Closed);
        }
        let at = state.dead.iter().position(|(_, letter)| is(letter, id));
        Ok(at.and_then(|at| {
            let (died, letter) = state.dead.remove(at)?;
            Some(Letter {
                store: self,
                at,
                died,
                letter: Some(letter),
            })
        }))
    }
}

fn is<T>(letter: &DeadLetter<T>, id: JobId) -> bool {
    letter.id == id && letter.job.is_ok()
}

/// A dead letter on its way back into the queue. One of the dead again if that comes to nothing, as when
/// its key panics.
struct Letter<'a, T, K> {
    store: &'a Store<T, K>,
    /// Where it was.
    at: usize,
    died: Time,
    letter: Option<DeadLetter<T>>,
}

impl<T, K> Letter<'_, T, K> {
    fn job(&self) -> Option<&T> {
        self.letter.as_ref()?.job.as_ref().ok()
    }

    fn take(&mut self) -> Option<T> {
        self.letter.take()?.job.ok()
    }
}

impl<T, K> Drop for Letter<'_, T, K> {
    fn drop(&mut self) {
        let Some(letter) = self.letter.take() else {
            return;
        };
        let mut state = self.store.lock();
        let dead = &mut state.dead;
        let [first, last] = [
            dead.partition_point(|(died, _)| *died < self.died),
            dead.partition_point(|(died, _)| *died <= self.died),
        ];
        dead.insert(self.at.clamp(first, last), (self.died, letter));
        let mut dropped = None;
        if dead.len() > self.store.settings.dead_letters {
            // Others have died meanwhile.
            dropped = dead.pop_front();
            state.tally.dead_dropped += 1;
        }
        drop(state);
        contained(|| drop(dropped));
    }
}
