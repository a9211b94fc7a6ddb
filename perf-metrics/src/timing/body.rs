use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Buf;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::guard::Guard;

pin_project! {
    /// A response body that tells when it came to its end.
    ///
    /// Dropped before that, the request is counted as aborted in its body.
    pub struct TimedBody<B> {
        #[pin]
        inner: B,
        guard: Option<Guard>,
    }

    impl<B> PinnedDrop for TimedBody<B> {
        fn drop(this: Pin<&mut Self>) {
            // A server that announced the length stops polling after the last byte, and need not
            // ask for the end of the stream.
            if let Some(guard) = this.project().guard
                && guard.has_sent_all()
            {
                guard.complete();
            }
        }
    }
}

impl<B> TimedBody<B> {
    #[inline]
    pub(super) fn new(inner: B, guard: Option<Guard>) -> Self {
        Self { inner, guard }
    }
}

impl<B: Body> Body for TimedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    #[inline]
    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let mut this = self.project();
        let Some(guard) = this.guard.as_mut().filter(|guard| !guard.has_ended()) else {
            return this.inner.poll_frame(cx);
        };
        guard.calling();
        let polled = this.inner.as_mut().poll_frame(cx);
        let mut ended = polled.is_ready() && this.inner.is_end_stream();
        guard.returned();
        match &polled {
            Poll::Pending => return polled,
            Poll::Ready(Some(Err(_))) => {
                guard.fail();
                *this.guard = None;
                return polled;
            }
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    guard.sent(data.remaining());
                } else if let Some(trailers) = frame.trailers_ref() {
                    // Nothing follows trailers, and servers do not ask for it.
                    guard.trailers(trailers);
                    ended = true;
                }
            }
            Poll::Ready(None) => ended = true,
        }
        if ended {
            // It stays until the body is dropped: to drop it here would be a step more.
            guard.complete();
        }
        polled
    }

    #[inline]
    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    #[inline]
    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<B> fmt::Debug for TimedBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimedBody").finish_non_exhaustive()
    }
}
