use std::fmt;
use std::time::Duration;

/// The identity of a job: stable over all its attempts, unique among the jobs of every queue and
/// process, so it can serve as an idempotency key.
///
/// Prints as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId {
    /// Drawn at random for each queue that is built.
    queue: u64,
    seq: u64,
}

impl JobId {
    pub(crate) const fn new(queue: u64, seq: u64) -> Self {
        Self { queue, seq }
    }

    pub(crate) const fn seq(self) -> u64 {
        self.seq
    }

    /// The half that is drawn at random.
    #[cfg(feature = "sqlite")]
    pub(crate) const fn queue(self) -> u64 {
        self.queue
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{:016x}", self.queue, self.seq)
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JobId({self})")
    }
}

/// What a handler learns about its job.
#[derive(Debug, Clone)]
pub struct JobContext {
    pub(crate) id: JobId,
    pub(crate) attempt: u32,
    pub(crate) waited: Duration,
    pub(crate) age: Duration,
}

impl JobContext {
    /// The job's id, the same in every attempt.
    #[must_use]
    pub const fn id(&self) -> JobId {
        self.id
    }

    /// The number of this attempt, from 1. A snooze ([`JobError::retry_after`]) and a release at
    /// shutdown use up no attempt, so the next run has the same number.
    ///
    /// [`JobError::retry_after`]: crate::JobError::retry_after
    #[must_use]
    pub const fn attempt(&self) -> u32 {
        self.attempt
    }

    /// How long the job waited for a worker and for limits, from the time at which it was due
    /// (enqueued, or at the end of its delay or backoff) to this start.
    #[must_use]
    pub const fn waited(&self) -> Duration {
        self.waited
    }

    /// The time from the enqueue to this start, over all attempts.
    #[must_use]
    pub const fn age(&self) -> Duration {
        self.age
    }
}

/// How to enqueue a job, for [`Queue::enqueue_with`](crate::Queue::enqueue_with).
#[derive(Debug, Clone, Default)]
pub struct EnqueueOptions {
    pub(crate) delay: Duration,
}

impl EnqueueOptions {
    /// The defaults: no delay.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            delay: Duration::ZERO,
        }
    }

    /// The job runs no earlier than this long after the enqueue, and takes its place in its key's
    /// order at that time. It counts against the capacity from the start. Defaults to zero.
    #[must_use]
    pub const fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }
}
