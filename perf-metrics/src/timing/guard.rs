use std::time::Duration;

use http::header::{CONTENT_LENGTH, HeaderName};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body::Body;

use super::grpc::GrpcStatus;
use super::running::Slot;
use super::series::{End, MethodKind, Reason, RouteSeries};
use super::slow::{Slow, TraceId};
use super::table::{Found, Glance, Table};
use crate::clock::Instant;
use crate::shard::Shard;

const PROCESS_TIME: HeaderName = HeaderName::from_static("x-process-time");

/// One request that was counted as started, and that will be counted as ended exactly once: by
/// [`complete`](Self::complete) or [`fail`](Self::fail), else by being dropped.
///
/// Small, as it is moved with the futures and the body that hold it. Purposefully not `Clone`.
pub(super) struct Guard {
    at: At,
    /// Once there are headers.
    status: Option<StatusCode>,
    grpc: GrpcStatus,
    on_drop: OnDrop,
}

/// What it means when the guard is dropped now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OnDrop {
    /// The end was recorded already.
    Nothing,
    Dropped,
    /// While the service is called; not a store after the call, as what is returned would be copied
    /// around it.
    PanicOfCall,
    Panic,
    Error,
}

/// Where a request is counted, and what is known of it.
enum At {
    Usual(&'static RouteSeries, &'static Slot),
    /// There is no recorder, or no slot to be had.
    Rare(Box<Rare>),
}

struct Rare {
    series: Found,
    listed: Option<&'static Slot>,
    unlisted: Slot,
}

impl At {
    #[cold]
    fn rare(series: Found, listed: Option<&'static Slot>, started: Instant) -> Self {
        Self::Rare(Box::new(Rare {
            series,
            listed,
            unlisted: Slot::unlisted(started),
        }))
    }

    #[inline]
    fn series(&self) -> &RouteSeries {
        match self {
            Self::Usual(series, _) => series,
            Self::Rare(rare) => &rare.series,
        }
    }

    #[inline]
    fn slot(&self) -> &Slot {
        match self {
            Self::Usual(_, slot) => slot,
            Self::Rare(rare) => rare.listed.unwrap_or(&rare.unlisted),
        }
    }
}

impl Guard {
    /// Counts a request as started; `None` if it is not to be counted.
    ///
    /// Not a part of the service's function, which is the smaller, and so is built into that of its
    /// caller: what it returns is then made where it is needed, and not copied.
    #[inline(never)]
    pub(super) fn start<B: Body>(table: &'static Table, request: &mut Request<B>) -> Option<Self> {
        match table.glance(request) {
            Glance::Series(series) => Some(Self::start_kept(series, request)),
            Glance::Excluded => None,
            Glance::Unclear => Self::start_unclear(table, request),
        }
    }

    /// The same where a glance does not tell.
    #[inline(never)]
    fn start_unclear<B: Body>(table: &'static Table, request: &mut Request<B>) -> Option<Self> {
        let found = table.of(request)?;
        Some(Self::start_of(found, request))
    }

    /// Counts a request that was not to get so far: the user's code panicked over its route.
    #[cold]
    pub(super) fn panicked<B: Body>(table: &'static Table, request: &mut Request<B>) {
        drop(
            table
                .of_unmatched(request)
                .map(|found| Self::start_of(found, request)),
        );
    }

    fn start_of<B: Body>(found: Found, request: &Request<B>) -> Self {
        match found {
            Found::Kept(series) => Self::start_kept(series, request),
            unkept => Self::start_unkept(unkept, request),
        }
    }

    #[inline(always)]
    fn start_kept<B: Body>(series: &'static RouteSeries, request: &Request<B>) -> Self {
        let shard = Shard::current();
        series.active().enter(shard);
        let started = Instant::now();
        let at = match series.table.running.enter(shard, series.id, started) {
            Some(slot) => At::Usual(series, slot),
            None => At::rare(Found::Kept(series), None, started),
        };
        Self::new(at).of_request(request)
    }

    /// The same where there is no recorder to count for.
    #[cold]
    fn start_unkept<B: Body>(series: Found, request: &Request<B>) -> Self {
        let shard = Shard::current();
        series.active().enter(shard);
        let started = Instant::now();
        let listed = series.table.running.enter(shard, series.id, started);
        Self::new(At::rare(series, listed, started)).of_request(request)
    }

