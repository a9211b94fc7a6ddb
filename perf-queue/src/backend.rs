use std::time::Duration;

use tokio::time::Instant;

use crate::machine::{Claimed, Ticket};
use crate::{DeadLetter, JobId, Scope, Stats};

/// What a queue asks of the place where its jobs are. Erases the type of the key.
pub(crate) trait Backend<T>: Send + Sync {
    /// Adds a job for which there is room. Gives it back if the queue is closed.
    fn push(&self, job: T, delay: Duration) -> Result<JobId, T>;

    /// Adds all jobs or none.
    fn push_batch(&self, jobs: Vec<T>) -> Result<Vec<JobId>, Vec<T>>;

    /// Ends the job before, and starts the next: one step, as it is one lock (and would be one
    /// round trip). A worker that gets `Claim::Wait` counts as idle until it claims again or leaves.
    fn claim(&self, ended: Option<Ended<T>>, role: Role) -> Claim<T>;

    /// Ends a job without asking for another.
    fn settle(&self, ended: Ended<T>);

    /// A worker that counted as idle is gone, or no longer able to take a job.
    fn leave(&self, role: Role);

    /// Takes no more jobs from now on.
    fn close(&self);

    fn is_empty(&self) -> bool;

    fn stats(&self) -> Stats;

    /// Drops what is not needed any more.
    fn tidy(&self);

    fn dead(&self, at_most: usize) -> Vec<DeadLetter<T>>
    where
        T: Clone;

    /// Puts a dead letter back into the queue, which has room for it. False if there is none.
    fn replay(&self, id: JobId) -> Result<bool, Closed>;

    fn purge(&self) -> usize;
}

/// The queue takes no more jobs.
#[derive(Debug)]
pub(crate) struct Closed;

/// A job that a worker is done with.
pub(crate) enum Ended<T> {
    Completed(Ticket),
    Discarded(Ticket),
    Retry(Claimed<T>, Duration),
    Snooze(Claimed<T>, Duration, Option<Scope>),
    Dead(Claimed<T>, String),
    /// Not done: given back as if it had not started.
    Released(Claimed<T>),
}

/// What a worker gets when it asks for a job.
pub(crate) enum Claim<T> {
    Job(Started<T>),
    /// None now: wait to be woken, or until the time given, where it has one.
    Wait(Role),
}

/// A job that a worker shall run at once.
pub(crate) struct Started<T> {
    pub(crate) job: Claimed<T>,
    pub(crate) id: JobId,
}

/// What a worker does while it asks for a job.
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
