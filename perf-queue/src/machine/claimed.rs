use std::time::Duration;

use super::{Pace, Time};
use crate::Scope;

/// A job to add, new or known from before.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewJob<T, K> {
    pub(crate) seq: u64,
    pub(crate) key: K,
    pub(crate) payload: T,
    /// From 1.
    pub(crate) attempt: u32,
    /// Within its key, jobs of a higher priority go first.
    pub(crate) priority: i8,
    /// Both times may lie before the start of the queue.
    pub(crate) enqueued: Time,
    pub(crate) due: Time,
    /// The limit of its key, where that is not the same for all keys. The last one given counts.
    pub(crate) pace: Option<Pace>,
    /// Where it is not due yet, nothing of its key starts before it.
    pub(crate) blocks: bool,
}

impl<T, K> NewJob<T, K> {
    /// A first attempt without a priority.
    #[inline]
    pub(crate) const fn new(seq: u64, key: K, payload: T, enqueued: Time, due: Time) -> Self {
        Self {
            seq,
            key,
            payload,
            attempt: 1,
            priority: 0,
            enqueued,
            due,
            pace: None,
            blocks: false,
        }
    }

    /// The job and its key apart.
    #[inline]
    pub(super) fn split(self) -> (K, NewJob<T, ()>) {
        let job = NewJob {
            seq: self.seq,
            key: (),
            payload: self.payload,
            attempt: self.attempt,
            priority: self.priority,
            enqueued: self.enqueued,
            due: self.due,
            pace: self.pace,
            blocks: self.blocks,
        };
        (self.key, job)
    }
}

/// Jobs to add that are due, of one key: new ones, without a priority or a limit of their own.
pub(crate) struct Batch<T, K> {
    /// Of the first; those of the others follow.
    pub(crate) seq: u64,
    pub(crate) count: u32,
    pub(crate) key: K,
    /// As many, in their order.
    pub(crate) payloads: Box<dyn Iterator<Item = T> + Send>,
}

/// A job that may run now, and what the machine must be told when it ends.
#[derive(Debug)]
pub(crate) struct Claimed<T> {
    pub(crate) payload: T,
    pub(crate) ticket: Ticket,
}

/// A claimed job without its payload.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ticket {
    pub(crate) seq: u64,
    pub(crate) attempt: u32,
    pub(crate) priority: i8,
    pub(crate) enqueued: Time,
    pub(crate) due: Time,
    pub(crate) granted: Time,
    pub(super) key: u32,
}

/// How a job comes back. Where its key's jobs run one at a time, the job goes on blocking the key, so
/// that their order holds: nothing of the key starts before it, of whatever priority. Where they run
/// side by side, "first" is first of its priority.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Return {
    /// To run first, as soon as the key may.
    Now,
    /// To run after this long: first, where it blocks its key; else it steps aside until then, and
    /// rejoins its priority at the end.
    After(Duration),
    /// To run first, once key or queue have kept still for this long.
    Penalty(Scope, Duration),
}
