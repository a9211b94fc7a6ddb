use std::time::Duration;

use super::Time;
use crate::Scope;

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
    pub(crate) enqueued: Time,
    pub(crate) due: Time,
    pub(crate) granted: Time,
    pub(super) key: u32,
}

/// How a job comes back.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Return {
    /// To run first of its key, as soon as the key may.
    Now,
    /// To run after this long: it blocks its key where the key's jobs run one at a time, so that
    /// their order holds, and steps aside where they run side by side.
    After(Duration),
    /// To run first of its key, once key or queue have kept still for this long.
    Penalty(Scope, Duration),
}
