use std::collections::HashMap;

use serde::Serialize;

use super::{Budget, Limit, UNANSWERED_TO_JUDGE, requests_to_judge};
use crate::Monitor;
use crate::recorder::{Counts, Samples};
use crate::snapshot::{Quantiles, Requests, route_of};
use crate::timing::REQUEST_DURATION;

/// Whether a limit is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Verdict {
    /// It is, or there is none.
    Kept,
    /// So few requests were made that one alone could break it, fewer than 20 for p95, say; and no
    /// more than one exceeds it.
    TooFewSamples,
    /// So many requests were dropped before their response headers, by clients that gave up or by
    /// a timeout outside the layer, that what is known of the others does not say that it is kept:
    /// more than the [threshold](super::Thresholds::unanswered_ratio), of at least ten requests.
    Unanswered,
    /// More requests exceed it than may.
    Broken,
}

/// What one method of a route did, beside its budget, since the monitor was built.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct RouteReport {
    /// The method; `_OTHER` for those that HTTP does not know.
    pub method: String,
    /// The route.
    pub route: String,
    /// Requests that have ended, in whatever way.
    pub count: u64,
    /// The share of them that failed, 0 to 1; `None` before the first.
    pub error_ratio: Option<f64>,
    /// The share of them that were dropped before their response headers, 0 to 1: they have no time,
    /// and are no errors; `None` before the first.
    pub unanswered_ratio: Option<f64>,
    /// Times to the response headers.
    #[serde(flatten)]
    pub quantiles: Quantiles,
    /// The limits of the route's budget.
    pub limits: Vec<LimitReport>,
    /// [`Broken`](Verdict::Broken) if any limit is, else [`Unanswered`](Verdict::Unanswered) or
    /// [`TooFewSamples`](Verdict::TooFewSamples) if any could not be judged.
    pub verdict: Verdict,
}

/// One limit of a budget, and whether it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct LimitReport {
    /// Which limit.
    pub limit: Limit,
    /// Its value: seconds, or for errors a share.
    pub at_most: f64,
    /// The share of the requests that may exceed it, 0.05 for p95; for errors, that may fail.
    pub allowed_ratio: f64,
    /// The share of the requests that did, counted and not estimated; `None` before the first.
    pub exceeded_ratio: Option<f64>,
    /// Whether it is kept.
    pub verdict: Verdict,
}

impl LimitReport {
    fn new(limit: Limit, at_most: f64, allowed: f64, exceeded: u64, count: u64) -> Self {
        let ratio = (count > 0).then(|| exceeded as f64 / count as f64);
        let needed = requests_to_judge(allowed);
        // More than may exceed it even if all that are missing to `needed` did not.
        let broken = exceeded as f64 > allowed * count.max(needed) as f64;
        let verdict = if broken && exceeded > 1 {
            Verdict::Broken
        } else if count < needed {
            Verdict::TooFewSamples
        } else {
            Verdict::Kept
        };
        Self {
            limit,
            at_most,
            allowed_ratio: allowed,
            exceeded_ratio: ratio,
            verdict,
        }
    }
}

impl Monitor {
    /// Each method and route that was asked for, by route and method, with what it did since the
    /// monitor was built and whether its [budget](crate::MonitorBuilder::budget) is kept.
    ///
    /// It is judged by the whole life of the process: after a day that went well, an hour that goes
    /// badly may still leave a budget kept, and one that was broken once stays so for long. It suits
    /// load tests and deployments; the [alert rules](Self::alert_rules) are what judges the last
    /// minutes.
    pub fn budgets(&self) -> Vec<RouteReport> {
        let samples = self.samples();
        let mut times = times(&samples);
        let (most, _) = self.objectives().thresholds.unanswered_ratio;
        let routes = Requests::of(&samples).routes.into_iter();
        routes
            .map(|route| {
                let key = (route.route.clone(), route.method.clone());
                let budget = self.objectives().of(&route.method, &route.route);
                let mut limits = limits(budget, times.remove(&key), route.errors, route.count);
                let share = |n| (route.count > 0).then(|| n as f64 / route.count as f64);
                let unanswered = share(route.unanswered);
                if route.count >= UNANSWERED_TO_JUDGE && unanswered.is_some_and(|it| it > most) {
                    doubt(&mut limits);
                }
                RouteReport {
                    verdict: verdict(&limits),
                    error_ratio: share(route.errors),
                    unanswered_ratio: unanswered,
                    method: route.method,
                    route: route.route,
                    count: route.count,
                    quantiles: route.quantiles,
                    limits,
                }
            })
            .collect()
    }
}

/// The times to the headers, over all statuses, by route and method.
fn times(samples: &Samples) -> HashMap<(String, String), Counts> {
    let mut times: HashMap<(String, String), Counts> = HashMap::new();
    for (key, counts) in samples.histograms(REQUEST_DURATION) {
        times
            .entry(route_of(key))
            .and_modify(|all| all.merge(counts))
            .or_insert_with(|| counts.clone());
    }
    times
}

fn limits(budget: &Budget, times: Option<Counts>, errors: u64, ended: u64) -> Vec<LimitReport> {
    let count = times.as_ref().map_or(0, Counts::count);
    let of_times = budget.times().filter_map(|(limit, time)| {
        let (seconds, allowed) = (time.as_secs_f64(), limit.allowed()?);
        let within = times.as_ref().and_then(|times| times.within(seconds));
        let exceeded = count - within.unwrap_or(count).min(count);
        Some(LimitReport::new(limit, seconds, allowed, exceeded, count))
    });
    let of_errors = budget
        .errors
        .map(|ratio| LimitReport::new(Limit::Errors, ratio, ratio, errors, ended));
    of_times.chain(of_errors).collect()
}

/// What those that were answered say is not enough to go by.
fn doubt(limits: &mut [LimitReport]) {
    let unbroken = limits.iter_mut().filter(|it| it.verdict != Verdict::Broken);
    unbroken.for_each(|limit| limit.verdict = Verdict::Unanswered);
}

fn verdict(limits: &[LimitReport]) -> Verdict {
    let any = |verdict| limits.iter().any(|limit| limit.verdict == verdict);
    [Verdict::Broken, Verdict::Unanswered, Verdict::TooFewSamples]
        .into_iter()
        .find(|verdict| any(*verdict))
        .unwrap_or(Verdict::Kept)
}
