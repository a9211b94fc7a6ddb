use std::error::Error;
use std::fmt;
use std::sync::Arc;

use crate::Rate;

/// The settings of a queue do not fit together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
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
    /// An option about keys, without keys.
    #[error("{option} needs to know the key of a job: add .key(|job| ..)")]
    KeyRequired {
        /// The option.
        option: &'static str,
    },
    /// The queue was built outside of a tokio runtime.
    #[error("no tokio runtime here: build the queue inside of one")]
    NoRuntime,
    /// The tokio runtime has no timers, and so no job could ever wait for its time.
    #[error("the tokio runtime here has no timers: build it with enable_time or enable_all")]
    NoTimers,
}

/// The backend failed. The in-memory backend never does.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum BackendError {
    /// It cannot be reached, or did not answer: the same call may succeed later.
    #[error("{backend} cannot be reached or did not answer: {source}")]
    Unavailable {
        /// The name of the backend.
        backend: &'static str,
        /// The error of its client.
        source: Arc<dyn Error + Send + Sync>,
    },
    /// It refused the request, and would again.
    #[error("{backend} refused the request: {source}")]
    Refused {
        /// The name of the backend.
        backend: &'static str,
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
}

/// A job was not enqueued.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EnqueueError<T> {
    /// The queue takes no more jobs; here is the job back.
    #[error("the queue is closed")]
    Closed(T),
}

impl<T> EnqueueError<T> {
    /// The job that was not enqueued.
    pub fn into_job(self) -> T {
        match self {
            Self::Closed(job) => job,
        }
    }
}

/// A job was not enqueued at once.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TryEnqueueError<T> {
    /// The queue is full; here is the job back.
    #[error("the queue is full: wait with enqueue, raise its bound or add workers")]
    Full(T),
    /// The queue takes no more jobs; here is the job back.
    #[error("the queue is closed")]
    Closed(T),
}

impl<T> TryEnqueueError<T> {
    /// The job that was not enqueued.
    pub fn into_job(self) -> T {
        match self {
            Self::Full(job) | Self::Closed(job) => job,
        }
    }
}

/// A batch was not enqueued; none of its jobs was.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EnqueueBatchError<T> {
    /// The queue takes no more jobs; here are the jobs back.
    #[error("the queue is closed")]
    Closed(Vec<T>),
    /// The batch would never fit; here are the jobs back.
    #[error(
        "a batch of {} jobs never fits into a queue of {capacity}: split it or raise the bound",
        .jobs.len()
    )]
    TooLarge {
        /// The jobs that were not enqueued.
        jobs: Vec<T>,
        /// How many jobs the queue holds.
        capacity: usize,
    },
}

impl<T> EnqueueBatchError<T> {
    /// The jobs that were not enqueued.
    pub fn into_jobs(self) -> Vec<T> {
        match self {
            Self::Closed(jobs) | Self::TooLarge { jobs, .. } => jobs,
        }
    }
}

/// A dead letter was not put back into the queue.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// The queue takes no more jobs; the letter stays where it is.
    #[error("the queue is closed")]
    Closed,
}

// Like tokio's errors that give a value back, these are `Debug` whether the job is or not.
impl<T> fmt::Debug for EnqueueError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed(_) => f.write_str("Closed(..)"),
        }
    }
}

impl<T> fmt::Debug for TryEnqueueError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(_) => f.write_str("Full(..)"),
            Self::Closed(_) => f.write_str("Closed(..)"),
        }
    }
}

impl<T> fmt::Debug for EnqueueBatchError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed(jobs) => write!(f, "Closed(.. {} jobs)", jobs.len()),
            Self::TooLarge { jobs, capacity } => f
                .debug_struct("TooLarge")
                .field("jobs", &jobs.len())
                .field("capacity", capacity)
                .finish(),
        }
    }
}
