//! How jobs come into the store.

#[cfg(feature = "sqlite")]
use std::collections::VecDeque;
use std::hash::Hash;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use tokio::sync::SemaphorePermit;

#[cfg(feature = "sqlite")]
use super::store::Restored;
use super::store::{State, Store, Stored};
use crate::JobId;
use crate::backend::{Errors, Submission};
use crate::machine::{Batch, NewJob, Pace, Time};
use crate::panics::contained;

/// Jobs of a batch added under one lock, so that a large batch does not stop the workers.
const PUSH_AT_ONCE: usize = 256;

/// From so many jobs on, what it costs to keep them as one batch is little for each.
const MANY: usize = 16;

/// The keys of jobs, and their limits where those are not the same for all.
pub(super) struct Keyed<K> {
    keys: Vec<K>,
    paces: Option<Vec<Option<Pace>>>,
}

impl<K: Eq + Clone> Keyed<K> {
    /// The key that all jobs have, if there are many and they have the same, by the common limit.
    fn only(&self) -> Option<K> {
        let (first, rest) = self.keys.split_first()?;
        let only =
            rest.len() + 1 >= MANY && self.paces.is_none() && rest.iter().all(|key| key == first);
        only.then(|| first.clone())
    }
}

impl<T, K> Store<T, K>
where
    K: Hash + Eq + Clone,
{
    /// The keys and limits of the jobs: the user's code, outside of the lock.
    pub(super) fn keyed<'a>(&self, jobs: impl Iterator<Item = &'a T> + Clone) -> Keyed<K>
    where
        T: 'a,
    {
        let paces = self.settings.rate_per_key.as_ref();
        let paces = paces.map(|rate| jobs.clone().map(|job| rate.own(job)).collect());
        Keyed {
            keys: jobs.map(|job| (self.key)(job)).collect(),
            paces,
        }
    }

    /// Adds jobs, each of which takes its part of the room; gives them back if the queue is closed. Where
    /// a key panics, the jobs before it are in, and nothing of the others is.
    pub(super) fn push<S>(
        &self,
        jobs: Vec<S>,
        keyed: Keyed<K>,
        mut room: SemaphorePermit<'_>,
        submit: impl Fn(S) -> Submission<T>,
    ) -> Result<Vec<JobId>, Vec<S>> {
        let count = jobs.len();
        let mut ids = Vec::with_capacity(count);
        let (mut state, mut now) = self.enter();
        if state.closed {
            return Err(jobs);
        }
        let mut paces = keyed.paces.map(Vec::into_iter);
        let mut rest = jobs.into_iter().zip(keyed.keys);
        let mut added = 0;
        loop {
            let before = (state.tally.enqueued, ids.len());
            let add = || {
                for (job, key) in rest.by_ref().take(PUSH_AT_ONCE) {
                    let pace = paces.as_mut().and_then(Iterator::next).flatten();
                    ids.push(self.add(&mut state, key, pace, submit(job), now));
                }
            };
            let all = catch_unwind(AssertUnwindSafe(add));
            added += state.tally.enqueued - before.0;
            self.finish(state, now, None);
            if let Some(taken) = room.split(ids.len() - before.1) {
                taken.forget();
            }
            if ids.len() == count || all.is_err() {
                self.settings.meters.enqueued(added);
            }
            if let Err(panic) = all {
                contained(|| drop(rest));
                resume_unwind(panic);
            }
            if ids.len() == count {
                return Ok(ids);
            }
            // Not asked again whether the queue is closed: the batch goes in whole.
            (state, now) = self.enter();
        }
    }

    /// Adds jobs without options, as [`push`](Self::push) does. Many of one key stay where they are in
    /// memory, and go in as one.
    pub(super) fn push_batch(
        &self,
        mut jobs: Vec<T>,
        keyed: Keyed<K>,
        room: SemaphorePermit<'_>,
    ) -> Result<Vec<JobId>, Vec<T>>
    where
        T: Send + 'static,
    {
        let Some(key) = keyed.only() else {
            return self.push(jobs, keyed, room, Submission::from);
        };
        if jobs.capacity() / 2 > jobs.len() {
            jobs.shrink_to_fit();
        }
        let (count, queue) = (jobs.len() as u64, self.queue);
        let mut ids = Vec::with_capacity(jobs.len());
        let (mut state, now) = self.enter();
        if state.closed {
            return Err(jobs);
        }
        let seq = state.next_seq;
        let stored = move |(job, seq)| Stored {
            job,
            id: JobId::new(queue, seq),
            trace: None,
            errors: Errors::default(),
        };
        let batch = Batch {
            seq,
            count: count as u32,
            key,
            payloads: Box::new(jobs.into_iter().zip(seq..).map(stored)),
        };
        // If the key panics, nothing has changed.
        state.machine.push_batch(batch, now);
        state.next_seq += count;
        state.tally.enqueued += count;
        room.forget();
        self.finish(state, now, None);
        self.settings.meters.enqueued(count);
        ids.extend((seq..seq + count).map(|seq| self.id(seq)));
        Ok(ids)
    }

    /// Adds jobs that are kept elsewhere, too; by numbers from there, which must be different for each.
    /// Returns the numbers of those whose keys panic, which are not added.
    #[cfg(feature = "sqlite")]
    pub(crate) fn restore(&self, jobs: Vec<Restored<T>>) -> Vec<u64> {
        let mut refused = Vec::new();
        let mut refuse = |job: Restored<T>| {
            refused.push(job.number);
            contained(|| drop(job));
        };
        let key_and_pace = |job: &T| {
            let pace = self.settings.rate_per_key.as_ref();
            (pace.and_then(|rate| rate.own(job)), (self.key)(job))
        };
        // The user's code, outside of the lock.
        let mut keyed = VecDeque::with_capacity(jobs.len());
        for job in jobs {
            match contained(|| key_and_pace(&job.job)) {
                Some((pace, key)) => keyed.push_back((key, pace, job)),
                None => refuse(job),
            }
        }
        let mut jobs = keyed;
        while !jobs.is_empty() {
            let (mut state, now) = self.enter();
            for _ in 0..PUSH_AT_ONCE {
                let Some((key, pace, job)) = jobs.pop_front() else {
                    break;
                };
                let Some(key) = contained(|| state.machine.enter(key, pace, now)) else {
                    refuse(job);
                    continue;
                };
                let payload = Stored {
                    job: job.job,
                    id: job.id,
                    trace: job.trace,
                    errors: job.errors,
                };
                let (enqueued, due) = (now.before(job.age), now.plus(job.due));
                let new = NewJob {
                    attempt: job.attempt,
                    priority: job.priority,
                    blocks: job.blocks,
                    ..NewJob::new(job.number, (), payload, enqueued, due)
                };
                state.machine.push_to(key, new, now);
            }
            self.finish(state, now, None);
        }
        refused
    }

    /// Adds a job, unless there was one of its unique name; gives the id of the one that counts.
    fn add(
        &self,
        state: &mut State<T, K>,
        key: K,
        pace: Option<Pace>,
        Submission { job, options }: Submission<T>,
        now: Time,
    ) -> JobId {
        if let Some((name, _)) = &options.unique
            && let Some(other) = state.names.other(name, now)
        {
            // Its room is somebody else's.
            self.leave_room();
            return other;
        }
        let seq = state.next_seq;
        let id = self.id(seq);
        let payload = Stored {
            job,
            id,
            trace: options.trace,
            errors: Errors::default(),
        };
        let due = now.plus(options.delay);
        let job = NewJob {
            priority: options.priority,
            pace,
            ..NewJob::new(seq, key, payload, now, due)
        };
        // If the key panics, nothing has changed.
        state.machine.push(job, now);
        state.next_seq += 1;
        state.tally.enqueued += 1;
        if let Some((name, within)) = options.unique {
            state.names.give(name, id, now.plus(within));
        }
        id
    }
}
