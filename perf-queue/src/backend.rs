//! What a queue asks of the place where its jobs are.

#![cfg_attr(
    not(all(feature = "sqlite", feature = "postgres", feature = "redis")),
    allow(dead_code, reason = "some of it is asked by some backends only")
)]

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::machine::Ticket;
use crate::metrics::Meters;
use crate::signals::Signals;
use crate::{BackendError, Backoff, BuildError, DeadLetter, JobId, Rate, RatePerKey, Scope, Stats};

/// A future on the heap: what a backend does beside claims is a trip, or a batch.
pub(crate) type Boxed<'a, R> = Pin<Box<dyn Future<Output = R> + Send + 'a>>;

/// A place for the jobs of a queue: [`Memory`](crate::Memory), and what the features add. `T` is the
/// job, `K` the key.
pub trait QueueBackend<T, K>: Open<T, K> {}

/// How a backend is made ready. Not to be named outside of this crate.
pub trait Open<T, K>: Send + 'static {
    /// Makes the backend of a queue.
    fn open(self, parts: Parts<T, K>) -> Boxed<'static, Result<Ready<T>, BuildError>>;
}

/// A backend that is ready. There is nothing to do with it outside of this crate.
pub struct Ready<T>(pub(crate) Arc<dyn Backend<T>>);

impl<T> fmt::Debug for Ready<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ready")
    }
}

/// What a backend is made of, beside its own options.
pub struct Parts<T, K> {
    pub(crate) name: String,
    pub(crate) key: KeyOf<T, K>,
    /// Whether the application said what the key is.
    pub(crate) keyed: bool,
    pub(crate) limits: Limits,
    /// A rate by the job, where the keys' are not all the same.
    pub(crate) rate_per_key: Option<RatePerKey<T>>,
    pub(crate) lease: Duration,
    pub(crate) backoff: Backoff,
    pub(crate) max_payload: usize,
    /// How many dead letters are kept, instead of the backend's own bound.
    pub(crate) dead_letters: Option<usize>,
    pub(crate) signals: Arc<Signals>,
    pub(crate) meters: Arc<Meters>,
}

impl<T, K> fmt::Debug for Parts<T, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts")
            .field("name", &self.name)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// Finds the key of a job.
pub(crate) type KeyOf<T, K> = Arc<dyn Fn(&T) -> K + Send + Sync>;

/// What holds jobs back, checked.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Limits {
    pub(crate) queue: Option<Rate>,
    pub(crate) key: Option<Rate>,
    pub(crate) concurrency_per_key: Option<u32>,
}

/// What the handles of a queue and its workers ask of it. Erases the type of the key.
pub(crate) trait Backend<T>: Send + Sync {
    /// Adds all jobs, in their order, or none; waits for room, or does not.
    fn enqueue(&self, jobs: Vec<Submission<T>>, wait: bool) -> Boxed<'_, Enqueued<T>>;

    /// Adds all jobs as [`enqueue`](Self::enqueue) does, without options; waits for room.
    fn enqueue_batch(&self, jobs: Vec<T>) -> Boxed<'_, Enqueued<T>> {
        self.enqueue(jobs.into_iter().map(Submission::from).collect(), true)
    }

    /// A worker is there from now on, until it parts.
    fn join(&self);

    /// A worker that joined is gone.
    fn part(&self);

    /// Ends the job before, which it takes, and starts the next: one step, as it is one lock. The job goes
    /// to `to`, which is empty: both are moved no more than they must be. Without one, `role` says how to wait for
    /// it, and is at every instant what the backend counts the worker as.
    fn claim(&self, ended: &mut Option<Ended<T>>, role: &mut Role, to: &mut Option<Started<T>>);

    /// Ends a job without asking for another.
    fn settle(&self, ended: Ended<T>);

    /// A worker that counted as idle is gone, or no longer able to take a job.
    fn leave(&self, role: Role);

    /// Takes no more jobs from this process from now on.
    fn close(&self);

    /// Waits until nothing is queued, scheduled, limited or running.
    fn drained(&self) -> Boxed<'_, Result<(), BackendError>>;

    /// Waits until what workers said of their jobs is where it is safe.
    fn flush(&self) -> Boxed<'_, Result<(), BackendError>>;

    /// Adds a job within a transaction of the application's on the backend's own database.
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    fn enqueue_in<'a>(
        &'a self,
        conn: crate::Connection<'a>,
        job: &T,
        options: crate::EnqueueOptions,
    ) -> Boxed<'a, Result<JobId, crate::EnqueueInError>> {
        let _ = (conn, job, options);
        Box::pin(std::future::ready(Err(
            crate::EnqueueInError::OtherDatabase,
        )))
    }

    /// How many jobs are where.
    fn stats(&self) -> Boxed<'_, Result<Stats, BackendError>>;

    /// Starts no more jobs, or goes on.
    fn pause(&self, paused: bool) -> Boxed<'_, Result<(), BackendError>>;

    /// Replaces a limit.
    fn set_rate(&self, scope: Scope, rate: Option<Rate>) -> Boxed<'_, Result<(), BackendError>>;

    /// Drops what is not needed any more, and wakes one more worker if a job waits for one that was woken.
    fn tidy(&self);

    /// How often it is worth to ask for the stats.
    fn sample_every(&self) -> Duration {
        Duration::from_secs(1)
    }

    /// The oldest dead letters.
    fn dead(&self, at_most: usize) -> Boxed<'_, Result<Vec<DeadLetter<T>>, BackendError>>
    where
        T: Clone;

    /// Puts a dead letter back into the queue, once there is room. False if there is none.
    fn replay(&self, id: JobId) -> Boxed<'_, Result<bool, NotReplayed>>;

    /// Drops the dead letters that died so long ago or longer: all, by zero.
    fn purge(&self, older_than: Duration) -> Boxed<'_, Result<usize, BackendError>>;
}

