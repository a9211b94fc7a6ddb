use std::time::Duration;

use crate::Rate;

/// A queue at one instant.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Jobs that wait for nothing but a worker.
    pub ready: usize,
    /// Jobs that wait for their time: delayed ones, and those between two attempts.
    pub scheduled: usize,
    /// Jobs that are due and wait for a limit, a penalty, or their key's concurrency.
    pub limited: usize,
    /// Jobs that run.
    pub in_flight: usize,
    /// Dead letters that are kept.
    pub dead: usize,
    /// Dead letters that were dropped because newer ones needed the room: since the start; on a server,
    /// since the queue was made there, by all processes.
    pub dead_dropped: u64,
    /// How many jobs the queue holds; those that run are among them, dead letters are not.
    pub capacity: usize,
    /// Whether the queue is [paused](crate::Queue::pause).
    pub paused: bool,
    /// The limit over all that is in force, whoever set it; `None` for no limit.
    pub rate_limit: Option<Rate>,
    /// The limit of each key that is in force; `None` for no limit, and where a closure gives each key
    /// its own.
    pub rate_limit_per_key: Option<Rate>,
    /// How many jobs of a key run at a time, at most; `None` for any number.
    pub concurrency_per_key: Option<u32>,
    /// How long the job that has been due the longest has waited to start; `None` without one.
    pub oldest_age: Option<Duration>,
    /// Workers of this process that wait for a job.
    pub workers_idle: usize,
    /// Workers of this process that run one.
    pub workers_busy: usize,
    /// Jobs enqueued since the start, by this process; likewise those below.
    pub enqueued: u64,
    /// Jobs completed since the start.
    pub completed: u64,
    /// Attempts that failed and were followed by another, since the start.
    pub retried: u64,
    /// Attempts put off by `retry_after` since the start.
    pub snoozed: u64,
    /// Jobs discarded by their handler since the start.
    pub discarded: u64,
    /// Jobs that failed for good since the start.
    pub died: u64,
}
