//! Alerts on what perf-cache records.

use std::time::Duration;

use super::plan::Plan;
use super::promql::{duration, number, percent};
use super::resources::labels;
use super::rule::{Alert, Example, Group, PERCENT, Record, Series, Severity};

/// How many reads of a cache it takes to judge it.
const READS: u32 = 100;

/// The share of a cache's reads that find a value, made of the rate of its requests for some
/// matchers.
///
/// A read asks the local tier first. What misses there may find the value in the shared tier; but
/// that is asked once for many that miss at once, and for refreshes that nobody waits for, so that
/// its hits are no count of reads: the misses find it in the share in which it has it.
pub(crate) fn hit_ratio(rate: impl Fn(&str) -> String) -> String {
    let reads = rate("tier=\"local\"");
    let found = rate("tier=\"local\",result=~\"hit|stale\"");
    let missed = rate("tier=\"local\",result=\"miss\"");
    let shared = rate("tier=\"remote\"");
    let shared_found = rate("tier=\"remote\",result=\"hit\"");
    format!(
        "(\n  (\n    {found}\n    or\n    0 * {reads}\n  )\n  +\n  (\n    {missed}\n    * ({shared_found}\n    / ({shared} > 0))\n    or\n    0 * {reads}\n  )\n)\n/\n({reads} > 0)"
    )
}

/// The name of that share.
fn cache_hits(window: Duration) -> String {
    format!("cache:cache_hits:ratio_rate{}", duration(window))
}

pub(super) fn group(plan: &Plan<'_>) -> Group {
    let (warning, critical) = plan.objectives.thresholds.cache_hit_ratio;
    let rate = |more: &str| {
        let rate = plan.rate("cache_requests_total", more, plan.short());
        format!("sum by (job, cache) ({rate})")
    };
    Group {
        name: "cache",
        records: vec![Record {
            name: cache_hits(plan.short()),
            expr: hit_ratio(rate),
            labels: Vec::new(),
        }],
        alerts: vec![
            low(plan, "CacheHitRatioLow", Severity::Warning, warning),
            low(plan, "CacheHitRatioCritical", Severity::Critical, critical),
        ],
    }
}

fn low(plan: &Plan<'_>, name: &'static str, severity: Severity, least: f64) -> Alert {
    let window = plan.short();
    let cache = ("cache", "users");
    let rising = |tier, result, n| {
        let labels = [cache, ("tier", tier), ("result", result)];
        Series::rising(plan.series("cache_requests_total", &labels), n)
    };
    let local = |reads: f64, hits: f64| {
        vec![
            rising("local", "hit", reads * hits),
            rising("local", "miss", reads * (1.0 - hits)),
        ]
    };
    // What the shared tier has of the misses: asked once for ten of them, or for refreshes as well.
    let high = f64::midpoint(least, 1.0);
    let missed = rising("local", "miss", 10_000.0);
    let asked = |times: f64, share: f64| {
        vec![
            missed.clone(),
            rising("remote", "hit", times * share),
            rising("remote", "miss", times * (1.0 - share)),
        ]
    };
    let fires = |series, ratio: f64| {
        vec![Example {
            series,
            labels: labels(plan, &[cache]),
            value: percent(number(ratio)),
        }]
    };
    Alert {
        name,
        severity,
        expr: format!(
            "{} < {least}\nand on (job, cache)\nsum by (job, cache) ({}) * {} >= {READS}",
            plan.select(&cache_hits(window), ""),
            plan.rate("cache_requests_total", "tier=\"local\"", window),
            window.as_secs_f64(),
        ),
        labels: Vec::new(),
        hold: plan.scaled(Duration::from_secs(600)),
        summary: "A cache finds too little.",
        description: format!(
            "{PERCENT} of the reads of the cache {{{{ $labels.cache }}}} of {{{{ $labels.job }}}} find a value, less than {}.",
            percent(least)
        ),
        runbook: "After a deployment it has to fill. Else compare evictions (too small), invalidations (too often) and the time to live on the dashboard.",
        fires: vec![
            fires(local(10_000.0, least / 2.0), least / 2.0),
            fires(vec![missed.clone()], 0.0),
            fires(asked(1000.0, least / 2.0), least / 2.0),
            fires(asked(100_000.0, least / 2.0), least / 2.0),
        ],
        silent: vec![
            ("it finds more", local(10_000.0, high)),
            ("the shared tier finds more", asked(1000.0, high)),
            ("nobody reads", local(0.0, 0.0)),
            ("few read", local(0.001, 0.0)),
        ],
    }
}
