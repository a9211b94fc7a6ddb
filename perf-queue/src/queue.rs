use std::fmt;
use std::future::Future;
use std::sync::{Arc, OnceLock};

use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use crate::backend::{Backend, Submission};
use crate::error::single;
use crate::metrics::Meters;
use crate::signals::Signals;
use crate::{
    BackendError, Backoff, BuildError, DeadLetters, EnqueueBatchError, EnqueueError,
    EnqueueOptions, Handler, JobContext, JobError, JobId, QueueBuilder, Rate, Scope, Stats,
    TryEnqueueError, WorkersBuilder,
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
    pub(crate) backend: Arc<dyn Backend<T>>,
    pub(crate) signals: Arc<Signals>,
    pub(crate) meters: Arc<Meters>,
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
    /// With the job: [`EnqueueError::Closed`] once the queue is [closed](Self::close); where the backend
    /// keeps bytes, [`PayloadTooLarge`](EnqueueError::PayloadTooLarge),
    /// [`Encode`](EnqueueError::Encode) and [`Backend`](EnqueueError::Backend).
    ///
    /// # Cancel safety
    ///
    /// In memory, a dropped future has enqueued nothing; the job is dropped with it, and so is the
    /// place in the line. In a file or on a server it may have enqueued the job: a
    /// [unique](EnqueueOptions::unique) name makes it safe to enqueue it again.
    pub async fn enqueue(&self, job: T) -> Result<JobId, EnqueueError<T>> {
        self.enqueue_with(job, EnqueueOptions::new()).await
    }

    /// Enqueues a job with options; waits while the queue is full.
    ///
    /// # Errors
    ///
    /// As [`enqueue`](Self::enqueue).
    ///
    /// # Cancel safety
    ///
    /// As [`enqueue`](Self::enqueue).
    pub async fn enqueue_with(
        &self,
        job: T,
        options: EnqueueOptions,
    ) -> Result<JobId, EnqueueError<T>> {
        match self.submit(job, options, true).await {
            Ok(id) => Ok(id),
            Err(TryEnqueueError::Full(job)) => Err(EnqueueError::Closed(job)),
            Err(TryEnqueueError::Other(error)) => Err(error),
        }
    }

    async fn submit(
        &self,
        job: T,
        options: EnqueueOptions,
        wait: bool,
    ) -> Result<JobId, TryEnqueueError<T>> {
        let jobs = vec![Submission { job, options }];
        match self.shared.backend.enqueue(jobs, wait).await {
            Ok(ids) => Ok(ids.first().copied().unwrap_or_default()),
            Err(rejected) => match single(rejected) {
                Some(error) => Err(error),
                None => Ok(JobId::default()),
            },
        }
    }

    /// Enqueues a job if there is room at once.
    ///
    /// # Errors
    ///
    /// With the job: [`TryEnqueueError::Full`], or what [`enqueue`](Self::enqueue) may fail with.
    ///
    /// # Cancel safety
    ///
    /// As [`enqueue`](Self::enqueue).
    pub async fn try_enqueue(&self, job: T) -> Result<JobId, TryEnqueueError<T>> {
        self.submit(job, EnqueueOptions::new(), false).await
    }

    /// As [`try_enqueue`](Self::try_enqueue), with options.
    ///
    /// # Errors
    ///
    /// As [`try_enqueue`](Self::try_enqueue).
    ///
    /// # Cancel safety
    ///
    /// As [`enqueue`](Self::enqueue).
    pub async fn try_enqueue_with(
        &self,
        job: T,
        options: EnqueueOptions,
    ) -> Result<JobId, TryEnqueueError<T>> {
        self.submit(job, options, false).await
    }

    /// Enqueues all jobs, in their order, or none; waits until there is room for all of them.
    ///
    /// # Errors
    ///
    /// With the jobs: [`EnqueueBatchError::TooMany`] if the queue never holds so many, or what
    /// [`enqueue`](Self::enqueue) may fail with, about the first job that it is about.
    ///
    /// # Panics
    ///
    /// If the closure for keys or rates panics, or a key's `Hash`, `Eq` or `Clone`: in memory, the jobs
    /// before that key may be enqueued, and the others are dropped.
    ///
    /// # Cancel safety
    ///
    /// A dropped future has enqueued none of them; in a file or on a server, none or all.
    pub async fn enqueue_batch(&self, jobs: Vec<T>) -> Result<Vec<JobId>, EnqueueBatchError<T>> {
        Ok(self.shared.backend.enqueue_batch(jobs).await?)
    }

    /// As [`enqueue_batch`](Self::enqueue_batch), each job with options of its own. A job whose
    /// [unique](EnqueueOptions::unique) name is taken is left out, and its id is that of the job that
    /// has the name.
    ///
    /// ```
    /// # async fn f(queue: perf_queue::Queue<u64>) -> Result<(), Box<dyn std::error::Error>> {
    /// use perf_queue::EnqueueOptions;
    /// use std::time::Duration;
    ///
    /// let reminders = (0..1_000).map(|user| {
    ///     let options = EnqueueOptions::new().delay(Duration::from_secs(user % 60));
    ///     (user, options)
    /// });
    /// queue.enqueue_batch_with(reminders).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`enqueue_batch`](Self::enqueue_batch); the jobs come back without their options.
    ///
    /// # Cancel safety
    ///
    /// As [`enqueue_batch`](Self::enqueue_batch).
    pub async fn enqueue_batch_with(
        &self,
        jobs: impl IntoIterator<Item = (T, EnqueueOptions)>,
    ) -> Result<Vec<JobId>, EnqueueBatchError<T>> {
        let submit = |(job, options)| Submission { job, options };
        let jobs = jobs.into_iter().map(submit).collect();
        Ok(self.shared.backend.enqueue(jobs, true).await?)
    }

    /// Enqueues a job as part of a transaction on the database that holds the queue's jobs: it is
    /// there if and when the transaction commits, in the order of the commits, and never if it does
    /// not. Its delay counts from there, too.
    ///
    /// `conn` is a transaction of sqlx's, or a connection on which one is open; on Postgres one that is
    /// `READ COMMITTED`, which is the default there.
    ///
    /// # Errors
    ///
    /// [`EnqueueInError::OtherDatabase`](crate::EnqueueInError::OtherDatabase) where the queue's jobs are not in such a database, or, for
    /// SQLite, not in the same file. After other errors the transaction may have failed: roll it back.
    ///
    /// # Cancel safety
    ///
    /// A dropped future may have added the job to the transaction: roll it back.
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    pub async fn enqueue_in<C: crate::InTransaction + ?Sized>(
        &self,
        conn: &mut C,
        job: &T,
    ) -> Result<JobId, crate::EnqueueInError> {
        self.enqueue_in_with(conn, job, EnqueueOptions::new()).await
    }

    /// As [`enqueue_in`](Self::enqueue_in), with options.
    ///
    /// # Errors
    ///
    /// As [`enqueue_in`](Self::enqueue_in).
    ///
    /// # Cancel safety
    ///
    /// As [`enqueue_in`](Self::enqueue_in).
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    pub async fn enqueue_in_with<C: crate::InTransaction + ?Sized>(
        &self,
        conn: &mut C,
        job: &T,
        options: EnqueueOptions,
    ) -> Result<JobId, crate::EnqueueInError> {
        let conn = conn.connection();
        self.shared.backend.enqueue_in(conn, job, options).await
    }

    /// Prepares `count` workers that run `handler`, each one job at a time, until
    /// [`spawn`](WorkersBuilder::spawn) starts them. A queue can have several groups of workers.
    ///
    /// The handler gets a copy of the job: the queue keeps the job itself for a retry (put what is
    /// large into an [`Arc`]). A handler that panics has failed that attempt, nothing more.
    ///
    /// A handler that blocks its thread, instead of waiting, also holds up the worker that it has woken
    /// there by an `enqueue` of its own. What that one was to take goes to another idle worker within a
    /// second (on a server, five), if there is one.
    pub fn workers<H, F>(&self, count: usize, handler: H) -> WorkersBuilder<T, Handler<H>>
    where
        T: Clone,
        H: Fn(T, JobContext) -> F + Clone + Send + 'static,
        F: Future<Output = Result<(), JobError>> + Send + 'static,
    {
        WorkersBuilder::new(Arc::clone(&self.shared), count, Handler::new(handler))
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
    /// # Errors
    ///
    /// If the backend fails; the in-memory one never does.
    ///
    /// # Cancel safety
    ///
    /// Only waits, so dropping it loses nothing.
    pub async fn drain(&self) -> Result<(), BackendError> {
        self.shared.backend.drained().await
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
        self.shared.backend.stats().await
    }

    /// Starts no more jobs, in any process that shares the queue, until [`resume`](Self::resume).
    /// What runs goes on, and the queue takes jobs as before. On a server, other processes may still start
    /// the few jobs that they were handed before.
    ///
    /// # Errors
    ///
    /// If the backend fails; the in-memory one never does.
    ///
    /// # Cancel safety
    ///
    /// A dropped future may have paused the queue.
    pub async fn pause(&self) -> Result<(), BackendError> {
        self.shared.backend.pause(true).await
    }

    /// Ends a [`pause`](Self::pause).
    ///
    /// # Errors
    ///
    /// If the backend fails; the in-memory one never does.
    ///
    /// # Cancel safety
    ///
    /// A dropped future may have resumed the queue.
    pub async fn resume(&self) -> Result<(), BackendError> {
        self.shared.backend.pause(false).await
    }

    /// Replaces the limit over all, `None` for no limit, in all processes that share the queue: the last
    /// to set it wins, and it outlives them. What was granted before counts against the new limit.
    ///
    /// # Errors
    ///
    /// [`BuildError::Rate`] for a rate that cannot be kept, [`BuildError::Backend`] if the backend fails.
    ///
    /// # Cancel safety
    ///
    /// A dropped future may have set it.
    pub async fn set_rate_limit(&self, rate: impl Into<Option<Rate>>) -> Result<(), BuildError> {
        let rate = rate.into();
        rate.map(|rate| rate.pace("rate")).transpose()?;
        Ok(self.shared.backend.set_rate(Scope::Queue, rate).await?)
    }

    /// Replaces the limit per key; everything else as [`set_rate_limit`](Self::set_rate_limit).
    ///
    /// Keys that have a rate by a closure ([`RatePerKey`](crate::RatePerKey)) have this one instead, until
    /// their next job brings theirs again. What they were granted in between counts then, except where
    /// theirs has the longer period and they were idle for this one's, or where this is none.
    ///
    /// # Errors
    ///
    /// As [`set_rate_limit`](Self::set_rate_limit).
    ///
    /// # Cancel safety
    ///
    /// A dropped future may have set it.
    pub async fn set_rate_limit_per_key(
        &self,
        rate: impl Into<Option<Rate>>,
    ) -> Result<(), BuildError> {
        let rate = rate.into();
        rate.map(|rate| rate.pace("rate")).transpose()?;
        Ok(self.shared.backend.set_rate(Scope::Key, rate).await?)
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
            .finish_non_exhaustive()
    }
}
