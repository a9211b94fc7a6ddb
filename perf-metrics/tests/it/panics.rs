//! Whatever of the user's code panics, the request that it was for is counted and over.

use std::convert::Infallible;
use std::future::{Ready, pending, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::Empty;
use perf_metrics::{Monitor, TimingLayer};
use tower::{Layer, Service, service_fn};
use tracing_subscriber::layer::{Context as OfLayer, SubscriberExt};

use crate::exposition::Exposition;

/// A body that panics when it is asked for its length.
struct Odd;

impl Body for Odd {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        panic!("odd")
    }
}

/// Panics over each event.
struct Panics;

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Panics {
    fn on_event(&self, event: &tracing::Event<'_>, _: OfLayer<'_, S>) {
        panic!("{}", event.metadata().name())
    }
}

type Answer = Response<Empty<Bytes>>;

fn answer<B>(_: Request<B>) -> Ready<Result<Answer, Infallible>> {
    ready(Ok(Response::new(Empty::new())))
}

fn panics(run: impl FnOnce()) {
    assert!(catch_unwind(AssertUnwindSafe(run)).is_err());
}

/// One request was counted as aborted so, and nothing is in flight.
#[track_caller]
fn is_over(monitor: &Monitor, phase: &str, reason: &str) {
    assert!(monitor.running().is_empty(), "{:?}", monitor.running());
    let text = Exposition::parse(&monitor.render());
    assert_eq!(text.sum("http_server_active_requests"), 0.0);
    let aborted = text.samples("http_server_requests_aborted_total");
    let ends = aborted.map(|it| (&*it.labels["phase"], &*it.labels["reason"], it.value));
    assert_eq!(ends.collect::<Vec<_>>(), [(phase, reason, 1.0)]);
}

#[test]
fn a_body_of_a_request_that_panics_when_asked_for_its_length() {
    let monitor = Monitor::builder().build().unwrap();
    let mut service = monitor.layer().layer(service_fn(answer::<Odd>));
    panics(|| drop(service.call(Request::new(Odd))));
    is_over(&monitor, "headers", "panic");
}

#[test]
fn a_body_of_a_response_that_panics_when_asked_for_its_length() {
    let monitor = Monitor::builder().build().unwrap();
    let odd = |_: Request<Empty<Bytes>>| ready(Ok::<_, Infallible>(Response::new(Odd)));
    let mut service = monitor.layer().layer(service_fn(odd));
    panics(|| drop(service.call(Request::new(Empty::new())).now_or_never()));
    is_over(&monitor, "body", "panic");
}

#[test]
fn a_function_that_panics_over_the_label_of_a_request() {
    let monitor = Monitor::builder().build().unwrap();
    let layer = TimingLayer::with_recorder(monitor.recorder()).route_label(|_| panic!("no label"));
    let mut service = layer.layer(service_fn(answer::<Empty<Bytes>>));
    panics(|| drop(service.call(Request::new(Empty::new()))));
    assert!(layer.running().is_empty());
    is_over(&monitor, "headers", "panic");
}

#[test]
fn a_log_that_panics_over_a_slow_request_that_was_given_up() {
    let monitor = Monitor::builder();
    let monitor = monitor.slow_log(Duration::ZERO).build().unwrap();
    let hang = |_: Request<Empty<Bytes>>| pending::<Result<Answer, Infallible>>();
    let mut service = monitor.layer().layer(service_fn(hang));
    let future = service.call(Request::new(Empty::new()));
    let subscriber = tracing_subscriber::registry().with(Panics);
    tracing::subscriber::with_default(subscriber, || panics(|| drop(future)));
    is_over(&monitor, "headers", "dropped");
}

#[test]
fn a_log_that_panics_over_a_slow_request_that_was_answered() {
    let monitor = Monitor::builder();
    let monitor = monitor.slow_log(Duration::ZERO).build().unwrap();
    let mut service = monitor.layer().layer(service_fn(answer::<Empty<Bytes>>));
    let future = service.call(Request::new(Empty::new()));
    let subscriber = tracing_subscriber::registry().with(Panics);
    tracing::subscriber::with_default(subscriber, || panics(|| drop(future.now_or_never())));
    is_over(&monitor, "body", "panic");
}
