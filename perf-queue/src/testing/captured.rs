use std::fmt;
use std::future::ready;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::recorder::Recorder;
use crate::backend::{Boxed, Open, Parts, QueueBackend, Ready};
use crate::{BuildError, JobId, Memory};

/// A queue in memory that remembers what was enqueued: give a clone to
/// [`QueueBuilder::backend`](crate::QueueBuilder::backend), and ask this one.
///
/// Jobs wait in it like in [`Memory`], until there are workers or [`run_until_idle`](super::run_until_idle).
/// What is enqueued by [`enqueue_in`](crate::Queue) needs a database, and a queue on it.
///
/// It remembers every job, for as long as it lives or until it is [taken](Self::take): it is for tests.
pub struct Captured<T, K = ()> {
    memory: Memory,
    jobs: Arc<Mutex<Vec<Enqueued<T, K>>>>,
}

/// A job that was enqueued, and how. Jobs whose [unique](crate::EnqueueOptions::unique) name was taken are
/// not among them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Enqueued<T, K = ()> {
    /// The id that the enqueue gave.
    pub id: JobId,
    /// The job.
    pub job: T,
    /// Its key; `()` for a queue without keys.
    pub key: K,
    /// Its delay; zero without one.
    pub delay: Duration,
    /// Its priority.
    pub priority: i8,
    /// Its unique name, and for how long that is taken.
    pub unique: Option<(String, Duration)>,
    /// The `traceparent` that came with it.
    pub trace: Option<String>,
}

impl<T, K> Captured<T, K> {
    /// With room for 100,000 jobs.
    #[must_use]
    pub fn new() -> Self {
        Self::on(Memory::default())
    }

    /// With this much room.
    #[must_use]
    pub fn on(memory: Memory) -> Self {
        Self {
            memory,
            jobs: Arc::default(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Vec<Enqueued<T, K>>> {
        // Nothing of the user's but `Clone` runs under the lock, and changes nothing.
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All jobs that were enqueued, in their order, whatever has become of them. Those that
    /// [`take`](Self::take) has taken are not among them.
    #[must_use]
    pub fn jobs(&self) -> Vec<Enqueued<T, K>>
    where
        T: Clone,
        K: Clone,
    {
        self.lock().clone()
    }

    /// The same, and forgets them: the next call shows what was enqueued since. They stay in the queue.
    #[must_use]
    pub fn take(&self) -> Vec<Enqueued<T, K>> {
        std::mem::take(&mut *self.lock())
    }
}

impl<T, K> Default for Captured<T, K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T, K> Clone for Captured<T, K> {
    fn clone(&self) -> Self {
        Self {
            memory: self.memory.clone(),
            jobs: Arc::clone(&self.jobs),
        }
    }
}

impl<T, K> fmt::Debug for Captured<T, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Captured")
            .field("memory", &self.memory)
            .field("jobs", &self.lock().len())
            .finish()
    }
}

impl<T, K> QueueBackend<T, K> for Captured<T, K>
where
    T: Clone + Send + 'static,
    K: Hash + Eq + Clone + Send + 'static,
{
}

impl<T, K> Open<T, K> for Captured<T, K>
where
    T: Clone + Send + 'static,
    K: Hash + Eq + Clone + Send + 'static,
{
    fn open(self, parts: Parts<T, K>) -> Boxed<'static, Result<Ready<T>, BuildError>> {
        let key = Arc::clone(&parts.key);
        let ready_store = self.memory.clone().store(parts);
        Box::pin(ready(ready_store.map(|Ready(store)| {
            Ready(Arc::new(Recorder::new(store, key, self)) as _)
        })))
    }
}
