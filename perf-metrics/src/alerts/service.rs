use std::time::Duration;

use super::plan::{BY_ROUTE, Plan};
use super::promql::{duration, percent};
use super::rule::{Alert, Example, Group, PERCENT, Series, Severity, WHOLE};
use super::unanswered::UNANSWERED;
use crate::budget::Budget;
use crate::timing::{
    ACTIVE_REQUESTS, METHOD, PHASE, REASON, REQUESTS_ABORTED, RESPONSE_DURATION, ROUTE, STATUS,
};

const MINUTE: Duration = Duration::from_secs(60);

pub(super) fn group(plan: &Plan<'_>) -> Group {
    let (warning, critical) = plan.objectives.thresholds.memory_usage;
    Group {
        name: "service",
        records: Vec::new(),
        alerts: vec![
            absent(plan),
            down(plan),
            stuck(plan),
            memory(plan, "ProcessMemoryHigh", Severity::Warning, warning),
            memory(plan, "ProcessMemoryCritical", Severity::Critical, critical),
        ],
    }
}

/// Without it, a job of another name would mean alerts that never fire, and nobody who knows.
fn absent(plan: &Plan<'_>) -> Alert {
    let up = plan.select("up", "");
    let series = |up| vec![Series::constant(plan.series("up", &[]), up)];
    Alert {
        name: "ServiceAbsent",
        severity: Severity::Critical,
        expr: format!("max by (job) ({up}) == 0\nor\nabsent({up})"),
        labels: Vec::new(),
        hold: plan.scaled(5 * MINUTE),
        summary: "No instance of the service can be scraped.",
        description:
            "Prometheus reaches no target of the job {{ $labels.job }}, or has no such job."
                .to_owned(),
        runbook: "Start the service if it is down. If it runs, compare the job's name, its targets and the token of its endpoints in Prometheus's configuration.",
        fires: vec![vec![Example {
            series: Vec::new(),
            labels: vec![("job", plan.job.to_owned())],
            value: String::new(),
        }]],
        silent: vec![("an instance is up", series(1.0))],
    }
}

fn down(plan: &Plan<'_>) -> Alert {
    let of = |up| vec![Series::constant(plan.series("up", &[]), up)];
    Alert {
        name: "InstanceDown",
        severity: Severity::Warning,
        expr: format!("max by (job, instance) ({}) == 0", plan.select("up", "")),
        labels: Vec::new(),
        hold: plan.scaled(5 * MINUTE),
        summary: "An instance of the service cannot be scraped.",
        description:
            "Prometheus does not reach {{ $labels.instance }} of the job {{ $labels.job }}."
                .to_owned(),
        runbook: "Look at whether it runs, and at the error of the target in Prometheus. If it is gone for good, remove the target.",
        fires: vec![vec![Example {
            series: of(0.0),
            labels: vec![("job", plan.job.to_owned()), ("instance", "a:1".to_owned())],
            value: String::new(),
        }]],
        silent: vec![("it is up", of(1.0)), ("there is no such job", Vec::new())],
    }
}

