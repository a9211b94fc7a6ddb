use std::any::Any;
use std::error::Error;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::time::sleep_until;
use tower_service::Service;
use tracing::{Level, Span};

use super::Run;
use super::group::Orders;
use super::service::verdict;
use crate::backend::{Ended, Role, Started, Taken};
use crate::job_error::{Fault, chain};
use crate::panics::{contained, log};
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
        let mut running = Running {
            hands: self,
            job: None,
        };
        // Dropped before the job, if this task is aborted.
        let mut call = pin!(None);
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
            self.shared
                .backend
                .claim(&mut ended, &mut Role::Working, &mut running.job);
            if running.job.is_none() && !self.wait(&mut running.job).await {
                return;
            }
            self.work(service, &mut running, call.as_mut(), &mut ended)
                .await;
        }
    }

    fn settle(&self, ended: Option<Ended<T>>) {
        if let Some(ended) = ended {
            self.shared.backend.settle(ended);
        }
    }

    /// Waits for a job; false if the worker must end.
    async fn wait(&self, job: &mut Option<Started<T>>) -> bool {
        let mut idle = Idle {
            shared: &self.shared,
            role: Role::Registered,
        };
        loop {
            // Registered before asking for a job, so that no call to wake up falls in between.
            let mut woken = pin!(self.shared.signals.workers.notified());
            woken.as_mut().enable();
            if self.orders.dismissed() {
                return false;
            }
            self.shared.backend.claim(&mut None, &mut idle.role, job);
            if job.is_some() {
                return true;
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

    /// Runs the handler; its first poll follows the grant at once. Always says how it ended.
    async fn work<S>(
        &self,
        service: &mut S,
        running: &mut Running<'_, T>,
        call: Pin<&mut Option<S::Future>>,
        ended: &mut Option<Ended<T>>,
    ) where
        S: Service<Run<T>, Response = ()> + Send,
        S::Error: Into<Box<dyn Error + Send + Sync>>,
        S::Future: Send,
    {
        let Some(job) = running.job.as_mut() else {
            return;
        };
        let attempt = job.attempt;
        let mut call = Call {
            future: call,
            span: if spans() {
                self.span(&job.taken, attempt)
            } else {
                Span::none()
            },
        };
        if let Some(first) = job.first.take() {
            first.await;
        }
        // The job stays where it is, and so does the future: it is made, polled and dropped in there, so
        // that all its panics are caught.
        let result = poll_fn(|cx| {
            let Call { future, span } = &mut call;
            let mut poll = || {
                let poll = || poll(service, job, future.as_mut(), cx);
                catch_unwind(AssertUnwindSafe(poll))
            };
            let polled = if span.is_none() {
                poll()
            } else {
                // A subscriber that panics changes nothing of what the handler says; and its panic must not meet
                // one that goes through the span, which ends the process.
                let mut polled = None;
                contained(|| span.in_scope(|| polled = Some(poll())));
                polled.unwrap_or_else(poll)
            };
            match polled {
                Ok(poll) => poll.map(Ok),
                Err(panic) => Poll::Ready(Err(panic)),
            }
        })
        .await;
        if call.is_over() {
            // To drop it does nothing, by a call.
            std::mem::forget(call);
        } else {
            drop(call);
        }
        self.orders.completed();
        let error = match result {
            Ok(Ok(())) => {
                *ended = Some(Ended::Completed(job.taken.id, job.taken.hold));
                contained(|| running.job = None);
                return;
            }
            // The conversion is the user's as well.
            Ok(Err(error)) => Ok(contained(|| verdict((*error).into()))),
            Err(panic) => Err(panic),
        };
        let Some(job) = running.take() else {
            return;
        };
        *ended = Some(match error {
            Ok(error) => self.judge(job, attempt, error),
            Err(panic) => self.panicked(job, attempt, panic),
        });
    }

    /// Around the handler. A job whose span the subscriber fails to make goes without.
    fn span(&self, job: &Taken<T>, attempt: u32) -> Span {
        let span = || {
            tracing::info_span!(
                "job",
                queue = self.shared.name,
                id = %job.id,
                attempt,
                traceparent = job.trace.as_deref(),
            )
        };
        contained(span).unwrap_or_else(Span::none)
    }

    /// `None` for an error that could not be read.
    fn judge(&self, job: Box<Taken<T>>, attempt: u32, error: Option<JobError>) -> Ended<T> {
        let Some(error) = error else {
            return self.failed(job, attempt, "an error whose conversion panics".to_owned());
        };
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
                log!(info, queue = self.shared.name, job = %id, reason, "job discarded");
                contained(|| drop(job));
                Ended::Discarded(id, hold)
            }
        }
    }

    fn panicked(&self, job: Box<Taken<T>>, attempt: u32, panic: Box<dyn Any + Send>) -> Ended<T> {
        let text = panic
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("of unknown type");
        let text = format!("panic: {text}");
        contained(|| drop(panic));
        self.failed(job, attempt, text)
    }

    fn failed(&self, job: Box<Taken<T>>, attempt: u32, error: String) -> Ended<T> {
        let (queue, id) = (&self.shared.name, job.id);
        match self.shared.backoff.delay(attempt) {
            Some(wait) => {
                log!(debug, queue, job = %id, attempt, ?wait, error, "job failed, to be retried");
                Ended::Retry(job, wait, error)
            }
            None => {
                log!(warn, queue, job = %id, attempt, error, "job failed for good");
                Ended::Dead(job, error)
            }
        }
    }
}

