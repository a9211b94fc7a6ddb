use slab::Slab;

use super::list::List;
use super::{Claimed, NewJob, Time};

/// No job: the end of a list.
pub(super) const NIL: u32 = u32::MAX;

/// A job that waits. While it runs, the worker has it.
#[derive(Debug)]
pub(super) struct Job<T> {
    pub(super) payload: T,
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

impl<T> Job<T> {
    /// `key` is the number of the job's key.
    #[inline]
    pub(super) fn new(job: NewJob<T, ()>, key: u32) -> Self {
        Self {
            payload: job.payload,
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
    slab: Slab<Job<T>>,
    oldest: u32,
    newest: u32,
    due: usize,
}

impl<T> Jobs<T> {
    pub(super) const fn new() -> Self {
        Self {
            slab: Slab::new(),
            oldest: NIL,
            newest: NIL,
            due: 0,
        }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.slab.len()
    }

    /// How many may run as far as their own time is concerned.
    #[inline]
    pub(super) fn due(&self) -> usize {
        self.due
    }

    /// Since when the job that has been due for the longest has been so.
    pub(super) fn oldest_due(&self) -> Option<Time> {
        self.slab.get(self.oldest as usize).map(|job| job.due)
    }

    // The capacity of a queue is below `u32::MAX`, so an index fits.
    #[inline]
    pub(super) fn insert(&mut self, job: Job<T>) -> u32 {
        grow(&mut self.slab);
        self.slab.insert(job) as u32
    }

    #[inline]
    pub(super) fn get(&self, id: u32) -> &Job<T> {
        &self.slab[id as usize]
    }

    #[inline]
    pub(super) fn get_mut(&mut self, id: u32) -> &mut Job<T> {
        &mut self.slab[id as usize]
    }

    /// Takes a job out that is in no key's list any more.
    #[inline]
    pub(super) fn remove(&mut self, id: u32) -> Job<T> {
        self.unlink_due(id);
        self.slab.remove(id as usize)
    }

    /// Counts the job among those that are due, if it is not yet.
    #[inline]
    pub(super) fn link_due(&mut self, id: u32) {
        let newest = self.newest;
        let job = &mut self.slab[id as usize];
        if job.is_due {
            return;
        }
        job.is_due = true;
        job.older = newest;
        match newest {
            NIL => self.oldest = id,
            newest => self.slab[newest as usize].newer = id,
        }
        self.newest = id;
        self.due += 1;
    }

    /// Counts the jobs that block their key among those that are due. There is more than one only
    /// after the rules have changed.
    #[inline]
    pub(super) fn link_blocking_due(&mut self, list: &List) {
        let mut next = list.head();
        while let Some(id) = next {
            let Some(job) = self.slab.get(id as usize).filter(|job| job.blocks) else {
                return;
            };
            next = Some(job.next);
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
        } = self.slab[id as usize];
        if !is_due {
            return;
        }
        match older {
            NIL => self.oldest = newer,
            older => self.slab[older as usize].newer = newer,
        }
        match newer {
            NIL => self.newest = older,
            newer => self.slab[newer as usize].older = older,
        }
        self.due -= 1;
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.slab.capacity() * size_of::<Job<T>>()
    }

    /// Gives the memory of a past backlog back.
    pub(super) fn shrink(&mut self) {
        if self.slab.is_empty() && self.slab.capacity() > 1_024 {
            self.slab = Slab::new();
        }
    }
}

/// Makes room by quarters: a vector's own doubling would let a job cost twice its size.
#[inline]
pub(super) fn grow<E>(slab: &mut Slab<E>) {
    let len = slab.len();
    if len == slab.capacity() && len > 1_024 {
        slab.reserve_exact(len / 4);
    }
}