    /// Notes what has to be known of the request. Its body is the user's code, and so is what the
    /// lines of the log go to: if they panic, the guard counts that.
    #[inline(always)]
    fn of_request<B: Body>(self, request: &Request<B>) -> Self {
        let (table, slot) = (self.at.series().table, self.at.slot());
        if let At::Rare(rare) = &self.at
            && rare.listed.is_none()
        {
            table.untracked();
        }
        if table.attentive {
            look(table, slot, request.headers());
        }
        set_request(slot, request);
        self
    }

    #[inline]
    fn new(at: At) -> Self {
        Self {
            at,
            status: None,
            grpc: GrpcStatus::None,
            on_drop: OnDrop::PanicOfCall,
        }
    }

    /// Notes, when the future is dropped, that the service had returned it.
    #[inline]
    pub(super) fn called(&mut self) {
        if self.on_drop == OnDrop::PanicOfCall {
            self.on_drop = OnDrop::Dropped;
        }
    }

    /// Notes that the user's code is about to run: if it panics, the guard is dropped and knows
    /// why. Not a closure that runs it, as what goes in and out would be copied once more.
    #[inline]
    pub(super) fn calling(&mut self) {
        self.on_drop = OnDrop::Panic;
    }

    /// Notes that the user's code has returned.
    #[inline]
    pub(super) fn returned(&mut self) {
        self.on_drop = OnDrop::Dropped;
    }

    /// Records that the headers are there, and adds to them. Whether that was all: HTTP sends no body
    /// with some responses, whatever the service put there (RFC 9110, section 6.4.1).
    ///
    /// Not a part of the future's function, which is the smaller, and so is built into that of its
    /// caller: the response is then copied fewer times.
    #[inline(never)]
    pub(super) fn headers<B: Body>(&mut self, response: &mut Response<B>) -> bool {
        let status = response.status();
        self.status = Some(status);
        let (series, slot) = (self.at.series(), self.at.slot());
        let seconds = slot.started().elapsed_seconds();
        slot.headers();
        let shard = Shard::current();
        series.status(status).headers(shard, seconds, slot.length());
        self.on_drop = OnDrop::Panic;
        if series.table.attentive {
            self.look_at(response.headers_mut(), seconds);
        }
        // Calls of gRPC are POST requests; others are spared the search.
        if series.method == MethodKind::Post {
            self.grpc = GrpcStatus::of_headers(response.headers());
        }
        let length = length_of(response.body(), response.headers());
        let empty = length.is_none_or(|length| length == 0) && response.body().is_end_stream();
        let ended = empty || has_no_body(series.method, status);
        self.on_drop = OnDrop::Dropped;
        slot.set_length(length);
        slot.set_sent(0);
        if ended {
            self.complete();
        }
        ended
    }

    /// Counts bytes of the body that were handed over.
    #[inline]
    pub(super) fn sent(&self, bytes: usize) {
        let slot = self.at.slot();
        slot.set_sent(slot.sent() + bytes as u64);
    }

    /// Takes the status of gRPC from the trailers.
    pub(super) fn trailers(&mut self, trailers: &HeaderMap) {
        self.grpc.trailers(trailers);
    }

    /// Whether the end was recorded.
    #[inline]
    pub(super) fn has_ended(&self) -> bool {
        self.on_drop == OnDrop::Nothing
    }

    /// Whether a server that announced the length of the body has sent all of it.
    #[inline]
    pub(super) fn has_sent_all(&self) -> bool {
        let slot = self.at.slot();
        self.on_drop == OnDrop::Dropped && slot.length().is_some_and(|length| slot.sent() >= length)
    }

    /// Records that the body was handed over to its end.
    #[inline(never)]
    pub(super) fn complete(&mut self) {
        let (series, slot) = (self.at.series(), self.at.slot());
        let seconds = slot.started().elapsed_seconds();
        let shard = Shard::current();
        let values = series.status(self.status.unwrap_or_default());
        values.end(shard, seconds, slot.sent());
        if let Some(status) = self.grpc.index() {
            series.grpc(status);
        }
        self.on_drop = OnDrop::Nothing;
        leave(series, slot, shard);
    }