/// A job on its way into the queue.
#[derive(Debug)]
pub(crate) struct Submission<T> {
    pub(crate) job: T,
    pub(crate) options: crate::EnqueueOptions,
}

impl<T> From<T> for Submission<T> {
    fn from(job: T) -> Self {
        let options = crate::EnqueueOptions::new();
        Self { job, options }
    }
}

/// The jobs' ids, or the jobs.
pub(crate) type Enqueued<T> = Result<Vec<JobId>, Rejected<T>>;

/// Jobs that were not enqueued.
#[derive(Debug)]
pub(crate) struct Rejected<T> {
    pub(crate) jobs: Vec<T>,
    pub(crate) why: Why,
}

pub(crate) fn rejected<T>(jobs: Vec<Submission<T>>, why: Why) -> Rejected<T> {
    let jobs = jobs.into_iter().map(|job| job.job).collect();
    Rejected { jobs, why }
}

/// Why jobs were not enqueued.
#[derive(Debug)]
pub(crate) enum Why {
    Full,
    Closed,
    /// The queue never holds so many.
    TooMany {
        capacity: usize,
    },
    /// One of the jobs.
    TooLarge {
        size: usize,
        max: usize,
    },
    Encode(Arc<dyn Error + Send + Sync>),
    Backend(BackendError),
}

/// Why a dead letter was not put back.
#[derive(Debug)]
pub(crate) enum NotReplayed {
    /// The queue takes no more jobs.
    Closed,
    /// The backend failed.
    Backend(BackendError),
}

/// A job in the hands of a worker.
#[derive(Debug)]
pub(crate) struct Taken<T> {
    pub(crate) job: T,
    pub(crate) id: JobId,
    pub(crate) trace: Option<Box<str>>,
    pub(crate) errors: Errors,
    pub(crate) hold: Hold,
}

/// What the attempts before failed with, the oldest first: the last ten.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(
    clippy::box_collection,
    reason = "every job has one, hardly any has errors: eight bytes"
)]
pub(crate) struct Errors(Option<Box<Vec<String>>>);

impl Errors {
    /// Errors kept.
    pub(crate) const KEPT: usize = 10;

    pub(crate) fn push(&mut self, error: String) {
        let errors = self.0.get_or_insert_default();
        if errors.len() >= Self::KEPT {
            errors.remove(0);
        }
        errors.push(error);
    }

    pub(crate) fn into_vec(self) -> Vec<String> {
        self.0.map_or_else(Vec::new, |errors| *errors)
    }
}

#[cfg(any(feature = "sqlite", feature = "postgres", feature = "redis"))]
impl From<Vec<String>> for Errors {
    fn from(errors: Vec<String>) -> Self {
        Self((!errors.is_empty()).then(|| Box::new(errors)))
    }
}

/// What a backend knows a running job by.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Hold {
    /// A place in the machine.
    Ticket(Ticket),
    /// A lease of a server's.
    #[cfg(any(feature = "postgres", feature = "redis"))]
    Lease {
        /// The number of the lease.
        token: u64,
        /// When the job started here.
        since: Instant,
    },
}

/// A job that a worker is done with.
#[derive(Debug)]
pub(crate) enum Ended<T> {
    /// It is done.
    Completed(JobId, Hold),
    /// It was pointless.
    Discarded(JobId, Hold),
    /// It failed with this error, to run again after a while.
    Retry(Box<Taken<T>>, Duration, String),
    /// To run again after a while, as the same attempt.
    Snooze(Box<Taken<T>>, Duration, Option<Scope>),
    /// It failed with this error, for good.
    Dead(Box<Taken<T>>, String),
    /// Not done: given back as if it had not started.
    Released(Box<Taken<T>>),
}

/// A job that a worker shall run at once.
pub(crate) struct Started<T> {
    pub(crate) taken: Taken<T>,
    pub(crate) attempt: u32,
    pub(crate) waited: Duration,
    pub(crate) age: Duration,
    /// To be waited for before the handler runs.
    pub(crate) first: Option<Boxed<'static, ()>>,
}

impl<T> fmt::Debug for Started<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Started")
            .field("id", &self.taken.id)
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}

/// What a worker does while it asks for a job. As one of the last two, it counts as idle until it
/// claims again or leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// It is between two jobs. If there is none, it does not become idle yet: it has to register for
    /// being woken first, and then asks again as `Registered`.
    Working,
    /// It will be woken when there is something to do.
    Registered,
    /// It has been told to wait to be woken.
    Follower,
    /// It has been told to wait to be woken, but not beyond this instant. One worker at a time
    /// does; it is the queue's timer.
    Leader(Instant),
}
