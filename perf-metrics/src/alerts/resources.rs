//! Alerts on what the other crates of the family record, by the names of their metrics.

use std::time::Duration;

use super::plan::Plan;
use super::promql::{duration, percent};
use super::rule::{Alert, Example, Group, PERCENT, Record, SECONDS, Series, Severity, WHOLE};

const MINUTE: Duration = Duration::from_secs(60);

/// The name of the share of a pool's connections that are in use.
pub(crate) const POOL_USAGE: &str = "pool:db_client_connections:used_ratio";
/// The name of the number of jobs that wait in a queue.
pub(crate) const QUEUE_WAITING: &str = "queue:queue_depth:waiting";

pub(super) fn labels(
    plan: &Plan<'_>,
    more: &[(&'static str, &str)],
) -> Vec<(&'static str, String)> {
    let more = more
        .iter()
        .map(|(name, value)| (*name, (*value).to_owned()));
    [("job", plan.job.to_owned())]
        .into_iter()
        .chain(more)
        .collect()
}

pub(super) fn pool(plan: &Plan<'_>) -> Group {
    // Each process has its own connections; max is over series that should not be several.
    let by = "job, instance, pool";
    let used = plan.select("db_client_connections", "state=\"used\"");
    let max = plan.select("db_client_connections_max", "");
    let pending = plan.select("db_client_connections_pending_requests", "");
    let timeouts = plan.select("db_client_connections_timeouts_total", "");
    let usage = plan.select(POOL_USAGE, "");
    let most = plan.objectives.thresholds.pool_usage;
    let window = duration(plan.short());

    let pool = ("pool", "main");
    let instance = labels(plan, &[("instance", "a:1"), pool]);
    let constant = |metric: &str, more: &[(&str, &str)], value: f64| {
        let labels: Vec<_> = [pool].into_iter().chain(more.iter().copied()).collect();
        Series::constant(plan.series(metric, &labels), value)
    };
    let state = |used: f64, waiting: f64| {
        vec![
            constant("db_client_connections", &[("state", "used")], used),
            constant("db_client_connections", &[("state", "idle")], 1000.0 - used),
            constant("db_client_connections_max", &[], 1000.0),
            constant("db_client_connections_pending_requests", &[], waiting),
        ]
    };
    let gave_up = plan.series("db_client_connections_timeouts_total", &[pool]);
    let much = f64::midpoint(most, 1.0);
    let alerts = vec![
        Alert {
            name: "PoolNearlyExhausted",
            severity: Severity::Warning,
            expr: format!("{usage} > {most}"),
            labels: Vec::new(),
            hold: plan.scaled(5 * MINUTE),
            summary: "A pool has few connections left.",
            description: format!("{PERCENT} of the connections of the pool {{{{ $labels.pool }}}} of {{{{ $labels.job }}}} ({{{{ $labels.instance }}}}) are in use, more than {}.", percent(most)),
            runbook: "Look for transactions that got longer, and for connections that are held across other waits; then raise max_connections if the database has room.",
            fires: vec![vec![Example {
                series: state(1000.0 * much, 0.0),
                labels: instance.clone(),
                value: percent(much),
            }]],
            silent: vec![("connections are left", state(1000.0 * most, 0.0))],
        },
        Alert {
            name: "PoolExhausted",
            severity: Severity::Critical,
            expr: format!("{usage} >= 1\nand on ({by})\nsum by ({by}) ({pending}) > 0"),
            labels: Vec::new(),
            hold: plan.scaled(MINUTE),
            summary: "All connections of a pool are in use, and callers wait.",
            description: "All connections of the pool {{ $labels.pool }} of {{ $labels.job }} ({{ $labels.instance }}) are in use, and callers wait for one.".to_owned(),
            runbook: "Look for the statements that run the longest in the database and for locks; shorten transactions, then raise max_connections.",
            fires: vec![vec![Example {
                series: state(1000.0, 1.0),
                labels: instance.clone(),
                value: String::new(),
            }]],
            silent: vec![
                ("nobody waits", state(1000.0, 0.0)),
                ("connections are left", state(999.0, 1.0)),
            ],
        },
        Alert {
            name: "PoolCallersWait",
            severity: Severity::Warning,
            expr: format!("sum by ({by}) (avg_over_time({pending}[{window}])) >= 1"),
            labels: Vec::new(),
            hold: plan.scaled(5 * MINUTE),
            summary: "Callers wait for a connection of a pool most of the time.",
            description: format!("{WHOLE} callers wait for a connection of the pool {{{{ $labels.pool }}}} of {{{{ $labels.job }}}} ({{{{ $labels.instance }}}}), on average over {window}."),
            runbook: "The pool is too small for the load, or connections take long to open: compare the times to wait, to use and to create on the dashboard.",
            fires: vec![vec![Example {
                series: state(500.0, 2.0),
                labels: instance,
                value: "2".to_owned(),
            }]],
            silent: vec![("nobody waits", state(500.0, 0.0))],
        },
        Alert {
            name: "PoolTimeouts",
            severity: Severity::Critical,
            expr: format!("sum by (job, pool) (increase({timeouts}[{window}])) > 0"),
            labels: Vec::new(),
            hold: Duration::ZERO,
            summary: "Callers gave up waiting for a connection.",
            description: format!("In the last {window}, callers waited in vain for a connection of the pool {{{{ $labels.pool }}}} of {{{{ $labels.job }}}}."),
            runbook: "The error that they got says how many connections were in use and how many callers waited; look for what held the connections.",
            fires: vec![vec![Example {
                series: vec![Series::rising(gave_up.clone(), 1.0)],
                labels: labels(plan, &[pool]),
                value: String::new(),
            }]],
            silent: vec![("that was long ago", vec![Series::constant(gave_up, 9.0)])],
        },
    ];
    Group {
        name: "pool",
        records: vec![Record {
            name: POOL_USAGE.to_owned(),
            expr: format!("sum by ({by}) ({used})\n/\n(sum by ({by}) ({max}) > 0)"),
            labels: Vec::new(),
        }],
        alerts,
    }
}

pub(super) fn queue(plan: &Plan<'_>) -> Group {
    let thresholds = &plan.objectives.thresholds;
    // Processes that share a queue each show all of it.
    let depth = plan.select("queue_depth", "state=~\"ready|limited\"");
    let queue = ("queue", "mail");
    let fires = labels(plan, &[queue]);
    let depths = |ready: f64| {
        let state = |state, n| {
            let series = plan.series("queue_depth", &[queue, ("state", state)]);
            Series::constant(series, n)
        };
        vec![state("ready", ready), state("scheduled", 9_999_999.0)]
    };
    let deep = |name, severity, most: u64| Alert {
        name,
        severity,
        expr: format!("{} > {most}", plan.select(QUEUE_WAITING, "")),
        labels: Vec::new(),
        hold: plan.scaled(5 * MINUTE),
        summary: "Many jobs wait in a queue.",
        description: format!(
            "{WHOLE} jobs wait in the queue {{{{ $labels.queue }}}} of {{{{ $labels.job }}}}, more than {most}."
        ),
        runbook: "If all workers are busy, add workers or shorten the jobs; if jobs are held back by a rate limit, the limit is below what is enqueued.",
        fires: vec![vec![Example {
            series: depths((most + 1) as f64),
            labels: fires.clone(),
            value: (most + 1).to_string(),
        }]],
        silent: vec![("only jobs for later wait", depths(most as f64))],
    };
    let old = |name, severity, most: Duration| {
        let (metric, most) = ("queue_oldest_job_age_seconds", most.as_secs_f64());
        let age = |age| vec![Series::constant(plan.series(metric, &[queue]), age)];
        Alert {
            name,
            severity,
            expr: format!("max by (job, queue) ({}) > {most}", plan.select(metric, "")),
            labels: Vec::new(),
            hold: plan.scaled(MINUTE),
            summary: "A job waits for long in a queue.",
            description: format!(
                "The job that has been due the longest in the queue {{{{ $labels.queue }}}} of {{{{ $labels.job }}}} has waited for {SECONDS}."
            ),
            runbook: "If no job is processed, the workers hang or are gone; else there are too few of them, or a rate limit holds the jobs back.",
            fires: vec![vec![Example {
                series: age(most + 60.0),
                labels: fires.clone(),
                value: humanized(most + 60.0),
            }]],
            silent: vec![("it waits for less", age(most))],
        }
    };
    let alerts = vec![
        deep(
            "QueueDepthHigh",
            Severity::Warning,
            thresholds.queue_depth.0,
        ),
        deep(
            "QueueDepthCritical",
            Severity::Critical,
            thresholds.queue_depth.1,
        ),
        old("QueueAgeHigh", Severity::Warning, thresholds.queue_age.0),
        old(
            "QueueAgeCritical",
            Severity::Critical,
            thresholds.queue_age.1,
        ),
    ];
    Group {
        name: "queue",
        records: vec![Record {
            name: QUEUE_WAITING.to_owned(),
            expr: format!("max by (job, queue) (\n  sum by (job, instance, queue) ({depth})\n)"),
            labels: Vec::new(),
        }],
        alerts,
    }
}

/// Seconds as Prometheus's `humanizeDuration` writes them.
fn humanized(seconds: f64) -> String {
    let whole = seconds as u64;
    let (days, hours) = (whole / 86_400, whole / 3600 % 24);
    let (minutes, rest) = (whole / 60 % 60, whole % 60);
    match whole {
        86_400.. => format!("{days}d {hours}h {minutes}m {rest}s"),
        3600.. => format!("{hours}h {minutes}m {rest}s"),
        60.. => format!("{minutes}m {rest}s"),
        _ => format!("{rest}s"),
    }
}
