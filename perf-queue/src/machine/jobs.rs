use std::fmt;

use slab::Slab;

use super::list::List;
use super::store::Store;
use super::{Batch, Claimed, NewJob, Ticket, Time};

/// No job: the end of a list.
pub(super) const NIL: u32 = u32::MAX;

/// A batch that has become smaller by this gives memory back.
const LITTLE: u32 = 4;

/// A job that waits, or a batch of jobs that differ in nothing but their numbers and payloads. While a
/// job runs, the worker has it.
#[derive(Debug)]
pub(super) struct Job<T> {
    payload: Payload<T>,
    /// Jobs in here.
    pub(super) count: u32,
    /// Of the first; those of the others follow.
    pub(super) seq: u64,
    pub(super) attempt: u32,
    pub(super) key: u32,
    pub(super) enqueued: Time,
    /// When it may first run.
    pub(super) due: Time,
    /// The next of the same key.
    pub(super) next: u32,
    /// Neighbours in the list of all that are due, oldest first.
    older: u32,
    newer: u32,
    pub(super) priority: i8,
    /// It blocks its key: whatever the priorities, it is next.
    pub(super) blocks: bool,
    is_due: bool,
}

/// Where the payloads are.
enum Payload<T> {
    One(T),
    /// In memory of their own, for so many.
    Batch(Box<dyn Iterator<Item = T> + Send>, u32),
    Taken,
}

impl<T> fmt::Debug for Payload<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::One(_) => "One",
            Self::Batch(..) => "Batch",
            Self::Taken => "Taken",
        })
    }
}

impl<T> Job<T> {
    /// `key` is the number of the job's key.
    #[inline]
    pub(super) fn new(job: NewJob<T, ()>, key: u32) -> Self {
        Self {
            payload: Payload::One(job.payload),
            count: 1,
            seq: job.seq,
            attempt: job.attempt,
            key,
            enqueued: job.enqueued,
            due: job.due,
            next: NIL,
            older: NIL,
            newer: NIL,
            priority: job.priority,
            blocks: false,
            is_due: false,
        }
    }

    /// Jobs that are due.
    pub(super) fn batch(jobs: Batch<T, ()>, key: u32, now: Time) -> Self {
        Self {
            payload: Payload::Batch(jobs.payloads, jobs.count),
            count: jobs.count,
            seq: jobs.seq,
            attempt: 1,
            key,
            enqueued: now,
            due: now,
            next: NIL,
            older: NIL,
            newer: NIL,
            priority: 0,
            blocks: false,
            is_due: false,
        }
    }

    /// The ticket of the next one of those in here, which is granted now.
    #[inline]
    fn ticket(&self, now: Time) -> Ticket {
        Ticket {
            seq: self.seq,
            attempt: self.attempt,
            priority: self.priority,
            enqueued: self.enqueued,
            due: self.due,
            granted: now,
            key: self.key,
        }
    }

    /// A job that has been claimed before.
    #[inline]
    pub(super) fn again(job: Claimed<T>, attempt: u32, due: Time) -> Self {
        let Claimed { payload, ticket } = job;
        let job = NewJob {
            seq: ticket.seq,
            key: (),
            payload,
            attempt,
            priority: ticket.priority,
            enqueued: ticket.enqueued,
            due,
            pace: None,
            blocks: false,
        };
        Self::new(job, ticket.key)
    }

    /// What goes first within a key.
    #[inline]
    pub(super) fn rank(&self) -> i16 {
        if self.blocks {
            i16::MAX
        } else {
            i16::from(self.priority)
        }
    }
}

/// All jobs that wait, linked by indices: a job costs no allocation of its own.
#[derive(Debug)]
pub(super) struct Jobs<T> {
    store: Store<T>,
    len: usize,
    /// Where there are batches, or were lately.
    batches: Vec<u32>,
    oldest: u32,
    newest: u32,
    due: usize,
}

