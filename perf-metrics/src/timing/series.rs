use std::fmt;
use std::sync::{Arc, OnceLock};

use http::StatusCode;
use metrics::{Counter, Key, Label, Recorder, SharedString};

use super::cells::{Present, Values};
use super::grpc::STATUSES;
use super::names::{
    ACTIVE_REQUESTS, GRPC_RESPONSES, GRPC_STATUS, METADATA, METHOD, PHASE, REASON,
    REQUEST_BODY_SIZE, REQUEST_DURATION, REQUESTS_ABORTED, RESPONSE_BODY_SIZE, RESPONSE_DURATION,
    ROUTE, SLOW_REQUESTS, STATUS,
};
use super::table::{SeriesId, Table};
use crate::shard::Shard;

/// Up to where a request had come when it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Headers,
    Body,
}

/// Why a request ended before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    Dropped,
    Panic,
    Error,
}

const PHASES: [&str; 2] = ["headers", "body"];
const REASONS: [&str; 3] = ["dropped", "panic", "error"];

impl Reason {
    pub(super) fn name(self) -> &'static str {
        REASONS[self as usize]
    }
}

/// What the method says about the response's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MethodKind {
    Head,
    Connect,
    Post,
    Other,
}

impl MethodKind {
    fn of(name: &str) -> Self {
        match name {
            "HEAD" => Self::Head,
            "CONNECT" => Self::Connect,
            "POST" => Self::Post,
            _ => Self::Other,
        }
    }
}

/// The handles of one method and route, each fetched at its first use.
pub(super) struct RouteSeries {
    pub(super) id: SeriesId,
    pub(super) route: Arc<str>,
    pub(super) table: &'static Table,
    pub(super) method: MethodKind,
    kept: bool,
    active: Present,
    aborted: [[OnceLock<Counter>; REASONS.len()]; PHASES.len()],
    slow: OnceLock<Counter>,
    grpc: OnceLock<Box<[OnceLock<Counter>; STATUSES.len()]>>,
    /// That of most responses.
    ok: OnceLock<StatusSeries>,
    /// By the upper bits of the status code, then by the lower: two steps without a lock or a
    /// division, and memory for the neighbourhood of the statuses that occur alone.
    statuses: [OnceLock<Box<StatusBlock>>; 16],
}

/// The statuses whose codes differ in the lower six bits.
type StatusBlock = [OnceLock<Box<StatusSeries>>; 64];

/// The histograms of one method, route and status.
#[derive(Debug)]
pub(super) struct StatusSeries(Values<4>);

/// By their index in [`Values`].
const STATUS_METRICS: [&str; 4] = [
    REQUEST_DURATION,
    REQUEST_BODY_SIZE,
    RESPONSE_DURATION,
    RESPONSE_BODY_SIZE,
];

impl StatusSeries {
    /// Records that the headers are there after so many seconds, of a request with a body of so many
    /// bytes, if that is known.
    #[inline]
    pub(super) fn headers(&self, shard: Shard, seconds: f64, bytes: Option<u64>) {
        let bytes = bytes.map(size);
        self.0.record(shard, [(0, Some(seconds)), (1, bytes)]);
    }

    /// Records that the body of so many bytes was sent after so many seconds.
    #[inline]
    pub(super) fn end(&self, shard: Shard, seconds: f64, bytes: u64) {
        let bytes = Some(size(bytes));
        self.0.record(shard, [(2, Some(seconds)), (3, bytes)]);
    }
}

/// Nobody has sent 2^63 bytes, nor are so many taken for declared; and signed numbers are converted in one instruction.
#[inline]
fn size(bytes: u64) -> f64 {
    bytes.cast_signed() as f64
}

impl RouteSeries {
    pub(super) fn new(table: &'static Table, id: SeriesId, route: &Arc<str>) -> Self {
        let key = Key::from_parts(ACTIVE_REQUESTS, labels(id.method_name(), route));
        let (active, kept) = Present::fetch(&table.settings.source, &key);
        Self {
            id,
            route: Arc::clone(route),
            table,
            method: MethodKind::of(id.method_name()),
            kept,
            active,
            aborted: Default::default(),
            slow: OnceLock::new(),
            grpc: OnceLock::new(),
            ok: OnceLock::new(),
            statuses: Default::default(),
        }
    }

    /// Whether the series may be kept: not those made while no recorder was installed.
    pub(super) fn kept(&self) -> bool {
        self.kept
    }

    /// The gauge of the requests in flight.
    #[inline]
    pub(super) fn active(&self) -> &Present {
        &self.active
    }

    /// Counts one request that ended before its time.
    pub(super) fn aborted(&self, end: End, reason: Reason) {
        let counter = self.aborted[end as usize][reason as usize].get_or_init(|| {
            let phase = Label::from_static_parts(PHASE, PHASES[end as usize]);
            let reason = Label::from_static_parts(REASON, reason.name());
            self.counter(REQUESTS_ABORTED, [phase, reason])
        });
        counter.increment(1);
    }

    /// Counts one request that was slow.
    pub(super) fn slow(&self) {
        let counter = self.slow.get_or_init(|| self.counter(SLOW_REQUESTS, []));
        counter.increment(1);
    }

    /// Counts one response of gRPC, by the index of its status.
    pub(super) fn grpc(&self, status: usize) {
        let counters = self.grpc.get_or_init(Box::default);
        let (Some(counter), Some(label)) = (counters.get(status), STATUSES.get(status)) else {
            return;
        };
        let counter = counter.get_or_init(|| {
            self.counter(
                GRPC_RESPONSES,
                [Label::from_static_parts(GRPC_STATUS, label)],
            )
        });
        counter.increment(1);
    }

    /// The handles of one status.
    #[inline]
    pub(super) fn status(&self, status: StatusCode) -> &StatusSeries {
        if status == StatusCode::OK {
            return self.ok.get_or_init(|| self.new_status(status));
        }
        // `StatusCode` is 100 to 999 by construction, so below 16 * 64.
        let code = usize::from(status.as_u16());
        let block = self.statuses[(code >> 6) % 16]
            .get_or_init(|| Box::new([const { OnceLock::new() }; 64]));
        block[code % 64].get_or_init(|| Box::new(self.new_status(status)))
    }

    fn new_status(&self, status: StatusCode) -> StatusSeries {
        let mut labels = labels(self.id.method_name(), &self.route);
        labels.push(Label::new(STATUS, status.as_str().to_owned()));
        let keys = STATUS_METRICS.map(|name| Key::from_parts(name, labels.clone()));
        StatusSeries(Values::fetch(&self.table.settings.source, &keys, self.kept))
    }

    /// A counter, which is silent if the recorder came after the request: what was not counted in
    /// must not be counted out.
    fn counter<const N: usize>(&self, name: &'static str, more: [Label; N]) -> Counter {
        let mut labels = labels(self.id.method_name(), &self.route);
        labels.extend(more);
        let key = Key::from_parts(name, labels);
        let register = |r: &dyn Recorder| r.register_counter(&key, &METADATA);
        let (counter, keep) = self.table.settings.source.with(register);
        if keep == self.kept {
            counter
        } else {
            Counter::noop()
        }
    }
}

impl fmt::Debug for RouteSeries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RouteSeries").finish_non_exhaustive()
    }
}

/// The labels of a method and a route.
pub(super) fn labels(method: &'static str, route: &Arc<str>) -> Vec<Label> {
    vec![
        Label::from_static_parts(METHOD, method),
        Label::new(ROUTE, SharedString::from(Arc::clone(route))),
    ]
}