    /// Notes that the service or the body returned an error: true, as that is the end.
    pub(super) fn fail(&mut self) -> bool {
        self.on_drop = OnDrop::Error;
        true
    }

    /// Does what the settings ask for at the headers.
    #[cold]
    fn look_at(&self, headers: &mut HeaderMap, seconds: f64) {
        if self.at.series().table.settings.process_time_header {
            let text = format!("{seconds:.6}");
            // Digits and a point are a valid value.
            if let Ok(value) = HeaderValue::try_from(text) {
                headers.insert(PROCESS_TIME, value);
            }
        }
        if let Some(slow) = self.slow(seconds, None) {
            self.at.series().table.slow_log.write(&slow);
        }
    }

    /// Counts the request if it took too long; what there is to log of it then.
    fn slow(&self, seconds: f64, reason: Option<Reason>) -> Option<Slow<'_>> {
        let time = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
        let series = self.at.series();
        let limit = series.table.settings.slow_log?;
        if time < limit {
            return None;
        }
        series.slow();
        Some(Slow {
            method: series.id.method_name(),
            route: &series.route,
            status: self.status,
            reason: reason.map(Reason::name),
            time,
            trace: self.at.slot().trace(),
        })
    }

    /// Counts a request that nothing else has counted as ended.
    #[cold]
    fn end(&self) {
        let reason = match self.on_drop {
            OnDrop::Nothing => return,
            OnDrop::Dropped => Reason::Dropped,
            OnDrop::PanicOfCall | OnDrop::Panic => Reason::Panic,
            OnDrop::Error => Reason::Error,
        };
        let (series, slot) = (self.at.series(), self.at.slot());
        let slow = if self.status.is_some() {
            series.aborted(End::Body, reason);
            None
        } else {
            series.aborted(End::Headers, reason);
            self.slow(slot.started().elapsed_seconds(), Some(reason))
        };
        leave(series, slot, Shard::current());
        // The last, as it may panic.
        if let Some(slow) = slow {
            series.table.slow_log.write(&slow);
        }
    }
}

/// Takes a request out of flight. Last, so that who sees nothing in flight sees everything counted.
#[inline]
fn leave(series: &RouteSeries, slot: &Slot, shard: Shard) {
    slot.leave();
    series.active().leave(shard);
}

/// What a client declares beyond this, a tebibyte, counts as unknown: a stranger may declare nearly 2^64
/// without sending a byte, and 2^53 added to a sum of floating-point numbers takes the small ones from it.
const MAX_DECLARED: u64 = 1 << 40;

/// Notes the declared length of the request's body: to count the bytes as they come would change its
/// type for the inner service.
#[inline]
fn set_request<B: Body>(slot: &Slot, request: &Request<B>) {
    slot.set_length(if request.body().is_end_stream() {
        Some(0)
    } else {
        let declared = request.body().size_hint().exact();
        declared.filter(|length| *length <= MAX_DECLARED)
    });
}

/// Does what the settings ask for when a request starts.
#[cold]
fn look(table: &Table, slot: &Slot, headers: &HeaderMap) {
    if table.settings.slow_log.is_some() {
        slot.set_trace(TraceId::of(headers));
        table.slow_log.tell(Some(slot.started()));
    }
    let started = slot.started();
    if table.watchdog.due(started) {
        table.watch(started);
    }
}

/// Whether HTTP sends no body with a response, whatever is in it.
#[inline]
fn has_no_body(method: MethodKind, status: StatusCode) -> bool {
    status.is_informational()
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED
        || match method {
            MethodKind::Head => true,
            MethodKind::Connect => status.is_success(),
            MethodKind::Post | MethodKind::Other => false,
        }
}

/// The length of the body, if it is known before it is sent.
fn length_of<B: Body>(body: &B, headers: &HeaderMap) -> Option<u64> {
    body.size_hint().exact().or_else(|| {
        let value = headers.get(CONTENT_LENGTH)?;
        value.to_str().ok()?.parse().ok()
    })
}

impl Drop for Guard {
    #[inline]
    fn drop(&mut self) {
        if self.on_drop != OnDrop::Nothing {
            self.end();
        }
    }
}