impl<T> Jobs<T> {
    pub(super) const fn new() -> Self {
        Self {
            store: Store::new(),
            len: 0,
            batches: Vec::new(),
            oldest: NIL,
            newest: NIL,
            due: 0,
        }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// How many may run as far as their own time is concerned.
    #[inline]
    pub(super) fn due(&self) -> usize {
        self.due
    }

    /// Since when the job that has been due for the longest has been so.
    pub(super) fn oldest_due(&self) -> Option<Time> {
        (self.oldest != NIL).then(|| self.store[self.oldest].due)
    }

    #[inline]
    pub(super) fn insert(&mut self, job: Job<T>) -> u32 {
        self.len += job.count as usize;
        let is_batch = matches!(job.payload, Payload::Batch(..));
        let id = self.store.insert(job);
        if is_batch {
            self.batches.push(id);
            if self.batches.len() > self.store.capacity() {
                self.batches.sort_unstable();
                self.batches.dedup();
            }
        }
        id
    }

    #[inline]
    pub(super) fn get(&self, id: u32) -> &Job<T> {
        &self.store[id]
    }

    #[inline]
    pub(super) fn get_mut(&mut self, id: u32) -> &mut Job<T> {
        &mut self.store[id]
    }

    /// Takes the next one out of what is first in its key's list; the payload goes to `to`. (A call of its
    /// own would move the ticket once more.)
    #[inline(always)]
    pub(super) fn take(&mut self, id: u32, now: Time, to: &mut Option<T>) -> Option<Ticket> {
        let job = &mut self.store[id];
        let ticket = job.ticket(now);
        job.count -= 1;
        job.seq += 1;
        self.len -= 1;
        self.due -= usize::from(job.is_due);
        *to = match &mut job.payload {
            Payload::Batch(payloads, _) => payloads.next(),
            payload => match std::mem::replace(payload, Payload::Taken) {
                Payload::One(payload) => Some(payload),
                _ => None,
            },
        };
        to.is_some().then_some(ticket)
    }

    /// Drops what is in no key's list any more, as nothing is left of it.
    #[inline]
    pub(super) fn free(&mut self, id: u32) {
        self.unlink_due(id);
        self.store[id].payload = Payload::Taken;
        self.store.free(id);
    }

    /// Counts the job among those that are due, if it is not yet.
    #[inline]
    pub(super) fn link_due(&mut self, id: u32) {
        let newest = self.newest;
        let job = &mut self.store[id];
        if job.is_due {
            return;
        }
        job.is_due = true;
        job.older = newest;
        self.due += job.count as usize;
        match newest {
            NIL => self.oldest = id,
            newest => self.store[newest].newer = id,
        }
        self.newest = id;
    }

    /// Counts the jobs that block their key among those that are due. There is more than one only
    /// after the rules have changed.
    #[inline]
    pub(super) fn link_blocking_due(&mut self, list: &List) {
        let mut next = list.head();
        while let Some(id) = next {
            let job = &self.store[id];
            if !job.blocks {
                return;
            }
            next = (job.next != NIL).then_some(job.next);
            self.link_due(id);
        }
    }

    #[inline]
    fn unlink_due(&mut self, id: u32) {
        let Job {
            older,
            newer,
            is_due,
            ..
        } = self.store[id];
        if !is_due {
            return;
        }
        match older {
            NIL => self.oldest = newer,
            older => self.store[older].newer = newer,
        }
        match newer {
            NIL => self.newest = older,
            newer => self.store[newer].older = older,
        }
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.store.capacity() * size_of::<Job<T>>()
    }

    /// Gives back the memory of batches of which little is left.
    pub(super) fn compact(&mut self)
    where
        T: Send + 'static,
    {
        self.batches.sort_unstable();
        self.batches.dedup();
        let store = &mut self.store;
        self.batches.retain(|id| {
            let job = &mut store[*id];
            let Payload::Batch(payloads, size) = &mut job.payload else {
                return false;
            };
            if job.count <= *size / LITTLE {
                let mut rest = Vec::with_capacity(job.count as usize);
                rest.extend(payloads);
                job.payload = Payload::Batch(Box::new(rest.into_iter()), job.count);
            }
            true
        });
    }

    /// Gives the memory of a past backlog back.
    pub(super) fn shrink(&mut self) {
        if self.len == 0 && self.store.capacity() > 1_024 {
            self.store = Store::new();
            self.batches = Vec::new();
        }
    }
}

/// Makes room by quarters: a vector's own doubling would let a key cost twice its size.
#[inline]
pub(super) fn grow<E>(slab: &mut Slab<E>) {
    let len = slab.len();
    if len == slab.capacity() && len > 1_024 {
        slab.reserve_exact(len / 4);
    }
}
