use std::task::{Context, Poll};

use http::{Request, Response};
use http_body::Body;
use tower_service::Service;

use super::future::ResponseFuture;
use super::guard::Guard;
use super::table::Table;

/// A service whose requests are timed; made by [`TimingLayer`](super::TimingLayer).
#[derive(Debug, Clone)]
pub struct Timing<S> {
    inner: S,
    table: &'static Table,
}

impl<S> Timing<S> {
    pub(super) fn new(inner: S, table: &'static Table) -> Self {
        Self { inner, table }
    }
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for Timing<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    ReqBody: Body,
    ResBody: Body,
{
    type Response = Response<super::TimedBody<ResBody>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        let guard = Guard::start(self.table, &mut request);
        ResponseFuture::new(self.inner.call(request), guard)
    }
}
