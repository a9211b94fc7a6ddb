use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::{Method, Response};
use http_body::Body;
use pin_project_lite::pin_project;

use super::body::TimedBody;
use super::guard::Guard;

pin_project! {
    /// The future of [`Timing`](super::Timing): the inner future, not boxed, and the guard that
    /// counts the request.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready, the request is counted as aborted before its headers.
    pub struct ResponseFuture<F> {
        #[pin]
        inner: F,
        method: MethodKind,
        guard: Option<Guard>,
    }
}

/// What the method says about the response's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MethodKind {
    Head,
    Connect,
    Post,
    Other,
}

impl MethodKind {
    pub(super) fn of(method: &Method) -> Self {
        match *method {
            Method::HEAD => Self::Head,
            Method::CONNECT => Self::Connect,
            Method::POST => Self::Post,
            _ => Self::Other,
        }
    }
}

impl<F> ResponseFuture<F> {
    pub(super) fn new(inner: F, method: MethodKind, guard: Option<Guard>) -> Self {
        Self {
            inner,
            method,
            guard,
        }
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body,
{
    type Output = Result<Response<TimedBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Some(guard) = this.guard {
            guard.calling();
        }
        let polled = this.inner.poll(cx);
        if let Some(guard) = this.guard {
            guard.returned();
        }
        let result = ready!(polled);
        let guard = this.guard.take();
        Poll::Ready(match result {
            Ok(response) => Ok(TimedBody::wrap(response, *this.method, guard)),
            Err(error) => {
                if let Some(guard) = guard {
                    guard.fail();
                }
                Err(error)
            }
        })
    }
}

impl<F> fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