/// The future of a handler: dropped within the job's span also where the worker's task is aborted.
struct Call<'a, F> {
    future: Pin<&'a mut Option<F>>,
    span: Span,
}

impl<F> Call<'_, F> {
    /// Whether there is nothing to be dropped, as in most cases.
    #[inline]
    fn is_over(&self) -> bool {
        self.future.is_none() && self.span.is_none()
    }
}

impl<F> Drop for Call<'_, F> {
    #[inline]
    fn drop(&mut self) {
        if self.future.is_some() {
            contained(|| self.span.in_scope(|| self.future.set(None)));
            // Where the subscriber did not let it come to that.
            contained(|| self.future.set(None));
        }
        if !self.span.is_none() {
            // The subscriber is told of its end.
            contained(|| self.span = Span::none());
        }
    }
}

/// A job in the hands of a handler: goes back into the queue if the worker's task is aborted.
struct Running<'a, T> {
    hands: &'a Hands<T>,
    job: Option<Started<T>>,
}

impl<T> Running<'_, T> {
    /// Out of the handler's hands. On the heap, as a failed job takes many turns from here on.
    fn take(&mut self) -> Option<Box<Taken<T>>> {
        self.job.take().map(|job| Box::new(job.taken))
    }
}

impl<T> Drop for Running<'_, T> {
    fn drop(&mut self) {
        if let Some(job) = self.take() {
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

/// Whether anybody looks at spans. Else jobs have none, not even one that is disabled: that would be a
/// tenth of a job's cost.
fn spans() -> bool {
    contained(|| tracing::span_enabled!(Level::INFO)).unwrap_or(false)
}

/// Calls the service with a copy of the job once it is ready, and then polls what it gave. (A job
/// that is borrowed for good would have to be `Sync`.) An error goes on the heap, as what each job
/// returns goes through some hands.
fn poll<T, S>(
    service: &mut S,
    job: &mut Started<T>,
    mut call: Pin<&mut Option<S::Future>>,
    cx: &mut Context<'_>,
) -> Poll<Result<(), Box<S::Error>>>
where
    T: Clone,
    S: Service<Run<T>, Response = ()>,
{
    loop {
        if let Some(future) = call.as_mut().as_pin_mut() {
            let result = ready!(future.poll(cx));
            call.set(None);
            return Poll::Ready(result.map_err(Box::new));
        }
        ready!(service.poll_ready(cx)).map_err(Box::new)?;
        let cx = JobContext {
            id: job.taken.id,
            attempt: job.attempt,
            waited: job.waited,
            age: job.age,
            trace: job.taken.trace.clone(),
        };
        call.set(Some(service.call(Run::new(job.taken.job.clone(), cx))));
    }
}