/// A hang leaves no sample in any histogram.
fn stuck(plan: &Plan<'_>) -> Alert {
    let window = plan.short();
    // Other instances answer while one hangs.
    let by = format!("{BY_ROUTE}, instance");
    let scope = plan.outside(Budget::is_empty);
    let comma = if scope.matchers.is_empty() { "" } else { "," };
    let ended = |metric: &str, more: &str| {
        let series = plan.select(metric, &format!("{}{comma}{more}", scope.matchers));
        format!("increase({series}[{}])", duration(window))
    };
    // One that is dropped before its headers has ended, but got no further than those that hang.
    let [(phase, headers), (reason, dropped)] = UNANSWERED;
    let (method, route) = scope.example();
    let (method, route) = ((METHOD, method), (ROUTE, route));
    let active = plan.series(ACTIVE_REQUESTS, &[method, route]);
    let count = format!("{RESPONSE_DURATION}_count");
    let count = plan.series(&count, &[method, route, (STATUS, "200")]);
    let aborted = |phase, reason| {
        let labels = [method, route, (PHASE, phase), (REASON, reason)];
        plan.series(REQUESTS_ABORTED, &labels)
    };
    let other = count.replace("instance=\"a:1\"", "instance=\"b:1\"");
    let mut labels = scope.labels(plan);
    labels.push(("instance", "a:1".to_owned()));
    Alert {
        name: "HttpRequestsStuck",
        severity: Severity::Warning,
        expr: format!(
            "sum by ({by}) (min_over_time({}[{}])) > 0\nunless\nsum by ({by}) (\n  {}\n  or\n  {}\n  or\n  {}\n) > 0{}",
            plan.select(ACTIVE_REQUESTS, &scope.matchers),
            duration(window),
            ended(&format!("{RESPONSE_DURATION}_count"), ""),
            ended(REQUESTS_ABORTED, &format!("{phase}!=\"{headers}\"")),
            ended(REQUESTS_ABORTED, &format!("{reason}!=\"{dropped}\"")),
            scope.except(plan, ACTIVE_REQUESTS, &by),
        ),
        labels: Vec::new(),
        hold: plan.scaled(5 * MINUTE),
        summary: "Requests to a route do not end.",
        description: format!(
            "{WHOLE} requests or more are in flight to {{{{ $labels.{METHOD} }}}} {{{{ $labels.{ROUTE} }}}} of {{{{ $labels.job }}}} ({{{{ $labels.instance }}}}), and in the last {} none has ended but those that were given up.",
            duration(window)
        ),
        runbook: "Look for what the route waits for: a lock, a connection, a service without a timeout. If it streams, give it a budget without limits, which exempts it.",
        fires: [0.0, 100.0]
            .map(|dropped| {
                vec![Example {
                    series: vec![
                        Series::constant(active.clone(), 3.0),
                        Series::constant(count.clone(), 7.0),
                        Series::rising(aborted("headers", "dropped"), dropped),
                        Series::rising(other.clone(), 100.0),
                    ],
                    labels: labels.clone(),
                    value: "3".to_owned(),
                }]
            })
            .into(),
        silent: vec![
            (
                "requests end in their body",
                vec![
                    Series::constant(active.clone(), 3.0),
                    Series::rising(aborted("body", "dropped"), 1.0),
                ],
            ),
            (
                "requests fail",
                vec![
                    Series::constant(active.clone(), 3.0),
                    Series::rising(aborted("headers", "panic"), 1.0),
                ],
            ),
            (
                "requests end",
                vec![
                    Series::constant(active.clone(), 3.0),
                    Series::rising(count.clone(), 1.0),
                ],
            ),
            (
                "none is in flight",
                vec![Series::constant(active, 0.0), Series::constant(count, 7.0)],
            ),
        ],
    }
}

fn memory(plan: &Plan<'_>, name: &'static str, severity: Severity, most: f64) -> Alert {
    let metric = "process_memory_usage_ratio";
    let used = |ratio| vec![Series::constant(plan.series(metric, &[]), ratio)];
    let high = f64::midpoint(most, 1.0);
    Alert {
        name,
        severity,
        expr: format!(
            "max by (job, instance) ({}) > {most}",
            plan.select(metric, "")
        ),
        labels: Vec::new(),
        hold: plan.scaled(5 * MINUTE),
        summary: "The process uses much of the memory that it may use.",
        description: format!(
            "{{{{ $labels.instance }}}} of {{{{ $labels.job }}}} uses {PERCENT} of its memory, more than {}; at all of it the system kills it.",
            percent(most)
        ),
        runbook: "See on the dashboard whether it grows for ever (a leak: restart, and look for what grows) or with the load (bound the caches and queues, or raise the limit).",
        fires: vec![vec![Example {
            series: used(high),
            labels: vec![("job", plan.job.to_owned()), ("instance", "a:1".to_owned())],
            value: percent(high),
        }]],
        silent: vec![("it uses less", used(most))],
    }
}
