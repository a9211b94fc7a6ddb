//! What a queue asks of a server that several processes share.
//!
//! The server keeps the jobs, decides which may start and when, by its own clock, and leases them to
//! processes. It sees keys and payloads as bytes. All verbs take batches, since a trip is what
//! costs.

#![cfg_attr(
    not(any(feature = "postgres", feature = "redis")),
    allow(dead_code, reason = "SQLite's jobs have the same types, and no server")
)]

#[cfg(any(feature = "postgres", feature = "redis"))]
mod buffer;
pub(crate) mod codec;
#[cfg(any(feature = "postgres", feature = "redis"))]
mod inner;
#[cfg(any(feature = "postgres", feature = "redis"))]
mod leased;
#[cfg(any(feature = "postgres", feature = "redis"))]
mod pump;
#[cfg(any(feature = "postgres", feature = "redis"))]
mod repeat;
mod rules;
#[cfg(test)]
#[cfg(any(feature = "postgres", feature = "redis"))]
mod tests;

use std::future::Future;
use std::time::Duration;

use crate::{BackendError, DeadLetter, JobId, Scope};

#[cfg(any(feature = "postgres", feature = "redis"))]
pub(crate) use leased::Leased;

/// A place for jobs that several processes share. Every verb is atomic: it happens whole or not
/// at all, also where the future is dropped or the connection lost, and what became of it may then
/// be unknown to the caller.
pub(crate) trait Remote: Send + Sync + 'static {
    /// Whether [`Exchange::next`] is when to ask for a slot of a limit, rather than when the slot is.
    const NEXT_IS_EARLY: bool;

    /// Where the server is, without user and password.
    fn address(&self) -> &str;

    /// Adds all jobs, in their order, or none. An id that is there already (because an answer was
    /// lost and the caller tried again) is not added twice.
    ///
    /// For each job the id under which it is in the queue: its own, or that of the job with the
    /// same unique name that was enqueued within its time. `None` where there is no room for all of
    /// them; what counts is every job that is not done, and not the dead letters.
    fn enqueue(
        &self,
        jobs: &[NewJob],
    ) -> impl Future<Output = Result<Option<Vec<JobId>>, BackendError>> + Send;

    /// Adds a job as part of a transaction of the application's, where the jobs are in the same database.
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    fn enqueue_in(
        &self,
        conn: crate::Connection<'_>,
        job: &NewJob,
    ) -> impl Future<Output = Result<JobId, crate::EnqueueInError>> + Send {
        let _ = (conn, job);
        std::future::ready(Err(crate::EnqueueInError::OtherDatabase))
    }

    /// Ends jobs, then leases up to `want` others: one trip.
    fn exchange(
        &self,
        ended: &[Ended],
        want: Want,
    ) -> impl Future<Output = Result<Exchange, BackendError>> + Send;

    /// There is no exchange to come right away: what is kept for it may go.
    fn rest(&self) {}

    /// Prolongs leases by `lease` from now. Returns those that are lost: the jobs belong to somebody
    /// else by now, or are done.
    fn extend(
        &self,
        leases: &[Lease],
        lease: Duration,
    ) -> impl Future<Output = Result<Vec<JobId>, BackendError>> + Send;

    /// How many jobs are where. With thousands of keys, what is `limited` and `oldest` may be estimates.
    fn counts(&self) -> impl Future<Output = Result<Counts, BackendError>> + Send;

    /// Sets the rules of a builder for all processes: those in which it differs from the last builder. The
    /// others stay, also where [`set_rate`](Self::set_rate) has set them.
    fn set_rules(&self, rules: &Rules) -> impl Future<Output = Result<(), BackendError>> + Send;

    /// Sets one limit for all processes, and leaves the other alone; the last to set it wins.
    fn set_rate(
        &self,
        scope: Scope,
        rate: Option<Quota>,
    ) -> impl Future<Output = Result<(), BackendError>> + Send;

    /// The rules as they are, `None` if nobody has set any yet.
    fn rules(&self) -> impl Future<Output = Result<Option<Rules>, BackendError>> + Send;

    /// While paused, no process gets a job.
    fn pause(&self, paused: bool) -> impl Future<Output = Result<(), BackendError>> + Send;

    /// The oldest dead letters, at most so many.
    fn dead(
        &self,
        at_most: usize,
    ) -> impl Future<Output = Result<Vec<Letter>, BackendError>> + Send;

    /// Puts a dead letter back, last of its key, with its first attempt before it. False if there is
    /// none of this id, `None` if there is no room.
    fn replay(&self, id: JobId) -> impl Future<Output = Result<Option<bool>, BackendError>> + Send;

    /// Drops the dead letters that died so long ago or longer, all by zero; returns how many there were.
    fn purge(&self, older_than: Duration)
    -> impl Future<Output = Result<u64, BackendError>> + Send;

    /// Waits until a process may have reason to ask for jobs before it otherwise would: one was
    /// enqueued, or the rules changed. May return for no reason, and may miss something: whoever
    /// waits polls as well. Where the connection for it is lost, it waits until there is a new one,
    /// and returns once then.
    ///
    /// Cancel safe.
    fn woken(&self) -> impl Future<Output = ()> + Send;
}

