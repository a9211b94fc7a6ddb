use std::collections::BTreeMap;

use metrics::Key;
use serde::Serialize;

use crate::recorder::{Counts, Samples, label};
use crate::timing::{
    ACTIVE_REQUESTS, METHOD, PHASE, REASON, REQUEST_DURATION, REQUESTS_ABORTED, RESPONSE_DURATION,
    ROUTE, STATUS,
};

/// What became of the requests.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Requests {
    /// Requests that have ended, in whatever way.
    pub count: u64,
    /// Of these, those that failed: answered with a 5xx status, whatever became of the body, or ended
    /// by a panic or an error of the service or of the body. A response that failed in its body
    /// after a 5xx status is counted twice; but there are never more than ended.
    pub errors: u64,
    /// Of these, those that were dropped before their end: the client went away, or a timeout
    /// outside the layer fired.
    pub aborted: u64,
    /// Of these, those that were dropped before their response headers: they have no time.
    pub unanswered: u64,
    /// Requests in flight now.
    pub in_flight: u64,
    /// Times to the response headers.
    #[serde(flatten)]
    pub quantiles: Quantiles,
    /// The same for each method and route that was asked for, by route and method.
    pub routes: Vec<Route>,
}

/// What became of the requests of one method on one route.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Route {
    /// The method; `_OTHER` for those that HTTP does not know.
    pub method: String,
    /// The route; `_UNMATCHED` for requests that match none, `_OVERFLOW` for routes beyond the
    /// limit.
    pub route: String,
    /// Requests that have ended, in whatever way.
    pub count: u64,
    /// Of these, those that failed.
    pub errors: u64,
    /// Of these, those that were dropped before their end.
    pub aborted: u64,
    /// Of these, those that were dropped before their response headers.
    pub unanswered: u64,
    /// Requests in flight now.
    pub in_flight: u64,
    /// Times to the response headers.
    #[serde(flatten)]
    pub quantiles: Quantiles,
}

/// Estimates from the histogram's cells, within 5%, of times in seconds; `None` before the first
/// response.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Quantiles {
    /// Half of the times are at or below.
    pub p50_seconds: Option<f64>,
    /// 95% of the times are at or below.
    pub p95_seconds: Option<f64>,
    /// 99% of the times are at or below.
    pub p99_seconds: Option<f64>,
}

impl Quantiles {
    pub(crate) fn of(times: Option<&Counts>) -> Self {
        let quantile = |q| times.and_then(|times| times.quantile(q));
        Self {
            p50_seconds: quantile(0.5),
            p95_seconds: quantile(0.95),
            p99_seconds: quantile(0.99),
        }
    }
}

/// The metrics that requests are read from.
pub(crate) const REQUEST_METRICS: &[&str] = &[
    ACTIVE_REQUESTS,
    REQUESTS_ABORTED,
    RESPONSE_DURATION,
    REQUEST_DURATION,
];

/// What became of some requests.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) ended: u64,
    pub(crate) errors: u64,
    pub(crate) aborted: u64,
    pub(crate) unanswered: u64,
    pub(crate) in_flight: u64,
    pub(crate) times: Option<Counts>,
}

/// Adds times to those of other routes, which may have other bounds: in cells that are the same each
/// time, so that two such sums can be compared.
fn merge(into: &mut Option<Counts>, times: &Counts) {
    into.get_or_insert_with(Counts::of_times).merge(times);
}

/// The route and the method of a series.
pub(crate) fn route_of(key: &Key) -> (String, String) {
    let text = |name| label(key, name).unwrap_or_default().to_owned();
    (text(ROUTE), text(METHOD))
}

impl Tally {
    /// All requests, by what `group` makes of the labels.
    pub(crate) fn by<K: Ord>(samples: &Samples, group: impl Fn(&Key) -> K) -> BTreeMap<K, Self> {
        let mut tallies: BTreeMap<K, Self> = BTreeMap::new();
        for (key, value) in samples.values(ACTIVE_REQUESTS) {
            tallies.entry(group(key)).or_default().in_flight += value.max(0.0) as u64;
        }
        for (key, value) in samples.values(REQUESTS_ABORTED) {
            let tally = tallies.entry(group(key)).or_default();
            tally.ended += *value as u64;
            match label(key, REASON) {
                Some("dropped") => {
                    tally.aborted += *value as u64;
                    if label(key, PHASE) == Some("headers") {
                        tally.unanswered += *value as u64;
                    }
                }
                _ => tally.errors += *value as u64,
            }
        }
        for (key, times) in samples.histograms(RESPONSE_DURATION) {
            let tally = tallies.entry(group(key)).or_default();
            tally.ended += times.count();
        }
        for (key, times) in samples.histograms(REQUEST_DURATION) {
            let tally = tallies.entry(group(key)).or_default();
            merge(&mut tally.times, times);
            // By its headers: that a body is dropped does not undo it.
            if label(key, STATUS).is_some_and(|status| status.starts_with('5')) {
                tally.errors += times.count();
            }
        }
        for tally in tallies.values_mut() {
            // One whose body is not yet at its end has not ended.
            tally.errors = tally.errors.min(tally.ended);
        }
        tallies
    }
}

impl Requests {
    pub(crate) fn of(samples: &Samples) -> Self {
        let mut all = Self::default();
        let mut times = None;
        for ((route, method), tally) in Tally::by(samples, route_of) {
            all.count += tally.ended;
            all.errors += tally.errors;
            all.aborted += tally.aborted;
            all.unanswered += tally.unanswered;
            all.in_flight += tally.in_flight;
            if let Some(more) = &tally.times {
                merge(&mut times, more);
            }
            all.routes.push(Route {
                method,
                route,
                count: tally.ended,
                errors: tally.errors,
                aborted: tally.aborted,
                unanswered: tally.unanswered,
                in_flight: tally.in_flight,
                quantiles: Quantiles::of(tally.times.as_ref()),
            });
        }
        all.quantiles = Quantiles::of(times.as_ref());
        all
    }
}
