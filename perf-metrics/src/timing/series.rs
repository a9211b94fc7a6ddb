use std::sync::{Arc, OnceLock};

use http::StatusCode;
use metrics::{Counter, Gauge, Histogram, Key, Label, Recorder, SharedString};

use super::names::{
    ACTIVE_REQUESTS, METADATA, METHOD, PHASE, REASON, REQUEST_BODY_SIZE, REQUEST_DURATION,
    REQUESTS_ABORTED, RESPONSE_BODY_SIZE, RESPONSE_DURATION, ROUTE, STATUS,
};
use super::source::Source;

/// Up to where a request had come when it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
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

/// The handles of one method and route, each fetched at its first use.
#[derive(Debug)]
pub(super) struct RouteSeries {
    method: &'static str,
    route: Arc<str>,
    source: Source,
    kept: bool,
    active: Gauge,
    aborted: [[OnceLock<Counter>; REASONS.len()]; PHASES.len()],
    /// By the hundreds of the status code, then by the rest: two steps without a lock, and no more
    /// memory than the classes of status that occur.
    statuses: [OnceLock<Box<StatusClass>>; 9],
}

/// The statuses of one class, such as 200 to 299.
type StatusClass = [OnceLock<Box<StatusSeries>>; 100];

/// The handles of one method, route and status.
#[derive(Debug)]
pub(super) struct StatusSeries {
    pub(super) request_duration: Histogram,
    pub(super) response_duration: Histogram,
    pub(super) request_body_size: Histogram,
    pub(super) response_body_size: Histogram,
}

impl RouteSeries {
    pub(super) fn new(source: &Source, method: &'static str, route: &Arc<str>) -> Self {
        let key = Key::from_parts(ACTIVE_REQUESTS, labels(method, route));
        let (active, kept) = source.with(|r| r.register_gauge(&key, &METADATA));
        Self {
            method,
            route: Arc::clone(route),
            source: source.clone(),
            kept,
            active,
            aborted: Default::default(),
            statuses: Default::default(),
        }
    }

    /// Whether the series may be kept: not those made while no recorder was installed.
    pub(super) fn kept(&self) -> bool {
        self.kept
    }

    /// The gauge of the requests in flight.
    pub(super) fn active(&self) -> &Gauge {
        &self.active
    }

    /// Counts one request that ended before its time.
    pub(super) fn aborted(&self, phase: Phase, reason: Reason) {
        let counter = self.aborted[phase as usize][reason as usize].get_or_init(|| {
            let mut labels = labels(self.method, &self.route);
            labels.push(Label::from_static_parts(PHASE, PHASES[phase as usize]));
            labels.push(Label::from_static_parts(REASON, REASONS[reason as usize]));
            let key = Key::from_parts(REQUESTS_ABORTED, labels);
            self.fetch(Counter::noop(), |r| r.register_counter(&key, &METADATA))
        });
        counter.increment(1);
    }

    /// The handles of one status.
    pub(super) fn status(&self, status: StatusCode) -> &StatusSeries {
        // `StatusCode` is 100 to 999 by construction, so neither index can be out of its bounds.
        let code = usize::from(status.as_u16());
        let class = self.statuses[(code / 100 - 1) % 9]
            .get_or_init(|| Box::new([const { OnceLock::new() }; 100]));
        class[code % 100].get_or_init(|| Box::new(self.new_status(status)))
    }

    fn new_status(&self, status: StatusCode) -> StatusSeries {
        let mut labels = labels(self.method, &self.route);
        labels.push(Label::new(STATUS, status.as_str().to_owned()));
        let histogram = |name: &'static str| {
            let key = Key::from_parts(name, labels.clone());
            self.fetch(Histogram::noop(), |r| r.register_histogram(&key, &METADATA))
        };
        StatusSeries {
            request_duration: histogram(REQUEST_DURATION),
            response_duration: histogram(RESPONSE_DURATION),
            request_body_size: histogram(REQUEST_BODY_SIZE),
            response_body_size: histogram(RESPONSE_BODY_SIZE),
        }
    }

    /// A handle, which is silent if the recorder came after the request: what was not counted in
    /// must not be counted out.
    fn fetch<T>(&self, silent: T, register: impl FnOnce(&dyn Recorder) -> T) -> T {
        let (handle, keep) = self.source.with(register);
        if keep == self.kept { handle } else { silent }
    }
}

fn labels(method: &'static str, route: &Arc<str>) -> Vec<Label> {
    vec![
        Label::from_static_parts(METHOD, method),
        Label::new(ROUTE, SharedString::from(Arc::clone(route))),
    ]
}
