use std::error::Error;
use std::fmt;
use std::time::Duration;

/// What a [`JobError::retry_after`] stops, besides its own job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Every job of the same key. In a queue without keys, every job.
    Key,
    /// Every job of the queue.
    Queue,
}

/// Why a handler did not do its job, and what shall become of the job.
///
/// Any error turns into [`retry`](Self::retry) by `?`. (To allow that, this type does not implement
/// [`std::error::Error`] itself.)
pub struct JobError(pub(crate) Fault);

pub(crate) enum Fault {
    Retry(Box<dyn Error + Send + Sync>),
    RetryAfter {
        wait: Duration,
        penalty: Option<Scope>,
    },
    Discard(String),
}

impl JobError {
    /// The attempt failed: try again after the queue's [`Backoff`](crate::Backoff), or put the job
    /// among the dead letters if this was its last attempt.
    pub fn retry(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(Fault::Retry(error.into()))
    }

    /// Not now: run the job again after `wait` ("snooze"), as the same attempt. This is the answer
    /// to a 429. Nothing limits how often a job may be snoozed.
    ///
    /// Only the job itself waits, unless [`penalize`](Self::penalize) says more, or its key runs one
    /// job at a time ([`concurrency_per_key(1)`](crate::QueueBuilder::concurrency_per_key)): then
    /// those after it wait, too.
    #[must_use]
    pub const fn retry_after(wait: Duration) -> Self {
        Self(Fault::RetryAfter {
            wait,
            penalty: None,
        })
    }

    /// With [`retry_after`](Self::retry_after): nothing of `scope` starts before the wait is over.
    /// Of several penalties the one that ends last counts, whatever jobs that were already running
    /// report in between. Without effect on other errors.
    #[must_use]
    pub fn penalize(mut self, scope: Scope) -> Self {
        if let Fault::RetryAfter { penalty, .. } = &mut self.0 {
            *penalty = Some(scope);
        }
        self
    }

    /// The job is pointless: drop it. It is counted and logged, and does not go to the dead letters.
    pub fn discard(reason: impl Into<String>) -> Self {
        Self(Fault::Discard(reason.into()))
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for JobError {
    fn from(error: E) -> Self {
        Self::retry(error)
    }
}

impl fmt::Display for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Fault::Retry(error) => write!(f, "attempt failed: {}", chain(error.as_ref())),
            Fault::RetryAfter { wait, .. } => write!(f, "retry after {wait:?}"),
            Fault::Discard(reason) => write!(f, "discarded: {reason}"),
        }
    }
}

impl fmt::Debug for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JobError({self})")
    }
}

/// The error and its sources in one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
