use std::time::Duration;

use crate::job_error::{Fault, chain};
use crate::{JobContext, JobError, JobId, Scope};

/// A context for a handler that is called without a queue, as of this attempt (from 1). Its id is the same
/// in each call, and it has not waited.
#[must_use]
pub fn context(attempt: u32) -> JobContext {
    JobContext {
        id: JobId::default(),
        attempt,
        waited: Duration::ZERO,
        age: Duration::ZERO,
        trace: None,
    }
}

/// What a handler said of its job.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// It is done.
    Completed,
    /// The attempt failed with this error, its sources included.
    Retry(String),
    /// To be run again after `wait`, as the same attempt.
    RetryAfter {
        /// After how long.
        wait: Duration,
        /// What nothing else of starts before.
        penalty: Option<Scope>,
    },
    /// It is pointless, for this reason.
    Discard(String),
}

impl Outcome {
    /// What a handler's result says.
    #[must_use]
    pub fn of(result: Result<(), JobError>) -> Self {
        match result {
            Ok(()) => Self::Completed,
            Err(JobError(Fault::Retry(error))) => Self::Retry(chain(error.as_ref())),
            Err(JobError(Fault::RetryAfter { wait, penalty })) => {
                Self::RetryAfter { wait, penalty }
            }
            Err(JobError(Fault::Discard(reason))) => Self::Discard(reason),
        }
    }
}
