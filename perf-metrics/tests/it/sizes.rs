//! What counts as the size of a request's body.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{Empty, Limited, StreamBody};
use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use perf_metrics::{Monitor, TimingLayer};
use tower::{Layer, ServiceExt, service_fn};

use crate::recorders::values;

#[tokio::test]
async fn a_request_body_of_unknown_length_is_not_measured() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let service = TimingLayer::with_recorder(recorder).layer(service_fn(|_| async {
        Ok::<_, std::io::Error>(Response::new(Empty::<Bytes>::new()))
    }));
    // At most so long, which is not to say how long.
    let chunks = StreamBody::new(stream::empty::<Result<Frame<Bytes>, std::io::Error>>());
    let body = Limited::new(chunks, 1_000_000);
    service.oneshot(Request::new(body)).await.unwrap();
    let sizes = values(&snapshotter, "http_server_request_body_size_bytes");
    assert!(
        sizes
            .iter()
            .all(|(_, v)| *v == DebugValue::Histogram(vec![])),
        "{sizes:?}"
    );
}

/// A body that declares a length, and has nothing.
struct Declared(u64);

impl Body for Declared {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        Poll::Ready(None)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0)
    }
}

#[tokio::test]
async fn a_length_that_nobody_sends_ruins_no_sum() {
    let monitor = Monitor::builder().build().unwrap();
    let layer = TimingLayer::with_recorder(monitor.recorder());
    let mut sums = Vec::new();
    for length in [
        1 << 40,
        (1 << 40) + 1,
        (1 << 63) - 1,
        1 << 63,
        u64::MAX - 2,
        7,
    ] {
        let service = layer.layer(service_fn(|_: Request<Declared>| async {
            Ok::<_, std::io::Error>(Response::new(Empty::<Bytes>::new()))
        }));
        service
            .oneshot(Request::new(Declared(length)))
            .await
            .unwrap();
        let text = monitor.render();
        let sum = text
            .lines()
            .find(|line| line.starts_with("http_server_request_body_size_bytes_sum"));
        sums.push(sum.and_then(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()));
    }
    let large = Some((1_u64 << 40) as f64);
    assert_eq!(sums[..5], [large; 5]);
    assert_eq!(sums[5], large.map(|sum| sum + 7.0));
}
