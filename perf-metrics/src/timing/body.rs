use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Buf;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::future::MethodKind;
use super::guard::{Guard, Length};

pin_project! {
    /// A response body that tells when it came to its end.
    ///
    /// Dropped before that, the request is counted as aborted in its body.
    pub struct TimedBody<B> {
        #[pin]
        inner: B,
        sent: u64,
        length: Length,
        guard: Option<Guard>,
    }

    impl<B> PinnedDrop for TimedBody<B> {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            // A server that announced the length stops polling after the last byte, and need not
            // ask for the end of the stream.
            if this.length.known().is_some_and(|length| *this.sent >= length)
                && let Some(guard) = this.guard.take()
                && !guard.panicked()
            {
                guard.complete(*this.sent);
            }
        }
    }
}

impl<B: Body> TimedBody<B> {
    /// Records the headers and wraps the body. A response that has no body ends here.
    pub(super) fn wrap(
        mut response: Response<B>,
        method: MethodKind,
        guard: Option<Guard>,
    ) -> Response<Self> {
        let mut length = Length::UNKNOWN;
        let guard = guard.and_then(|mut guard| {
            let status = response.status();
            guard.headers(status, response.headers_mut());
            // Calls of gRPC are POST requests; others are spared the search.
            if method == MethodKind::Post {
                guard.grpc_headers(response.headers());
            }
            guard.calling();
            length = length_of(response.body(), response.headers()).into();
            let ended = response.body().is_end_stream();
            guard.returned();
            if ended || has_no_body(method, status) {
                guard.complete(0);
                return None;
            }
            Some(guard)
        });
        response.map(|inner| Self {
            inner,
            sent: 0,
            length,
            guard,
        })
    }
}

/// Whether HTTP sends no body with such a response, whatever the service put there (RFC 9110,
/// section 6.4.1).
fn has_no_body(method: MethodKind, status: StatusCode) -> bool {
    method == MethodKind::Head
        || status.is_informational()
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED
        || (method == MethodKind::Connect && status.is_success())
}

/// The length of the body, if it is known before it is sent.
fn length_of<B: Body>(body: &B, headers: &HeaderMap) -> Option<u64> {
    body.size_hint().exact().or_else(|| {
        let value = headers.get(CONTENT_LENGTH)?;
        value.to_str().ok()?.parse().ok()
    })
}

impl<B: Body> Body for TimedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let mut this = self.project();
        let Some(guard) = this.guard.as_mut() else {
            return this.inner.poll_frame(cx);
        };
        guard.calling();
        let polled = this.inner.as_mut().poll_frame(cx);
        let mut ended = polled.is_ready() && this.inner.is_end_stream();
        guard.returned();
        match &polled {
            Poll::Pending => return polled,
            Poll::Ready(Some(Err(_))) => {
                if let Some(guard) = this.guard.take() {
                    guard.fail();
                }
                return polled;
            }
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    *this.sent += data.remaining() as u64;
                } else if let Some(trailers) = frame.trailers_ref() {
                    // Nothing follows trailers, and servers do not ask for it.
                    guard.trailers(trailers);
                    ended = true;
                }
            }
            Poll::Ready(None) => {}
        }
        if (ended || matches!(polled, Poll::Ready(None)))
            && let Some(guard) = this.guard.take()
        {
            guard.complete(*this.sent);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<B> fmt::Debug for TimedBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimedBody")
            .field("sent", &self.sent)
            .field("length", &self.length.known())
            .finish_non_exhaustive()
    }
}
