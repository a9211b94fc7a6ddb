use serde::Serialize;

use crate::args::Build;
use crate::conductor::Outcome;
use crate::protocol::{Arrival, CrowdFigures};
use crate::quantiles::Quantiles;

/// The figures of a build's rush.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Measured {
    pub(crate) build: Build,
    /// From sending the completion to the arrival of the user's last message, in seconds.
    pub(crate) lag_seconds: Option<Quantiles>,
    /// Between the first message and the last.
    pub(crate) messages_per_second: Option<f64>,
    /// Calls that the messenger refused.
    pub(crate) refused_429: u64,
    pub(crate) commits: u64,
    /// Answers in the database for each second between the first completion sent and the last
    /// one confirmed.
    pub(crate) rows_saved_per_second: Option<f64>,
    /// From sending the completion to its confirmation, in the rush.
    pub(crate) save_seconds: Option<Quantiles>,
    /// The same with nobody else there, median.
    pub(crate) quiet_save_seconds: Option<f64>,
    pub(crate) completion_failures: u64,
    pub(crate) leaderboards_per_second: f64,
    pub(crate) leaderboard_seconds: Option<Quantiles>,
    pub(crate) leaderboard_failures: u64,
    pub(crate) queries: u64,
    /// Share of a cache's reads that it answered; nothing without a cache.
    pub(crate) cache_hit_ratio: Option<f64>,
    pub(crate) peak_connections: u32,
    pub(crate) max_connections: u32,
    pub(crate) cpu_seconds: f64,
    /// Of one processor, over the rush.
    pub(crate) cpu_percent: f64,
    pub(crate) peak_memory_bytes: u64,
    /// The rush from its first completion to the last message, in seconds.
    pub(crate) seconds: f64,
}

impl Measured {
    pub(crate) fn of(outcome: &Outcome) -> Self {
        let Outcome { service, crowd, .. } = outcome;
        let lags = crowd
            .users
            .iter()
            .filter_map(|u| u.last_message.map(|at| (at - u.sent).max(0.0)));
        let saves = crowd
            .users
            .iter()
            .filter_map(|u| u.saved.map(|at| (at - u.sent).max(0.0)));
        let seconds = end(crowd);
        Self {
            build: outcome.build,
            lag_seconds: Quantiles::of(lags),
            messages_per_second: messages_per_second(&outcome.arrivals),
            refused_429: crowd.refused,
            commits: service.commits,
            rows_saved_per_second: rows_saved_per_second(crowd, outcome.rows),
            save_seconds: Quantiles::of(saves),
            quiet_save_seconds: Quantiles::of(outcome.quiet.iter().copied()).map(|q| q.p50),
            completion_failures: crowd.completion_failures,
            leaderboards_per_second: crowd.leaderboards.len() as f64 / seconds,
            leaderboard_seconds: Quantiles::of(crowd.leaderboards.iter().map(|r| r.seconds)),
            leaderboard_failures: crowd.leaderboard_failures,
            queries: service.queries,
            cache_hit_ratio: service
                .cache
                .filter(|c| c.reads > 0)
                .map(|c| c.hits as f64 / c.reads as f64),
            peak_connections: service.peak_connections,
            max_connections: service.max_connections,
            cpu_seconds: service.cpu_seconds,
            cpu_percent: 100.0 * service.cpu_seconds / service.seconds,
            peak_memory_bytes: service.peak_memory_bytes,
            seconds,
        }
    }
}

fn end(crowd: &CrowdFigures) -> f64 {
    let ends = crowd
        .users
        .iter()
        .filter_map(|u| u.last_message.or(u.saved));
    let last_poll = crowd.leaderboards.last().map_or(0.0, |r| r.at + r.seconds);
    ends.fold(last_poll, f64::max).max(f64::MIN_POSITIVE)
}

fn messages_per_second(arrivals: &[Arrival]) -> Option<f64> {
    let (first, last) = (arrivals.first()?, arrivals.last()?);
    (last.at > first.at).then(|| (arrivals.len() - 1) as f64 / (last.at - first.at))
}

fn rows_saved_per_second(crowd: &CrowdFigures, rows: usize) -> Option<f64> {
    let last = crowd
        .users
        .iter()
        .filter_map(|u| u.saved)
        .reduce(f64::max)?;
    let first = crowd.users.iter().map(|u| u.sent).reduce(f64::min)?;
    (last > first).then(|| rows as f64 / (last - first))
}
