use std::any::Any;
use std::error::Error;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::time::sleep_until;
use tower_service::Service;
use tracing::{Instrument, Level, Span};

use super::Run;
use super::group::Orders;
use super::service::verdict;
use crate::backend::{Claim, Ended, Role, Started, Taken};
use crate::job_error::{Fault, chain};
use crate::panics::contained;
use crate::queue::Shared;
use crate::{JobContext, JobError};

/// Jobs run in a row before the worker lets other tasks of its thread go first, as handlers that
/// never wait would keep the thread for themselves.
const YIELD_EVERY: u32 = 64;

/// What a worker needs; each worker has a clone.
pub(super) struct Worker<T, S> {
    shared: Arc<Shared<T>>,
    service: S,
    orders: Arc<Orders>,
}

impl<T, S: Clone> Clone for Worker<T, S> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            service: self.service.clone(),
            orders: Arc::clone(&self.orders),
        }
    }
}

impl<T, S> Worker<T, S>
where
    T: Clone + Send + 'static,
    S: Service<Run<T>, Response = ()> + Clone + Send + 'static,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    S::Future: Send,
{
    pub(super) fn new(shared: Arc<Shared<T>>, service: S, orders: Arc<Orders>) -> Self {
        Self {
            shared,
            service,
            orders,
        }
    }

    pub(super) async fn run(self) {
        let Self {
            shared,
            mut service,
            orders,
        } = self;
        let hands = Hands { shared, orders };
        hands.run(&mut service).await;
    }
}

/// A worker without its service.
struct Hands<T> {
    shared: Arc<Shared<T>>,
    orders: Arc<Orders>,
}

