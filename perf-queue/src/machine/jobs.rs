use slab::Slab;

use super::Time;

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
    next: u32,
    /// Neighbours in the list of all that are due, oldest first.
    older: u32,
    newer: u32,
    is_due: bool,
}

impl<T> Job<T> {
    pub(super) fn new(payload: T, seq: u64, attempt: u32, key: u32, times: [Time; 2]) -> Self {
        let [enqueued, due] = times;
        Self {
            payload,
            seq,
            attempt,
            key,
            enqueued,
            due,
            next: NIL,
            older: NIL,
            newer: NIL,
            is_due: false,
        }
    }
}

/// The jobs of one key in the order in which they will run; the links are in the jobs.
#[derive(Debug)]
pub(super) struct List {
    head: u32,
    tail: u32,
    pub(super) len: usize,
}

impl List {
    pub(super) const EMPTY: Self = Self {
        head: NIL,
        tail: NIL,
        len: 0,
    };
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

    pub(super) fn len(&self) -> usize {
        self.slab.len()
    }

    /// How many may run as far as their own time is concerned.
    pub(super) fn due(&self) -> usize {
        self.due
    }

    /// Since when the job that has been due for the longest has been so.
    pub(super) fn oldest_due(&self) -> Option<Time> {
        self.slab.get(self.oldest as usize).map(|job| job.due)
    }

    // The capacity of a queue is below `u32::MAX`, so an index fits.
    pub(super) fn insert(&mut self, job: Job<T>) -> u32 {
        self.slab.insert(job) as u32
    }

    pub(super) fn key_of(&self, id: u32) -> u32 {
        self.slab[id as usize].key
    }

    pub(super) fn push_back(&mut self, list: &mut List, id: u32) {
        match list.tail {
            NIL => list.head = id,
            tail => self.slab[tail as usize].next = id,
        }
        list.tail = id;
        list.len += 1;
    }

    pub(super) fn push_front(&mut self, list: &mut List, id: u32) {
        self.slab[id as usize].next = list.head;
        if list.head == NIL {
            list.tail = id;
        }
        list.head = id;
        list.len += 1;
    }

    /// Takes the first job of a key out of the queue.
    pub(super) fn take_front(&mut self, list: &mut List) -> Option<Job<T>> {
        if list.head == NIL {
            return None;
        }
        self.unlink_due(list.head);
        let job = self.slab.remove(list.head as usize);
        list.head = job.next;
        if list.head == NIL {
            list.tail = NIL;
        }
        list.len -= 1;
        Some(job)
    }

    /// Counts the job among those that are due, if it is not yet.
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

    pub(super) fn link_head_due(&mut self, list: &List) {
        if list.head != NIL {
            self.link_due(list.head);
        }
    }

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

    /// Gives the memory of a past backlog back.
    pub(super) fn shrink(&mut self) {
        if self.slab.is_empty() && self.slab.capacity() > 1_024 {
            self.slab = Slab::new();
        }
    }
}
