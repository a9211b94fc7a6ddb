//! What is asked of the service: budgets of its routes and thresholds of its resources, and
//! whether they are kept.

mod builder;
mod objectives;
mod report;
mod thresholds;

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::timing::METHODS;

pub use report::{LimitReport, RouteReport, Verdict};
pub use thresholds::Thresholds;

pub(crate) use objectives::Objectives;

/// How fast a route has to be, and how often it may fail.
///
/// A time is from the request to the response's headers. An error is a response with a 5xx status,
/// a panic, or an error of the service or of the body; a client that goes away is none, and where it
/// goes before the headers, its request has no time either.
///
/// ```
/// # use std::time::Duration;
/// use perf_metrics::{Budget, Monitor};
///
/// let ms = Duration::from_millis;
/// let monitor = Monitor::builder()
///     .budget(Budget::route("GET /orders/{id}").p95(ms(200)).p99(ms(500)).errors(0.01))
///     .budget(Budget::route("/reports/{id}").p95(ms(5_000)))
///     .budget(Budget::route("/events")) // streams: asked for nothing
///     .default_budget(Budget::any().p95(ms(500)))
///     .build()?;
/// # Ok::<(), perf_metrics::BuildError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
#[must_use = "a budget does nothing until it is given to a monitor's builder"]
pub struct Budget {
    pub(crate) method: Option<String>,
    /// `None` for any.
    pub(crate) route: Option<String>,
    pub(crate) times: [Option<Duration>; 3],
    pub(crate) errors: Option<f64>,
}

impl Budget {
    /// A budget of one route, by its label as in `http_route`: `"GET /orders/{id}"`, or
    /// `"/orders/{id}"` for each method that has no budget of its own there.
    ///
    /// Without a limit it exempts the route from the default budget, and from the alert on requests
    /// that do not end, as is right for streams.
    pub fn route(route: impl AsRef<str>) -> Self {
        let route = route.as_ref().trim();
        let (method, route) = match route.split_once(' ') {
            Some((method, route)) => (Some(method.to_owned()), route.trim_start()),
            None if METHODS.contains(&route) => (Some(route.to_owned()), ""),
            None => (None, route),
        };
        Self {
            method,
            route: Some(route.to_owned()),
            times: [None; 3],
            errors: None,
        }
    }

    /// A budget for any route that has none of its own; for
    /// [`default_budget`](crate::MonitorBuilder::default_budget).
    pub fn any() -> Self {
        Self {
            method: None,
            route: None,
            times: [None; 3],
            errors: None,
        }
    }

    /// At least half of the requests take no longer than this. Defaults to no limit.
    pub fn p50(self, time: Duration) -> Self {
        self.time(Limit::P50, time)
    }

    /// At least 95% of the requests take no longer than this. Defaults to no limit.
    pub fn p95(self, time: Duration) -> Self {
        self.time(Limit::P95, time)
    }

    /// At least 99% of the requests take no longer than this. Defaults to no limit.
    pub fn p99(self, time: Duration) -> Self {
        self.time(Limit::P99, time)
    }

    fn time(mut self, limit: Limit, time: Duration) -> Self {
        if let Some(slot) = self.times.get_mut(limit as usize) {
            *slot = Some(time);
        }
        self
    }

    /// At most this share of the requests fails, above 0 and below 1: 0.01 is one of a hundred.
    /// Defaults to no limit.
    pub fn errors(mut self, ratio: f64) -> Self {
        self.errors = Some(ratio);
        self
    }

    /// Whether it asks for nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.errors.is_none() && self.times().next().is_none()
    }

    /// The limits on times that are set.
    pub(crate) fn times(&self) -> impl Iterator<Item = (Limit, Duration)> {
        let times = TIME_LIMITS.into_iter().zip(self.times);
        times.filter_map(|(limit, time)| Some((limit, time?)))
    }
}

/// As in [`Budget::route`]; `any route` for a default.
impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.method, &self.route) {
            (Some(method), Some(route)) => write!(f, "{method} {route}"),
            (None, Some(route)) => f.write_str(route),
            (_, None) => f.write_str("any route"),
        }
    }
}

/// One of the limits that a [`Budget`] can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Limit {
    /// On the time that half of the requests may exceed.
    P50,
    /// On the time that 5% of the requests may exceed.
    P95,
    /// On the time that 1% of the requests may exceed.
    P99,
    /// On the share of the requests that may fail.
    Errors,
}

/// How many requests it takes to judge how many of them are dropped before their headers.
pub(crate) const UNANSWERED_TO_JUDGE: u64 = 10;

pub(crate) const TIME_LIMITS: [Limit; 3] = [Limit::P50, Limit::P95, Limit::P99];

impl Limit {
    /// `p50`, `p95`, `p99` or `errors`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::P50 => "p50",
            Self::P95 => "p95",
            Self::P99 => "p99",
            Self::Errors => "errors",
        }
    }

    /// The share of the requests that may exceed a limit on times.
    pub(crate) fn allowed(self) -> Option<f64> {
        match self {
            Self::P50 => Some(0.5),
            Self::P95 => Some(0.05),
            Self::P99 => Some(0.01),
            Self::Errors => None,
        }
    }
}

/// How many requests it takes to judge whether more than a share `allowed` of them exceeds a limit:
/// with fewer, one alone would.
pub(crate) fn requests_to_judge(allowed: f64) -> u64 {
    (1.0 / allowed).ceil() as u64
}
