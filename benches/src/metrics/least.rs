//! What a layer cannot do without to time a request to its headers and to the end of its body: the
//! route's name, a future and a body that hold a guard of three words, three readings of the clock,
//! a count of what runs, and four values recorded, each in a cell and a sum. For one thread, one
//! route and one status; nothing of panics, of lengths, of limits.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};

use axum::body::HttpBody;
use axum::extract::MatchedPath;
use axum::http::{Request, Response};
use http_body::{Frame, SizeHint};
use pin_project_lite::pin_project;
use quanta::Clock;
use tower::{Layer, Service};

/// The layer that does so.
#[derive(Debug, Clone)]
pub(super) struct Least(&'static Cells);

#[derive(Debug)]
struct Cells {
    clock: Clock,
    counts: [AtomicU64; 8],
    sums: [AtomicU64; 8],
    running: AtomicU64,
    dropped: AtomicU64,
}

fn add(cell: &AtomicU64, n: u64) {
    cell.store(cell.load(Relaxed).wrapping_add(n), Relaxed);
}

impl Cells {
    /// Each histogram has two cells.
    fn record(&self, histogram: usize, value: u64) {
        let cell = 2 * histogram + usize::from(value > 1_000_000_000);
        add(&self.counts[cell % 8], 1);
        add(&self.sums[histogram % 8], value);
    }
}

impl Least {
    /// Lives for ever, as the monitor's layer.
    pub(super) fn new() -> Self {
        Self(Box::leak(Box::new(Cells {
            clock: Clock::new(),
            counts: Default::default(),
            sums: Default::default(),
            running: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        })))
    }
}

impl<S> Layer<S> for Least {
    type Service = LeastService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        LeastService {
            inner,
            cells: self.0,
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct LeastService<S> {
    inner: S,
    cells: &'static Cells,
}

#[derive(Debug)]
struct Guard {
    cells: &'static Cells,
    started: u64,
    ended: bool,
}

impl Guard {
    fn elapsed(&self) -> u64 {
        self.cells.clock.raw().saturating_sub(self.started)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if !self.ended {
            add(&self.cells.dropped, 1);
        }
        add(&self.cells.running, 1_u64.wrapping_neg());
    }
}

pin_project! {
    pub(super) struct LeastFuture<F> {
        #[pin]
        inner: F,
        guard: Option<Guard>,
    }
}

pin_project! {
    pub(super) struct LeastBody<B> {
        #[pin]
        inner: B,
        guard: Option<Guard>,
    }
}

impl<S, A, B> Service<Request<A>> for LeastService<S>
where
    S: Service<Request<A>, Response = Response<B>>,
{
    type Response = Response<LeastBody<B>>;
    type Error = S::Error;
    type Future = LeastFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, request: Request<A>) -> Self::Future {
        let route = request.extensions().get::<MatchedPath>();
        std::hint::black_box(route.map(|route| route.as_str().len()));
        add(&self.cells.running, 1);
        let guard = Guard {
            cells: self.cells,
            started: self.cells.clock.raw(),
            ended: false,
        };
        LeastFuture {
            inner: self.inner.call(request),
            guard: Some(guard),
        }
    }
}

impl<F, B, E> Future for LeastFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<LeastBody<B>>, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let polled = this.inner.poll(cx);
        if polled.is_ready()
            && let Some(guard) = this.guard
        {
            guard.cells.record(0, guard.elapsed());
            guard.cells.record(1, 0);
        }
        polled.map_ok(|response| {
            response.map(|inner| LeastBody {
                inner,
                guard: this.guard.take(),
            })
        })
    }
}

impl<B: HttpBody> HttpBody for LeastBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    #[inline]
    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut this = self.project();
        let polled = this.inner.as_mut().poll_frame(cx);
        if polled.is_ready()
            && this.inner.is_end_stream()
            && let Some(mut guard) = this.guard.take()
        {
            guard.cells.record(2, guard.elapsed());
            guard.cells.record(3, 5);
            guard.ended = true;
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
