use std::sync::Arc;

use http::StatusCode;

use super::series::{Phase, Reason, RouteSeries};
use crate::clock::Instant;

/// One request that was counted as started, and that will be counted as ended exactly once: by
/// [`complete`](Self::complete) or [`fail`](Self::fail), else by being dropped.
///
/// Purposefully not `Clone`.
#[derive(Debug)]
pub(super) struct Guard {
    series: Arc<RouteSeries>,
    started: Instant,
    request_bytes: Option<u64>,
    status: StatusCode,
    phase: Phase,
    /// What a drop means now; `None` when the end was recorded already.
    on_drop: Option<Reason>,
}

impl Guard {
    /// Counts a request as started.
    pub(super) fn start(series: Arc<RouteSeries>, request_bytes: Option<u64>) -> Self {
        series.active().increment(1.0);
        Self {
            series,
            started: Instant::now(),
            request_bytes,
            status: StatusCode::OK,
            phase: Phase::Headers,
            on_drop: Some(Reason::Dropped),
        }
    }

    /// Runs the user's code: if it panics, the guard is dropped and knows why.
    pub(super) fn watch<T>(&mut self, run: impl FnOnce() -> T) -> T {
        self.on_drop = Some(Reason::Panic);
        let value = run();
        self.on_drop = Some(Reason::Dropped);
        value
    }

    /// Records that the headers are there.
    pub(super) fn headers(&mut self, status: StatusCode) {
        self.phase = Phase::Body;
        self.status = status;
        let series = self.series.status(status);
        series
            .request_duration
            .record(self.started.elapsed().as_secs_f64());
        if let Some(bytes) = self.request_bytes {
            series.request_body_size.record(bytes as f64);
        }
    }

    /// Records that the body was handed over to its end, `bytes` in all.
    pub(super) fn complete(mut self, bytes: u64) {
        let series = self.series.status(self.status);
        series
            .response_duration
            .record(self.started.elapsed().as_secs_f64());
        series.response_body_size.record(bytes as f64);
        self.on_drop = None;
    }

    /// Whether the user's code panicked under [`watch`](Self::watch).
    pub(super) fn panicked(&self) -> bool {
        self.on_drop == Some(Reason::Panic)
    }

    /// Records that the service or the body returned an error.
    pub(super) fn fail(mut self) {
        self.on_drop = Some(Reason::Error);
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(reason) = self.on_drop {
            self.series.aborted(self.phase, reason);
        }
        // Last, so that who sees nothing in flight sees everything counted.
        self.series.active().decrement(1.0);
    }
}
