//! A worker's handler as a tower service, so that tower's layers go around it.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tower_service::Service;

use crate::job_error::Fault;
use crate::{JobContext, JobError};

/// The request that a worker makes of its service: run this job. The answer is `()`.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Run<T> {
    /// The job.
    pub job: T,
    /// What there is to know about it.
    pub context: JobContext,
}

impl<T> Run<T> {
    pub(super) const fn new(job: T, context: JobContext) -> Self {
        Self { job, context }
    }
}

/// A handler as a service; from [`Queue::workers`](crate::Queue::workers).
#[derive(Clone)]
pub struct Handler<H> {
    handler: H,
}

impl<H> Handler<H> {
    pub(crate) const fn new(handler: H) -> Self {
        Self { handler }
    }
}

impl<H> fmt::Debug for Handler<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handler").finish_non_exhaustive()
    }
}

impl<T, H, F> Service<Run<T>> for Handler<H>
where
    H: Fn(T, JobContext) -> F,
    F: Future<Output = Result<(), JobError>>,
{
    type Response = ();
    type Error = Failed;
    type Future = Running<F>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, run: Run<T>) -> Running<F> {
        Running {
            handler: (self.handler)(run.job, run.context),
        }
    }
}

pin_project! {
    /// A handler at its job.
    pub struct Running<F> {
        #[pin]
        handler: F,
    }
}

impl<F> fmt::Debug for Running<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").finish_non_exhaustive()
    }
}

impl<F: Future<Output = Result<(), JobError>>> Future for Running<F> {
    type Output = Result<(), Failed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project()
            .handler
            .poll(cx)
            .map(|done| done.map_err(Failed))
    }
}

/// A [`JobError`] as an error, for layers that want one. What comes out of the layers as this is the
/// handler's own verdict; any other error of theirs, such as a timeout, is a failed attempt.
pub struct Failed(JobError);

impl fmt::Debug for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for Failed {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.0.0 {
            Fault::Retry(error) => Some(error.as_ref()),
            _ => None,
        }
    }
}

/// The verdict in an error that came out of the layers.
pub(super) fn verdict(error: Box<dyn Error + Send + Sync>) -> JobError {
    match error.downcast::<Failed>() {
        Ok(failed) => failed.0,
        Err(error) => JobError::retry(error),
    }
}
