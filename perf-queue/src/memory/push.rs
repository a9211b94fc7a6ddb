//! How jobs come into the store.

#[cfg(feature = "sqlite")]
use std::collections::VecDeque;
use std::hash::Hash;

#[cfg(feature = "sqlite")]
use super::store::Restored;
use super::store::{State, Store, Stored};
use crate::JobId;
use crate::backend::{Errors, Submission};
use crate::machine::{Batch, NewJob, Pace, Time};

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

    /// Adds jobs for which there is room; gives them back if the queue is closed.
    pub(super) fn push<S>(
        &self,
        jobs: Vec<S>,
        keyed: Keyed<K>,
        submit: impl Fn(S) -> Submission<T>,
    ) -> Result<Vec<JobId>, Vec<S>> {
        let count = jobs.len();
        let mut ids = Vec::with_capacity(count);
        let mut state = self.lock();
        if state.closed {
            return Err(jobs);
        }
        let mut paces = keyed.paces.map(Vec::into_iter);
        let mut rest = jobs.into_iter().zip(keyed.keys);
        let mut added = 0;
        loop {
            let now = self.now();
            let before = state.tally.enqueued;
            for (job, key) in rest.by_ref().take(PUSH_AT_ONCE) {
                let pace = paces.as_mut().and_then(Iterator::next).flatten();
                ids.push(self.add(&mut state, key, pace, submit(job), now));
            }
            added += state.tally.enqueued - before;
            self.finish(state, now, None);
            if ids.len() == count {
                break;
            }
            // Not asked again whether the queue is closed: the batch goes in whole.
            state = self.lock();
        }
        self.settings.meters.enqueued(added);
        Ok(ids)
    }

    /// Adds jobs without options for which there is room; gives them back if the queue is closed.
    /// Many of one key stay where they are in memory, and go in as one.
    pub(super) fn push_batch(&self, mut jobs: Vec<T>, keyed: Keyed<K>) -> Result<Vec<JobId>, Vec<T>>
    where
        T: Send + 'static,
    {
        let Some(key) = keyed.only() else {
            return self.push(jobs, keyed, Submission::from);
        };
        if jobs.capacity() / 2 > jobs.len() {
            jobs.shrink_to_fit();
        }
        let (count, queue) = (jobs.len() as u64, self.queue);
        let mut ids = Vec::with_capacity(jobs.len());
        let mut state = self.lock();
        if state.closed {
            return Err(jobs);
        }
        let seq = state.next_seq;
        state.next_seq += count;
        state.tally.enqueued += count;
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
        let now = self.now();
        state.machine.push_batch(batch, now);
        self.finish(state, now, None);
        self.settings.meters.enqueued(count);
        ids.extend((seq..seq + count).map(|seq| self.id(seq)));
        Ok(ids)
    }

    /// Adds jobs that are kept elsewhere, too; by numbers from there, which must be different for each.
    #[cfg(feature = "sqlite")]
    pub(crate) fn restore(&self, jobs: Vec<Restored<T>>) {
        let jobs = jobs.into_iter().map(|job| {
            let pace = self.settings.rate_per_key.as_ref();
            let pace = pace.and_then(|rate| rate.own(&job.job));
            ((self.key)(&job.job), pace, job)
        });
        // The user's code, outside of the lock.
        let mut jobs: VecDeque<_> = jobs.collect();
        while !jobs.is_empty() {
            let mut state = self.lock();
            let now = self.now();
            for _ in 0..PUSH_AT_ONCE {
                let Some((key, pace, job)) = jobs.pop_front() else {
                    break;
                };
                let payload = Stored {
                    job: job.job,
                    id: job.id,
                    trace: job.trace,
                    errors: job.errors,
                };
                let new = NewJob {
                    attempt: job.attempt,
                    priority: job.priority,
                    pace,
                    blocks: job.blocks,
                    ..NewJob::new(
                        job.number,
                        key,
                        payload,
                        now.before(job.age),
                        now.plus(job.due),
                    )
                };
                state.machine.push(new, now);
            }
            self.finish(state, now, None);
        }
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
        let seq = state.next_seq;
        state.next_seq += 1;
        let id = self.id(seq);
        if let Some((name, within)) = options.unique {
            let claim = state.names.claim(name, id, now, now.plus(within));
            if let Err(other) = claim {
                // Its room is somebody else's.
                self.leave_room();
                return other;
            }
        }
        state.tally.enqueued += 1;
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
        state.machine.push(job, now);
        id
    }
}
