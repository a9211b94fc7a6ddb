use std::fmt;
use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::TryAcquireError;
use tokio::task::AbortHandle;

use crate::backend::Backend;
use crate::metrics::Meters;
use crate::signals::Signals;
use crate::{
    BackendError, Backoff, DeadLetters, EnqueueBatchError, EnqueueError, EnqueueOptions,
    JobContext, JobError, JobId, QueueBuilder, Stats, TryEnqueueError, WorkersBuilder,
};

/// A queue of jobs of type `T`. Cheap to clone; all clones are the same queue.
///
/// When the last handle and the last [`Workers`](crate::Workers) are gone, the jobs in memory go
/// with them: [`close`](Self::close) and [`drain`](Self::drain) first.
pub struct Queue<T> {
    pub(crate) shared: Arc<Shared<T>>,
}

/// What the handles of a queue and its workers share.
pub(crate) struct Shared<T> {
    pub(crate) name: String,
    pub(crate) backend: Box<dyn Backend<T>>,
    pub(crate) signals: Arc<Signals>,
    pub(crate) meters: Arc<Meters>,
    pub(crate) capacity: usize,
    pub(crate) backoff: Backoff,
    pub(crate) runtime: Handle,
    /// The task that sets the gauges.
    pub(crate) sampler: OnceLock<AbortHandle>,
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        if let Some(sampler) = self.sampler.get() {
            sampler.abort();
        }
        self.meters.clear();
    }
}

impl<T: Send + 'static> Queue<T> {
    /// Begins to build a queue. `name` is the label `queue` of its metrics.
    pub fn builder(name: impl Into<String>) -> QueueBuilder<T> {
        QueueBuilder::new(name.into())
    }

    /// Enqueues a job; waits while the queue is full, behind those who waited before.
    ///
    /// # Errors
    ///
    /// [`EnqueueError::Closed`], with the job, once the queue is [closed](Self::close).
    ///
    /// # Cancel safety
    ///
    /// A dropped future has enqueued nothing; the job is dropped with it, and so is the place in
    /// the line.
    pub async fn enqueue(&self, job: T) -> Result<JobId, EnqueueError<T>> {
        self.enqueue_with(job, EnqueueOptions::new()).await
    }

    /// Enqueues a job with options; waits while the queue is full.
    ///
    /// # Errors
    ///
    /// [`EnqueueError::Closed`], with the job, once the queue is [closed](Self::close).
    ///
    /// # Cancel safety
    ///
    /// As [`enqueue`](Self::enqueue).
    pub async fn enqueue_with(
        &self,
        job: T,
        options: EnqueueOptions,
    ) -> Result<JobId, EnqueueError<T>> {
        let Ok(room) = self.shared.signals.room.acquire().await else {
            return Err(EnqueueError::Closed(job));
        };
        let pushed = self.shared.backend.push(job, options.delay);
        let id = pushed.map_err(EnqueueError::Closed)?;
        room.forget();
        Ok(id)
    }

    /// Enqueues a job if there is room at once.
    ///
    /// # Errors
    ///
    /// With the job: [`TryEnqueueError::Full`], or [`TryEnqueueError::Closed`] once the queue is
    /// [closed](Self::close).
    pub fn try_enqueue(&self, job: T) -> Result<JobId, TryEnqueueError<T>> {
        let room = match self.shared.signals.room.try_acquire() {
            Ok(room) => room,
            Err(TryAcquireError::NoPermits) => return Err(TryEnqueueError::Full(job)),
            Err(TryAcquireError::Closed) => return Err(TryEnqueueError::Closed(job)),
        };
        let pushed = self.shared.backend.push(job, Duration::ZERO);
        let id = pushed.map_err(TryEnqueueError::Closed)?;
        room.forget();
        Ok(id)
    }

    /// Enqueues all jobs, in their order, or none; waits until there is room for all of them.
    ///
    /// # Errors
    ///
    /// With the jobs: [`EnqueueBatchError::TooLarge`] if the queue never holds so many,
    /// [`EnqueueBatchError::Closed`] once it is [closed](Self::close).
    ///
    /// # Cancel safety
    ///
    /// A dropped future has enqueued none of them.
    pub async fn enqueue_batch(&self, jobs: Vec<T>) -> Result<Vec<JobId>, EnqueueBatchError<T>> {
        let capacity = self.shared.capacity;
        let count = match u32::try_from(jobs.len()) {
            Ok(count) if jobs.len() <= capacity => count,
            _ => return Err(EnqueueBatchError::TooLarge { jobs, capacity }),
        };
        let Ok(room) = self.shared.signals.room.acquire_many(count).await else {
            return Err(EnqueueBatchError::Closed(jobs));
        };
        let pushed = self.shared.backend.push_batch(jobs);
        let ids = pushed.map_err(EnqueueBatchError::Closed)?;
        room.forget();
        Ok(ids)
    }

    /// Prepares `count` workers that run `handler`, each one job at a time, until
    /// [`spawn`](WorkersBuilder::spawn) starts them. A queue can have several groups of workers.
    ///
    /// The handler gets a copy of the job: the queue keeps the job itself for a retry (put what is
    /// large into an [`Arc`]). A handler that panics has failed that attempt, nothing more.
    pub fn workers<H, F>(&self, count: usize, handler: H) -> WorkersBuilder<T, H>
    where
        T: Clone,
        H: Fn(T, JobContext) -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), JobError>> + Send + 'static,
    {
        WorkersBuilder::new(Arc::clone(&self.shared), count, handler)
    }

    /// Takes no more jobs from now on: whoever enqueues, or waits to, gets the job back. Workers go
    /// on, retries included. A closed queue stays closed.
    pub fn close(&self) {
        self.shared.backend.close();
    }

    /// Waits until the queue is empty: nothing ready, scheduled, limited or running. (Dead letters
    /// do not count.) Does not close it, and does not by itself make anything run.
    ///
    /// A service that shuts down without losing what is in memory:
    ///
    /// ```
    /// # async fn f(queue: perf_queue::Queue<u8>, workers: perf_queue::Workers) {
    /// use std::time::Duration;
    ///
    /// queue.close();
    /// let drained = tokio::time::timeout(Duration::from_secs(20), queue.drain()).await;
    /// let drain = workers.shutdown(Duration::from_secs(5)).await;
    /// # let _ = (drained, drain);
    /// # }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Only waits, so dropping it loses nothing.
    pub async fn drain(&self) {
        let backend = &self.shared.backend;
        self.shared.signals.drained(|| backend.is_empty()).await;
    }

    /// The queue as it is now.
    ///
    /// # Errors
    ///
    /// If the backend fails; the in-memory one never does.
    ///
    /// # Cancel safety
    ///
    /// Changes nothing, so dropping it loses nothing.
    pub async fn stats(&self) -> Result<Stats, BackendError> {
        Ok(self.shared.backend.stats())
    }

    /// The jobs that failed for good.
    #[must_use]
    pub fn dead_letters(&self) -> DeadLetters<T> {
        DeadLetters {
            shared: Arc::clone(&self.shared),
        }
    }

    /// The queue's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<T> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("name", &self.shared.name)
            .field("capacity", &self.shared.capacity)
            .finish_non_exhaustive()
    }
}
