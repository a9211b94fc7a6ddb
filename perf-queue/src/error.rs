use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::Rate;
use crate::backend::{NotReplayed, Rejected, Why};

/// The settings of a queue do not fit together.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A rate that cannot be kept.
    #[error("{option} is {rate:?}: {reason}")]
    Rate {
        /// The builder's method.
        option: &'static str,
        /// What it was given.
        rate: Rate,
        /// What is wrong, and the remedy.
        reason: &'static str,
    },
    /// A backoff that cannot be kept.
    #[error("retry: {reason}")]
    Backoff {
        /// What is wrong, and the remedy.
        reason: &'static str,
    },
    /// A bound that is zero or too large.
    #[error("{option} is {value}: it must be from 1 to {max}")]
    Bound {
        /// The option.
        option: &'static str,
        /// What it was given.
        value: usize,
        /// The largest value.
        max: usize,
    },
    /// A lease that cannot be kept.
    #[error("lease is {lease:?}: it must be from {min:?} to {max:?}")]
    Lease {
        /// What it was given.
        lease: Duration,
        /// The shortest.
        min: Duration,
        /// The longest.
        max: Duration,
    },
    /// An option about keys, without keys.
    #[error("{option} needs to know the key of a job: add .key(|job| ..)")]
    KeyRequired {
        /// The option.
        option: &'static str,
    },
    /// The queue was built outside of a tokio runtime.
    #[error("no tokio runtime here: build the queue inside of one")]
    NoRuntime,
    /// The backend could not be made ready.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The tokio runtime has no timers, and so no job could ever wait for its time.
    #[error("the tokio runtime here has no timers: build it with enable_time or enable_all")]
    NoTimers,
}

/// The backend failed. The in-memory backend never does.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum BackendError {
    /// It cannot be reached, did not answer or has no room: the same call may succeed later.
    #[error(
        "{} is down, full or out of reach: see to that, and try again",
        at(backend, address)
    )]
    Unavailable {
        /// The name of the backend.
        backend: &'static str,
        /// Where it is, without user and password; empty if that is not known.
        address: String,
        /// The error of its client.
        source: Arc<dyn Error + Send + Sync>,
    },
    /// It refused the request, and would again.
    #[error(
        "{} refused the request, and would again: see to what its own error says",
        at(backend, address)
    )]
    Refused {
        /// The name of the backend.
        backend: &'static str,
        /// Where it is, without user and password; empty if that is not known.
        address: String,
        /// The error of its client.
        source: Arc<dyn Error + Send + Sync>,
    },
    /// It is set up in a way in which it would lose jobs, or cannot keep them.
    #[error("{backend} is not fit to keep jobs: {reason}")]
    Unfit {
        /// The name of the backend.
        backend: &'static str,
        /// What is wrong, and the remedy.
        reason: String,
    },
}

impl BackendError {
    /// Whether the same call may succeed later.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }

    /// Says where the backend is.
    #[cfg(any(feature = "sqlite", feature = "postgres", feature = "redis"))]
    pub(crate) fn at(mut self, place: &str) -> Self {
        if let Self::Unavailable { address, .. } | Self::Refused { address, .. } = &mut self {
            place.clone_into(address);
        }
        self
    }
}

fn at(backend: &str, address: &str) -> String {
    match address {
        "" => backend.to_owned(),
        address => format!("{backend} at {address}"),
    }
}

/// A job was not enqueued.
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
pub enum EnqueueError<T> {
    /// The queue takes no more jobs; here is the job back.
    #[error("the queue is closed: it takes no more jobs here")]
    Closed(T),
    /// The job is too large for the queue; here it is back.
    #[error(
        "the job takes {size} bytes, the queue at most {max}: raise max_payload or keep a reference in the job"
    )]
    PayloadTooLarge {
        /// The job.
        job: T,
        /// The bytes that it takes.
        size: usize,
        /// The queue's `max_payload`.
        max: usize,
    },
    /// The job cannot be made into bytes; here it is back.
    #[error("the job cannot be serialized: give it a Serialize that JSON takes")]
    Encode {
        /// The job.
        job: T,
        /// What kept it from that.
        source: Arc<dyn Error + Send + Sync>,
    },
    /// The backend failed; here is the job back. Where the answer was lost, the job may be in the queue
    /// all the same: to enqueue it again is safe with a [unique](crate::EnqueueOptions::unique) name.
    #[error(
        "the job may not be in the queue: enqueue it again, under a unique name where it must not run twice"
    )]
    Backend {
        /// The job.
        job: T,
        /// What the backend said.
        source: BackendError,
    },
}

