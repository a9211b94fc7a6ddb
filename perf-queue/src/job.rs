use std::fmt;
use std::time::Duration;

/// The identity of a job: stable over all its attempts, unique among the jobs of every queue and
/// process, so it can serve as an idempotency key.
///
/// Prints as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct JobId {
    /// Drawn at random for each queue that is built.
    queue: u64,
    seq: u64,
}

impl JobId {
    pub(crate) const fn new(queue: u64, seq: u64) -> Self {
        Self { queue, seq }
    }

    #[cfg(feature = "sqlite")]
    pub(crate) const fn halves(self) -> [u64; 2] {
        [self.queue, self.seq]
    }

    /// In the order of the ids.
    #[cfg(any(feature = "postgres", feature = "redis"))]
    pub(crate) fn to_bytes(self) -> [u8; 16] {
        (u128::from(self.queue) << 64 | u128::from(self.seq)).to_be_bytes()
    }

    #[cfg(feature = "postgres")]
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (queue, seq) = bytes.split_first_chunk()?;
        Some(Self {
            queue: u64::from_be_bytes(*queue),
            seq: u64::from_be_bytes(seq.try_into().ok()?),
        })
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
    pub(crate) trace: Option<Box<str>>,
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

    /// The [`trace`](EnqueueOptions::trace) that came with the job.
    #[must_use]
    pub fn trace(&self) -> Option<&str> {
        self.trace.as_deref()
    }
}

/// How to enqueue a job, for [`Queue::enqueue_with`](crate::Queue::enqueue_with).
#[derive(Debug, Clone, Default)]
pub struct EnqueueOptions {
    pub(crate) delay: Duration,
    pub(crate) priority: i8,
    pub(crate) unique: Option<(String, Duration)>,
    pub(crate) trace: Option<Box<str>>,
}

impl EnqueueOptions {
    /// The defaults: no delay.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            delay: Duration::ZERO,
            priority: 0,
            unique: None,
            trace: None,
        }
    }

    /// The job runs no earlier than this long after the enqueue, and takes its place in its key's
    /// order at that time. It counts against the capacity from the start. Defaults to zero.
    #[must_use]
    pub const fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Among the jobs of its key that are due, one with a higher priority starts first. Keys take
    /// turns whatever the priorities of their jobs. Defaults to 0.
    #[must_use]
    pub const fn priority(mut self, priority: i8) -> Self {
        self.priority = priority;
        self
    }

    /// Takes the name for as long as `within`. While another job has it, by the time that was given
    /// with that one, enqueues nothing and gives that job's id, whatever has become of it meanwhile.
    /// Defaults to none.
    #[must_use]
    pub fn unique(mut self, name: impl Into<String>, within: Duration) -> Self {
        self.unique = Some((name.into(), within));
        self
    }

    /// A W3C `traceparent` that travels with the job, to [`JobContext::trace`] and as the field
    /// `traceparent` into the span `job` around the handler, beside `queue`, `id` and `attempt`.
    /// Defaults to none.
    #[must_use]
    pub fn trace(mut self, traceparent: impl Into<String>) -> Self {
        self.trace = Some(traceparent.into().into_boxed_str());
        self
    }
}
