use std::time::Duration;

use http::header::HeaderName;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body::Body;

use super::grpc::GrpcStatus;
use super::running::Slot;
use super::series::{End, Reason};
use super::slow::{Slow, TraceId};
use super::table::Found;
use crate::clock::Instant;
use crate::shard::Shard;

const PROCESS_TIME: HeaderName = HeaderName::from_static("x-process-time");

/// One request that was counted as started, and that will be counted as ended exactly once: by
/// [`complete`](Self::complete) or [`fail`](Self::fail), else by being dropped.
///
/// Small, as it is moved with the futures and the body that hold it. Purposefully not `Clone`.
pub(super) struct Guard {
    series: Found,
    started: Instant,
    /// The length of the request's body; once there are headers, of the response's.
    length: Length,
    /// `None` where there was no slot to be had.
    slot: Option<&'static Slot>,
    /// Once there are headers.
    status: Option<StatusCode>,
    grpc: GrpcStatus,
    method: MethodKind,
    /// What a drop means now; `None` when the end was recorded already.
    on_drop: Option<Reason>,
}

/// A length that may not be known, in the space of one that is.
#[derive(Debug, Clone, Copy)]
struct Length(u64);

impl Length {
    const UNKNOWN: u64 = u64::MAX;

    #[inline]
    fn known(self) -> Option<u64> {
        (self.0 != Self::UNKNOWN).then_some(self.0)
    }
}

impl From<Option<u64>> for Length {
    #[inline]
    fn from(length: Option<u64>) -> Self {
        Self(length.unwrap_or(Self::UNKNOWN))
    }
}

/// What the method says about the response's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MethodKind {
    Head,
    Connect,
    Post,
    Other,
}

impl MethodKind {
    #[inline]
    fn of(method: &Method) -> Self {
        match *method {
            Method::HEAD => Self::Head,
            Method::CONNECT => Self::Connect,
            Method::POST => Self::Post,
            _ => Self::Other,
        }
    }
}

impl Guard {
    /// Counts a request as started.
    #[inline]
    pub(super) fn start<B: Body>(series: Found, request: &Request<B>) -> Self {
        let method = MethodKind::of(request.method());
        // The declared length: to count the bytes as they come would change the type of the
        // request's body for the inner service.
        let length = request.body().size_hint().exact().into();
        let shard = Shard::current();
        series.active().enter(shard);
        let started = Instant::now();
        let table = series.table;
        let slot = table.running.enter(shard, series.id, started);
        if table.attentive || slot.is_none() {
            look(&series, started, slot, request.headers());
        }
        Self {
            series,
            started,
            length,
            slot,
            status: None,
            grpc: GrpcStatus::None,
            method,
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

    /// Records that the headers are there, and adds to them. Whether that was all, as HTTP sends no
    /// body with such a response, whatever the service put there (RFC 9110, section 6.4.1).
    #[inline]
    pub(super) fn headers<B>(&mut self, response: &mut Response<B>) -> bool {
        let status = response.status();
        self.status = Some(status);
        let seconds = self.started.elapsed_seconds();
        if let Some(slot) = self.slot {
            slot.headers();
        }
        let shard = Shard::current();
        let series = self.series.status(status);
        series.request_duration.record(shard, seconds);
        if let Some(bytes) = self.length.known() {
            series.request_body_size.record(shard, bytes as f64);
        }
        if self.series.table.attentive {
            self.look_at(response.headers_mut(), seconds);
        }
        // Calls of gRPC are POST requests; others are spared the search.
        if self.method == MethodKind::Post {
            self.grpc = GrpcStatus::of_headers(response.headers());
        }
        status.is_informational()
            || status == StatusCode::NO_CONTENT
            || status == StatusCode::NOT_MODIFIED
            || match self.method {
                MethodKind::Head => true,
                MethodKind::Connect => status.is_success(),
                MethodKind::Post | MethodKind::Other => false,
            }
    }

    /// Sets the length of the response's body, if it is known before that is sent.
    #[inline]
    pub(super) fn set_length(&mut self, length: Option<u64>) {
        self.length = length.into();
    }

    /// Takes the status of gRPC from the trailers.
    pub(super) fn trailers(&mut self, trailers: &HeaderMap) {
        self.grpc.trailers(trailers);
    }

    /// Whether a server that announced the length of the body has `sent` all of it.
    #[inline]
    pub(super) fn has_sent_all(&self, sent: u64) -> bool {
        self.length.known().is_some_and(|length| sent >= length)
            && self.on_drop == Some(Reason::Dropped)
    }

    /// Records that the body was handed over to its end, `bytes` in all.
    #[inline]
    pub(super) fn complete(&mut self, bytes: u64) {
        let seconds = self.started.elapsed_seconds();
        let shard = Shard::current();
        let series = self.series.status(self.status.unwrap_or_default());
        series.response_duration.record(shard, seconds);
        series.response_body_size.record(shard, bytes as f64);
        if let Some(status) = self.grpc.index() {
            self.series.grpc(status);
        }
        self.on_drop = None;
        self.leave(shard);
    }

    /// Records that the service or the body returned an error.
    pub(super) fn fail(&mut self) {
        self.on_drop = Some(Reason::Error);
    }

    /// Takes the request out of flight. Last, so that who sees nothing in flight sees everything
    /// counted.
    #[inline]
    fn leave(&self, shard: Shard) {
        if let Some(slot) = self.slot {
            slot.leave();
        }
        self.series.active().leave(shard);
    }

    /// Does what the settings ask for at the headers.
    #[cold]
    fn look_at(&self, headers: &mut HeaderMap, seconds: f64) {
        if self.series.table.settings.process_time_header {
            let text = format!("{seconds:.6}");
            // Digits and a point are a valid value.
            if let Ok(value) = HeaderValue::try_from(text) {
                headers.insert(PROCESS_TIME, value);
            }
        }
        self.slow(seconds, self.status, None);
    }

    /// Counts and logs the request if it took too long.
    fn slow(&self, seconds: f64, status: Option<StatusCode>, reason: Option<Reason>) {
        let time = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
        let table = self.series.table;
        if table.settings.slow_log.is_none_or(|limit| time < limit) {
            return;
        }
        self.series.slow();
        table.slow_log.write(&Slow {
            method: self.series.id.method_name(),
            route: &self.series.route,
            status,
            reason: reason.map(Reason::name),
            time,
            trace: self.slot.and_then(Slot::trace),
        });
    }

    #[cold]
    fn aborted(&self, reason: Reason) {
        let end = if self.status.is_some() {
            End::Body
        } else {
            End::Headers
        };
        self.series.aborted(end, reason);
        if end == End::Headers {
            self.slow(self.started.elapsed_seconds(), None, Some(reason));
        }
        self.leave(Shard::current());
    }
}

/// Does what the settings ask for when a request starts, and what is to be done where there is no
/// slot for it.
#[cold]
fn look(series: &Found, started: Instant, slot: Option<&Slot>, headers: &HeaderMap) {
    let table = series.table;
    match slot {
        Some(slot) if table.settings.slow_log.is_some() => slot.set_trace(TraceId::of(headers)),
        Some(_) => {}
        None => table.untracked(),
    }
    if table.watchdog.due(started) {
        table.watch(started);
    }
}

impl Drop for Guard {
    #[inline]
    fn drop(&mut self) {
        if let Some(reason) = self.on_drop {
            self.aborted(reason);
        }
    }
}
