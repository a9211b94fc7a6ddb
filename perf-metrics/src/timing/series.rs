use std::sync::{Arc, OnceLock};

use http::StatusCode;
use metrics::{Counter, Gauge, Histogram, Key, Label, SharedString};

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
    /// The series, and whether it may be kept.
    pub(super) fn new(source: &Source, method: &'static str, route: &Arc<str>) -> (Self, bool) {
        let key = Key::from_parts(ACTIVE_REQUESTS, labels(method, route));
        let (active, keep) = source.with(|r| r.register_gauge(&key, &METADATA));
        let series = Self {
            method,
            route: Arc::clone(route),
            source: source.clone(),
            active,
            aborted: Default::default(),
            statuses: Default::default(),
        };
        (series, keep)
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
            self.source.with(|r| r.register_counter(&key, &METADATA)).0
        });
        counter.increment(1);
    }

    /// The handles of one status.
    pub(super) fn status(&self, status: StatusCode) -> &StatusSeries {
        // `StatusCode` is 100 to 999 by construction, so neither index can be out of its bounds.
        let code = usize::from(status.as_u16());
        let class = self.statuses[(code / 100 - 1) % 9]
            .get_or_init(|| Box::new([const { OnceLock::new() }; 100]));
        class[code % 100].get_or_init(|| Box::new(self.fetch(status)))
    }

    fn fetch(&self, status: StatusCode) -> StatusSeries {
        let mut labels = labels(self.method, &self.route);
        labels.push(Label::new(STATUS, status.as_str().to_owned()));
        let fetch = |name: &'static str| {
            let key = Key::from_parts(name, labels.clone());
            self.source
                .with(|r| r.register_histogram(&key, &METADATA))
                .0
        };
        StatusSeries {
            request_duration: fetch(REQUEST_DURATION),
            response_duration: fetch(RESPONSE_DURATION),
            request_body_size: fetch(REQUEST_BODY_SIZE),
            response_body_size: fetch(RESPONSE_BODY_SIZE),
        }
    }
}

fn labels(method: &'static str, route: &Arc<str>) -> Vec<Label> {
    vec![
        Label::from_static_parts(METHOD, method),
        Label::new(ROUTE, SharedString::from(Arc::clone(route))),
    ]
}
