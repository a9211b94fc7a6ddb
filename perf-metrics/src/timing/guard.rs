use std::time::Duration;

use http::header::HeaderName;
use http::{HeaderMap, HeaderValue, StatusCode};

use super::grpc::GrpcStatus;
use super::running::Slot;
use super::series::{End, Reason};
use super::slow::{Slow, TraceId};
use super::table::{Found, Table};
use crate::clock::Instant;
use crate::shard::Shard;

const PROCESS_TIME: HeaderName = HeaderName::from_static("x-process-time");

/// One request that was counted as started, and that will be counted as ended exactly once: by
/// [`complete`](Self::complete) or [`fail`](Self::fail), else by being dropped.
///
/// Small, as it is moved with the futures and the body that hold it. Purposefully not `Clone`.
#[derive(Debug)]
pub(super) struct Guard {
    table: &'static Table,
    series: Found,
    started: Instant,
    request_bytes: Length,
    trace: Option<Box<TraceId>>,
    /// `None` where there was no slot to be had.
    slot: Option<&'static Slot>,
    status: StatusCode,
    end: End,
    grpc: GrpcStatus,
    /// What a drop means now; `None` when the end was recorded already.
    on_drop: Option<Reason>,
}

/// A length that may not be known, in the space of one that is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Length(u64);

impl Length {
    pub(super) const UNKNOWN: Self = Self(u64::MAX);

    pub(super) fn known(self) -> Option<u64> {
        (self.0 != u64::MAX).then_some(self.0)
    }
}

impl From<Option<u64>> for Length {
    fn from(length: Option<u64>) -> Self {
        length.map_or(Self::UNKNOWN, Self)
    }
}

impl Guard {
    /// Counts a request as started.
    pub(super) fn start(
        table: &'static Table,
        series: Found,
        request_bytes: Option<u64>,
        headers: &HeaderMap,
    ) -> Self {
        let shard = Shard::current();
        series.active().enter(shard);
        let started = Instant::now();
        let slot = table.running.enter(shard, series.id, started);
        if slot.is_none() {
            table.untracked();
        }
        if table.watchdog.due(started) {
            table.watch(started);
        }
        let trace = match table.settings.slow_log {
            Some(_) => TraceId::of(headers).map(Box::new),
            None => None,
        };
        Self {
            table,
            series,
            started,
            request_bytes: request_bytes.into(),
            trace,
            slot,
            status: StatusCode::OK,
            end: End::Headers,
            grpc: GrpcStatus::None,
            on_drop: Some(Reason::Dropped),
        }
    }

    /// Notes that the user's code is about to run: if it panics, the guard is dropped and knows
    /// why. Not a closure that runs it, as what goes in and out would be copied once more.
    #[inline]
    pub(super) fn calling(&mut self) {
        self.on_drop = Some(Reason::Panic);
    }

    /// Notes that the user's code has returned.
    #[inline]
    pub(super) fn returned(&mut self) {
        self.on_drop = Some(Reason::Dropped);
    }

    /// Records that the headers are there, and adds to them.
    pub(super) fn headers(&mut self, status: StatusCode, headers: &mut HeaderMap) {
        self.end = End::Body;
        self.status = status;
        let seconds = self.started.elapsed_seconds();
        let settings = &self.table.settings;
        if let Some(slot) = self.slot {
            slot.headers();
        }
        let shard = Shard::current();
        let series = self.series.status(status);
        series.request_duration.record(shard, seconds);
        if let Some(bytes) = self.request_bytes.known() {
            series.request_body_size.record(shard, bytes as f64);
        }
        if settings.process_time_header {
            add_process_time(headers, seconds);
        }
        if settings.slow_log.is_some() {
            self.slow(seconds, Some(status), None);
        }
    }

    /// Looks whether the response is gRPC's.
    pub(super) fn grpc_headers(&mut self, headers: &HeaderMap) {
        self.grpc = GrpcStatus::of_headers(headers);
    }

    /// Takes the status of gRPC from the trailers.
    pub(super) fn trailers(&mut self, trailers: &HeaderMap) {
        self.grpc.trailers(trailers);
    }

    /// Records that the body was handed over to its end, `bytes` in all.
    pub(super) fn complete(mut self, bytes: u64) {
        let seconds = self.started.elapsed_seconds();
        let shard = Shard::current();
        let series = self.series.status(self.status);
        series.response_duration.record(shard, seconds);
        series.response_body_size.record(shard, bytes as f64);
        if let Some(status) = self.grpc.index() {
            self.series.grpc(status);
        }
        self.on_drop = None;
        self.leave(shard);
    }

    /// Whether the user's code panicked after [`calling`](Self::calling).
    pub(super) fn panicked(&self) -> bool {
        self.on_drop == Some(Reason::Panic)
    }

    /// Records that the service or the body returned an error.
    pub(super) fn fail(mut self) {
        self.on_drop = Some(Reason::Error);
    }

    /// Takes the request out of flight. Last, so that who sees nothing in flight sees everything
    /// counted.
    fn leave(&self, shard: Shard) {
        if let Some(slot) = self.slot {
            slot.leave();
        }
        self.series.active().leave(shard);
    }

    /// Counts and logs the request if it took too long.
    fn slow(&self, seconds: f64, status: Option<StatusCode>, reason: Option<Reason>) {
        let time = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
        if self
            .table
            .settings
            .slow_log
            .is_none_or(|limit| time < limit)
        {
            return;
        }
        self.series.slow();
        self.table.slow_log.write(&Slow {
            method: self.series.id.method_name(),
            route: &self.series.route,
            status,
            reason: reason.map(Reason::name),
            time,
            trace: self.trace.as_deref().copied(),
        });
    }
}

#[cold]
fn add_process_time(headers: &mut HeaderMap, seconds: f64) {
    let text = format!("{seconds:.6}");
    // Digits and a point are a valid value.
    if let Ok(value) = HeaderValue::try_from(text) {
        headers.insert(PROCESS_TIME, value);
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let Some(reason) = self.on_drop else {
            return;
        };
        self.series.aborted(self.end, reason);
        if self.end == End::Headers {
            self.slow(self.started.elapsed_seconds(), None, Some(reason));
        }
        self.leave(Shard::current());
    }
}
