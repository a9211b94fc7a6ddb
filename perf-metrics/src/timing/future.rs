use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::Response;
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
        guard: Option<Guard>,
    }

    impl<F> PinnedDrop for ResponseFuture<F> {
        fn drop(this: Pin<&mut Self>) {
            if let Some(guard) = this.project().guard {
                guard.called();
            }
        }
    }
}

impl<F> ResponseFuture<F> {
    #[inline]
    pub(super) fn new(inner: F, guard: Option<Guard>) -> Self {
        Self { inner, guard }
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body,
{
    type Output = Result<Response<TimedBody<B>>, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Some(guard) = this.guard {
            guard.calling();
        }
        let mut polled = this.inner.poll(cx);
        if let Some(guard) = this.guard {
            guard.returned();
            let ended = match &mut polled {
                Poll::Pending => false,
                Poll::Ready(Ok(response)) => guard.headers(response),
                Poll::Ready(Err(_)) => guard.fail(),
            };
            if ended {
                *this.guard = None;
            }
        }
        polled.map_ok(|response| response.map(|inner| TimedBody::new(inner, this.guard.take())))
    }
}

impl<F> fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
