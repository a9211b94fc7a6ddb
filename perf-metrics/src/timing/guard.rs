use std::sync::Arc;
use std::time::Duration;

use http::header::HeaderName;
use http::{HeaderMap, HeaderValue, StatusCode};

use super::running::Ticket;
use super::series::{End, Reason, RouteSeries};
use super::share::Share;
use super::slow::{Slow, TraceId};
use super::table::Found;
use crate::clock::Instant;
use crate::shard::Shard;

const PROCESS_TIME: HeaderName = HeaderName::from_static("x-process-time");

/// One request that was counted as started, and that will be counted as ended exactly once: by
/// [`complete`](Self::complete) or [`fail`](Self::fail), else by being dropped.
///
/// Purposefully not `Clone`.
#[derive(Debug)]
pub(super) struct Guard {
    share: Arc<Share>,
    found: Found,
    ticket: Ticket,
    started: Instant,
    request_bytes: Option<u64>,
    trace: Option<TraceId>,
    status: StatusCode,
    end: End,
    /// What a drop means now; `None` when the end was recorded already.
    on_drop: Option<Reason>,
}

impl Guard {
    /// Counts a request as started.
    pub(super) fn start(
        share: Arc<Share>,
        shard: Shard,
        found: Found,
        request_bytes: Option<u64>,
        headers: &HeaderMap,
    ) -> Self {
        let table = share.table();
        if let Some(series) = series(&share, &found) {
            series.active().enter(shard);
        }
        let started = Instant::now();
        let ticket = table.running.enter(shard, found.id, started);
        if !ticket.taken() {
            table.untracked();
        }
        if table.watchdog.due(started) {
            table.watch(started);
        }
        let slow_log = table.settings.slow_log;
        let trace = slow_log.and_then(|_| TraceId::of(headers));
        Self {
            share,
            found,
            ticket,
            started,
            request_bytes,
            trace,
            status: StatusCode::OK,
            end: End::Headers,
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

    /// Records that the headers are there, and adds to them.
    pub(super) fn headers(&mut self, status: StatusCode, headers: &mut HeaderMap) {
        self.end = End::Body;
        self.status = status;
        let nanos = self.started.elapsed_nanos();
        let table = self.share.table();
        table.running.headers(self.ticket);
        if let Some(series) = series(&self.share, &self.found) {
            let shard = Shard::current();
            let series = series.status(status);
            series.request_duration.record(shard, seconds(nanos));
            if let Some(bytes) = self.request_bytes {
                series.request_body_size.record(shard, bytes as f64);
            }
        }
        if table.settings.process_time_header {
            let text = format!("{:.6}", seconds(nanos));
            // Digits and a point are a valid value.
            if let Ok(value) = HeaderValue::try_from(text) {
                headers.insert(PROCESS_TIME, value);
            }
        }
        self.slow(nanos, Some(status), None);
    }

    /// Records that the body was handed over to its end, `bytes` in all.
    pub(super) fn complete(mut self, bytes: u64) {
        let nanos = self.started.elapsed_nanos();
        if let Some(series) = series(&self.share, &self.found) {
            let shard = Shard::current();
            let series = series.status(self.status);
            series.response_duration.record(shard, seconds(nanos));
            series.response_body_size.record(shard, bytes as f64);
        }
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

    /// Counts and logs the request if it took too long.
    fn slow(&self, nanos: u64, status: Option<StatusCode>, reason: Option<Reason>) {
        let table = self.share.table();
        let Some(limit) = table.settings.slow_log else {
            return;
        };
        let time = Duration::from_nanos(nanos);
        if time < limit {
            return;
        }
        if let Some(series) = series(&self.share, &self.found) {
            series.slow();
        }
        table.slow_log.write(&Slow {
            method: self.found.id.method_name(),
            route: table.route_name(self.found.id),
            status,
            reason: reason.map(Reason::name),
            time,
            trace: self.trace,
        });
    }
}

/// The series of the request, which are there unless its route is gone, which it never is.
fn series<'a>(share: &'a Share, found: &'a Found) -> Option<&'a RouteSeries> {
    match &found.unkept {
        Some(series) => Some(series),
        None => share.table().series(found.id),
    }
}

/// As [`Duration::as_secs_f64`].
fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

impl Drop for Guard {
    fn drop(&mut self) {
        let series = series(&self.share, &self.found);
        if let Some(reason) = self.on_drop {
            if let Some(series) = series {
                series.aborted(self.end, reason);
            }
            if self.end == End::Headers {
                self.slow(self.started.elapsed_nanos(), None, Some(reason));
            }
        }
        self.share.table().running.leave(self.ticket);
        // Last, so that who sees nothing in flight sees everything counted.
        if let Some(series) = series {
            series.active().leave(Shard::current());
        }
    }
}