/// A job to add.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NewJob {
    pub(crate) id: JobId,
    /// Empty for a queue without keys.
    pub(crate) key: Vec<u8>,
    pub(crate) payload: Vec<u8>,
    /// Due this long after the server has it.
    pub(crate) delay: Duration,
    /// Jobs of a key go by this, the highest first, and then by the order of enqueue.
    pub(crate) priority: i8,
    /// While another job was enqueued with this name within the time that it brought, this one is not.
    pub(crate) unique: Option<(String, Duration)>,
    /// The limit of its key, where that is not the same for all keys. The last one enqueued counts.
    pub(crate) rate: Option<Quota>,
    /// A W3C `traceparent`, empty for none.
    pub(crate) trace: String,
}

/// A job that this process may work on for as long as it prolongs the lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Lease {
    pub(crate) id: JobId,
    /// Another number for each lease: who has an older one cannot end the job.
    pub(crate) token: u64,
}

/// A job that this process has done with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) lease: Lease,
    pub(crate) how: How,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum How {
    /// It is gone, whether completed or discarded.
    Done,
    /// It failed; to run again after a while, as the next attempt. With `concurrency_per_key` 1 it
    /// blocks its key until then, else it steps aside and rejoins its key last.
    Retry { after: Duration, error: String },
    /// To run again after a while, as the same attempt, in the same place as a retry. The scope, if
    /// any, starts nothing before: of several penalties the one that ends last counts.
    Snooze {
        after: Duration,
        penalty: Option<Scope>,
    },
    /// It failed for good: a dead letter.
    Dead { error: String },
    /// Not started: first of its key again, as the same attempt. A slot that it had is not given back.
    Released,
}

/// How many jobs a process wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Want {
    pub(crate) jobs: usize,
    /// Only jobs that may start within this time from now.
    pub(crate) within: Duration,
    /// For how long.
    pub(crate) lease: Duration,
}

/// The answer to a process that ended some jobs and wanted others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Exchange {
    /// In the order in which they start.
    pub(crate) granted: Vec<Granted>,
    /// Those of the ended jobs whose lease was over, and which were taken over since or are done: what
    /// became of them is not this process' to say.
    pub(crate) lost: Vec<JobId>,
    /// When it is worth to ask again, though nothing is enqueued: a job falls due, a limit or a penalty
    /// ends (less the time within which its slot may be had ahead), or a lease. Zero where jobs are
    /// left that may start, `None` if nothing of that is to come, or not known to.
    pub(crate) next: Option<Duration>,
    /// How many jobs, over all, were put off by the limit or a penalty of the queue, and of their key.
    pub(crate) limited: [u64; 2],
    pub(crate) paused: bool,
    /// The jobs were granted, and those that ended are to be told once more.
    pub(crate) untold: bool,
}

/// A job, leased to this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Granted {
    pub(crate) lease: Lease,
    pub(crate) key: Vec<u8>,
    pub(crate) payload: Vec<u8>,
    pub(crate) trace: String,
    /// From 1.
    pub(crate) attempt: u32,
    /// What it failed with before, the oldest first: the last ten.
    pub(crate) errors: Vec<String>,
    /// The slot that it was granted: so long from the server's now. Zero where it may start at once.
    pub(crate) starts: Duration,
    /// Whether a limit gave it that slot, so that it must not start much later.
    pub(crate) limited: bool,
    /// Time from the enqueue to the server's now.
    pub(crate) age: Duration,
    /// Time from when it was due to the server's now.
    pub(crate) waited: Duration,
}

/// A job that failed for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Letter {
    pub(crate) id: JobId,
    pub(crate) key: Vec<u8>,
    pub(crate) payload: Vec<u8>,
    pub(crate) attempts: u32,
    /// Of each attempt, the oldest first: the last ten.
    pub(crate) errors: Vec<String>,
    /// From the enqueue to the end.
    pub(crate) age: Duration,
}

/// How many jobs are where, over all processes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) ready: u64,
    pub(crate) scheduled: u64,
    pub(crate) limited: u64,
    pub(crate) in_flight: u64,
    pub(crate) dead: u64,
    /// Dead letters that were dropped for lack of room.
    pub(crate) dropped: u64,
    /// How long the job that has been due the longest has waited.
    pub(crate) oldest: Option<Duration>,
    pub(crate) paused: bool,
}

/// What holds jobs back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Rules {
    pub(crate) queue: Option<Quota>,
    pub(crate) key: Option<Quota>,
    pub(crate) concurrency_per_key: Option<u32>,
}

/// At most `quota` slots in every half-open window of `period`; the slots are `period / quota`,
/// rounded up, apart, except that up to `burst` may be ahead of that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Quota {
    pub(crate) quota: u32,
    pub(crate) period: Duration,
    pub(crate) burst: u32,
}

impl<T: serde::de::DeserializeOwned> From<Letter> for DeadLetter<T> {
    fn from(letter: Letter) -> Self {
        Self {
            id: letter.id,
            job: codec::decode(letter.payload),
            attempts: letter.attempts,
            errors: letter.errors,
            age: letter.age,
        }
    }
}