impl<T> EnqueueError<T> {
    /// The job that was not enqueued.
    pub fn into_job(self) -> T {
        match self {
            Self::Closed(job)
            | Self::PayloadTooLarge { job, .. }
            | Self::Encode { job, .. }
            | Self::Backend { job, .. } => job,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Closed(_) => "Closed",
            Self::PayloadTooLarge { .. } => "PayloadTooLarge",
            Self::Encode { .. } => "Encode",
            Self::Backend { .. } => "Backend",
        }
    }
}

/// A job was not enqueued at once.
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
pub enum TryEnqueueError<T> {
    /// The queue is full; here is the job back.
    #[error("the queue is full: wait with enqueue, raise its bound or add workers")]
    Full(T),
    /// Anything that would keep [`enqueue`](crate::Queue::enqueue) from it, too.
    #[error(transparent)]
    Other(EnqueueError<T>),
}

impl<T> TryEnqueueError<T> {
    /// The job that was not enqueued.
    pub fn into_job(self) -> T {
        match self {
            Self::Full(job) => job,
            Self::Other(error) => error.into_job(),
        }
    }
}

/// A batch was not enqueued; none of its jobs was.
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
pub enum EnqueueBatchError<T> {
    /// The batch would never fit; here are the jobs back.
    #[error(
        "a batch of {} jobs never fits into a queue of {capacity}: split it or raise the bound",
        .jobs.len()
    )]
    TooMany {
        /// The jobs that were not enqueued.
        jobs: Vec<T>,
        /// How many jobs the queue holds.
        capacity: usize,
    },
    /// Anything that would keep [`enqueue`](crate::Queue::enqueue) from it, too.
    #[error(transparent)]
    Other(EnqueueError<Vec<T>>),
}

impl<T> EnqueueBatchError<T> {
    /// The jobs that were not enqueued.
    pub fn into_jobs(self) -> Vec<T> {
        match self {
            Self::TooMany { jobs, .. } => jobs,
            Self::Other(error) => error.into_job(),
        }
    }
}

impl<T> From<Rejected<T>> for EnqueueBatchError<T> {
    fn from(Rejected { jobs, why }: Rejected<T>) -> Self {
        match why {
            Why::TooMany { capacity } => Self::TooMany { jobs, capacity },
            // A batch waits for room.
            Why::Full | Why::Closed => Self::Other(EnqueueError::Closed(jobs)),
            why => Self::Other(other(jobs, why)),
        }
    }
}

/// The error about a single job that was submitted, if it comes back.
pub(crate) fn single<T>(Rejected { jobs, why }: Rejected<T>) -> Option<TryEnqueueError<T>> {
    let job = jobs.into_iter().next()?;
    Some(match why {
        Why::Full | Why::TooMany { .. } => TryEnqueueError::Full(job),
        why => TryEnqueueError::Other(other(job, why)),
    })
}

fn other<J>(job: J, why: Why) -> EnqueueError<J> {
    match why {
        Why::TooLarge { size, max } => EnqueueError::PayloadTooLarge { job, size, max },
        Why::Encode(source) => EnqueueError::Encode { job, source },
        Why::Backend(source) => EnqueueError::Backend { job, source },
        Why::Full | Why::Closed | Why::TooMany { .. } => EnqueueError::Closed(job),
    }
}

/// A dead letter was not put back into the queue.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// The queue takes no more jobs; the letter stays where it is.
    #[error("the queue is closed: it takes no more jobs here")]
    Closed,
    /// The backend failed.
    #[error(transparent)]
    Backend(BackendError),
}

impl From<NotReplayed> for ReplayError {
    fn from(error: NotReplayed) -> Self {
        match error {
            NotReplayed::Closed => Self::Closed,
            NotReplayed::Backend(error) => Self::Backend(error),
        }
    }
}

// Like tokio's errors that give a value back, these are `Debug` whether the job is or not.
impl<T> fmt::Debug for EnqueueError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Backend { source, .. } => write!(f, "Backend({source:?})"),
            _ => write!(f, "{}(..)", self.name()),
        }
    }
}

impl<T> fmt::Debug for TryEnqueueError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(_) => f.write_str("Full(..)"),
            Self::Other(error) => error.fmt(f),
        }
    }
}

impl<T> fmt::Debug for EnqueueBatchError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMany { jobs, capacity } => f
                .debug_struct("TooMany")
                .field("jobs", &jobs.len())
                .field("capacity", capacity)
                .finish(),
            Self::Other(error) => error.fmt(f),
        }
    }
}