impl<T: Clone + Send + 'static> Hands<T> {
    async fn run<S>(&self, service: &mut S)
    where
        S: Service<Run<T>, Response = ()> + Send,
        S::Error: Into<Box<dyn Error + Send + Sync>>,
        S::Future: Send,
    {
        self.shared.backend.join();
        let _joined = Joined(&self.shared);
        let mut ended = None;
        let mut in_a_row = 0;
        loop {
            // A job that ended is settled before the first await, where this task can be aborted.
            if self.orders.dismissed() {
                return self.settle(ended);
            }
            in_a_row += 1;
            if in_a_row > YIELD_EVERY {
                in_a_row = 0;
                self.settle(ended.take());
                tokio::task::yield_now().await;
            }
            let started = match self.shared.backend.claim(ended.take(), Role::Working) {
                Claim::Job(started) => started,
                Claim::Wait(_) => match self.wait().await {
                    Some(started) => started,
                    None => return,
                },
            };
            ended = self.work(service, started).await;
        }
    }

    fn settle(&self, ended: Option<Ended<T>>) {
        if let Some(ended) = ended {
            self.shared.backend.settle(ended);
        }
    }

    /// Waits for a job; `None` if the worker must end.
    async fn wait(&self) -> Option<Started<T>> {
        let mut idle = Idle {
            shared: &self.shared,
            role: Role::Registered,
        };
        loop {
            // Registered before asking for a job, so that no call to wake up falls in between.
            let mut woken = pin!(self.shared.signals.workers.notified());
            woken.as_mut().enable();
            if self.orders.dismissed() {
                return None;
            }
            match self.shared.backend.claim(None, idle.role) {
                Claim::Job(started) => {
                    idle.role = Role::Registered;
                    return Some(started);
                }
                Claim::Wait(role) => idle.role = role,
            }
            match idle.role {
                Role::Leader(until) => tokio::select! {
                    () = woken => {}
                    () = sleep_until(until) => {}
                },
                _ => woken.await,
            }
        }
    }

    /// Runs the handler; its first poll follows the grant at once. Always returns how it ended.
    async fn work<S>(&self, service: &mut S, started: Started<T>) -> Option<Ended<T>>
    where
        S: Service<Run<T>, Response = ()> + Send,
        S::Error: Into<Box<dyn Error + Send + Sync>>,
        S::Future: Send,
    {
        let Started {
            taken: job,
            attempt,
            waited,
            age,
            first,
        } = started;
        let cx = JobContext {
            id: job.id,
            attempt,
            waited,
            age,
            trace: job.trace.clone(),
        };
        let copy = match catch_unwind(AssertUnwindSafe(|| job.job.clone())) {
            Ok(copy) => copy,
            Err(panic) => return Some(self.panicked(job, attempt, panic)),
        };
        let span = self.span(&job, attempt);
        let mut running = Running {
            hands: self,
            job: Some(job),
        };
        // The future is made and dropped inside of the block, so that panics there are caught, too.
        if let Some(first) = first {
            first.await;
        }
        let run = Run::new(copy, cx);
        let result = caught(
            async move {
                poll_fn(|cx| service.poll_ready(cx)).await?;
                service.call(run).await
            }
            .instrument(span),
        )
        .await;
        self.orders.completed();
        let job = running.job.take()?;
        Some(match result {
            Ok(Ok(())) => {
                let (id, hold) = (job.id, job.hold);
                contained(|| drop(job));
                Ended::Completed(id, hold)
            }
            Ok(Err(error)) => self.judge(job, attempt, verdict(error.into())),
            Err(panic) => self.panicked(job, attempt, panic),
        })
    }

    /// Around the handler. Where nobody looks at it, not even one that is disabled: that would be a tenth
    /// of a job's cost.
    fn span(&self, job: &Taken<T>, attempt: u32) -> Span {
        if !tracing::span_enabled!(Level::INFO) {
            return Span::none();
        }
        tracing::info_span!(
            "job",
            queue = self.shared.name,
            id = %job.id,
            attempt,
            traceparent = job.trace.as_deref(),
        )
    }

    fn judge(&self, job: Taken<T>, attempt: u32, error: JobError) -> Ended<T> {
        match error.0 {
            Fault::Retry(error) => {
                // The error is dropped inside, too.
                let text = contained(move || chain(error.as_ref()));
                let text = text.unwrap_or_else(|| "an error whose message panics".to_owned());
                self.failed(job, attempt, text)
            }
            Fault::RetryAfter { wait, penalty } => Ended::Snooze(job, wait, penalty),
            Fault::Discard(reason) => {
                let (id, hold) = (job.id, job.hold);
                tracing::info!(queue = self.shared.name, job = %id, reason, "job discarded");
                contained(|| drop(job));
                Ended::Discarded(id, hold)
            }
        }
    }

    fn panicked(&self, job: Taken<T>, attempt: u32, panic: Box<dyn Any + Send>) -> Ended<T> {
        let text = panic
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("of unknown type");
        let text = format!("panic: {text}");
        contained(|| drop(panic));
        self.failed(job, attempt, text)
    }

    fn failed(&self, job: Taken<T>, attempt: u32, error: String) -> Ended<T> {
        let (queue, id) = (&self.shared.name, job.id);
        match self.shared.backoff.delay(attempt) {
            Some(wait) => {
                tracing::debug!(queue, job = %id, attempt, ?wait, error, "job failed, to be retried");
                Ended::Retry(job, wait, error)
            }
            None => {
                tracing::warn!(queue, job = %id, attempt, error, "job failed for good");
                Ended::Dead(job, error)
            }
        }
    }
}

/// A job in the hands of a handler: goes back into the queue if the worker's task is aborted.
struct Running<'a, T> {
    hands: &'a Hands<T>,
    job: Option<Taken<T>>,
}

impl<T> Drop for Running<'_, T> {
    fn drop(&mut self) {
        if let Some(job) = self.job.take() {
            self.hands.orders.released();
            self.hands.shared.backend.settle(Ended::Released(job));
        }
    }
}

/// A worker that the backend counts as there.
struct Joined<'a, T>(&'a Shared<T>);

impl<T> Drop for Joined<'_, T> {
    fn drop(&mut self) {
        self.0.backend.part();
    }
}

/// A worker that waits for a job: when its task is aborted or ends, it no longer counts as idle, and
/// if it was just being woken, another worker is woken instead.
struct Idle<'a, T> {
    shared: &'a Shared<T>,
    role: Role,
}

impl<T> Drop for Idle<'_, T> {
    fn drop(&mut self) {
        self.shared.backend.leave(self.role);
    }
}

/// The future, with a panic of it as an error.
async fn caught<F: Future>(future: F) -> Result<F::Output, Box<dyn Any + Send>> {
    let mut future = pin!(future);
    poll_fn(
        move |cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(poll) => poll.map(Ok),
            Err(panic) => Poll::Ready(Err(panic)),
        },
    )
    .await
}
