use std::time::Duration;

use super::plan::{BY_ROUTE, Plan, Scope};
use super::promql::{bucket, duration, percent};
use super::rule::{Alert, Example, Group, PERCENT, Record, Series, Severity};
use crate::budget::{Limit, TIME_LIMITS, requests_to_judge};
use crate::timing::{METHOD, REQUEST_DURATION, ROUTE, STATUS};

/// From what share of slow requests on it is critical, whatever the quantile.
const HALF: f64 = 0.5;

/// The name of the share of the requests that took longer than their budget says, by `limit`.
pub(crate) fn over_budget(window: Duration) -> String {
    format!(
        "route:http_server_over_budget:ratio_rate{}",
        duration(window)
    )
}

pub(super) fn group(plan: &Plan<'_>) -> Group {
    let mut group = Group {
        name: "latency",
        records: Vec::new(),
        alerts: Vec::new(),
    };
    for limit in TIME_LIMITS {
        let budgets = plan.objectives.all().filter_map(|budget| {
            let (_, time) = budget.times().find(|(it, _)| *it == limit)?;
            Some((plan.scope(budget), time))
        });
        let budgets: Vec<_> = budgets.collect();
        let Some(allowed) = limit.allowed().filter(|_| !budgets.is_empty()) else {
            continue;
        };
        group.records.push(record(plan, limit, &budgets));
        group.alerts.push(broken(plan, limit, allowed, &budgets));
        if allowed < HALF {
            group.alerts.push(critical(plan, limit, allowed, &budgets));
        }
    }
    group
}

fn count(plan: &Plan<'_>, more: &str) -> String {
    let name = format!("{REQUEST_DURATION}_count");
    format!(
        "sum by ({BY_ROUTE}) ({})",
        plan.rate(&name, more, plan.short())
    )
}

/// Counted by the bucket that each budget's time has, and so exact.
fn record(plan: &Plan<'_>, limit: Limit, budgets: &[Of]) -> Record {
    let over = budgets.iter().map(|(scope, time)| {
        let comma = if scope.matchers.is_empty() { "" } else { "," };
        let matchers = format!("{}{comma}{}", scope.matchers, bucket(time.as_secs_f64()));
        let name = format!("{REQUEST_DURATION}_bucket");
        let within = plan.rate(&name, &matchers, plan.short());
        let all = count(plan, &scope.matchers);
        let except = scope.except(plan, &format!("{REQUEST_DURATION}_count"), BY_ROUTE);
        let over =
            format!("(\n  {all}\n  -\n  sum by ({BY_ROUTE}) ({within})\n)\n/\n({all} > 0){except}");
        format!("(\n  {}\n)", over.replace('\n', "\n  "))
    });
    Record {
        name: over_budget(plan.short()),
        expr: over.collect::<Vec<_>>().join("\nor\n"),
        labels: vec![("limit", limit.as_str().to_owned())],
    }
}

type Of = (Scope, Duration);

fn broken(plan: &Plan<'_>, limit: Limit, allowed: f64, budgets: &[Of]) -> Alert {
    let mut alert = alert(plan, limit, allowed, budgets);
    for of in budgets {
        let kept = times(plan, of, allowed / 2.0);
        alert.silent.push(("the budget is kept", kept));
    }
    if let Some(of) = budgets.first() {
        alert.silent.extend([
            ("there are no requests", idle(plan, of, 0.0)),
            ("a single request was slow", idle(plan, of, 1e-9)),
        ]);
    }
    alert
}

fn critical(plan: &Plan<'_>, limit: Limit, allowed: f64, budgets: &[Of]) -> Alert {
    let mut alert = alert(plan, limit, HALF, budgets);
    alert.severity = Severity::Critical;
    alert.name = "HttpLatencyCritical";
    alert.summary = "Most requests to a route take longer than its budget of time.";
    for of in budgets {
        let a_few = times(plan, of, allowed * 3.0);
        alert.silent.push(("the budget is broken by a few", a_few));
    }
    alert
}

fn alert(plan: &Plan<'_>, limit: Limit, most: f64, budgets: &[Of]) -> Alert {
    let window = plan.short();
    let name = limit.as_str();
    let slow = most + (1.0 - most) / 4.0;
    let example = |of: &Of| {
        let mut labels = of.0.labels(plan);
        labels.push(("limit", name.to_owned()));
        Example {
            series: times(plan, of, slow),
            labels,
            value: percent(slow),
        }
    };
    Alert {
        name: "HttpLatencyBudgetBroken",
        severity: Severity::Warning,
        expr: format!(
            "{} > {most}\nand on ({BY_ROUTE})\n{} * {} >= {}",
            plan.select(&over_budget(window), &format!("limit=\"{name}\"")),
            count(plan, ""),
            window.as_secs_f64(),
            requests_to_judge(limit.allowed().unwrap_or(most)),
        ),
        labels: vec![("limit", name.to_owned())],
        hold: plan.scaled(Duration::from_secs(300)),
        summary: "A route takes longer than its budget of time.",
        description: format!(
            "{PERCENT} of the requests to {{{{ $labels.{METHOD} }}}} {{{{ $labels.{ROUTE} }}}} of {{{{ $labels.job }}}} take longer than its budget says for {name}, which is for {} of them at most.",
            percent(limit.allowed().unwrap_or(most))
        ),
        runbook: "See on the dashboard whether the route waits (for connections of the pool, for the queue, for a CPU) or works (queries, loads of a cache), and since when.",
        fires: budgets.iter().map(example).collect(),
        silent: Vec::new(),
    }
}

/// Many requests of which a share takes longer than `time`.
fn times(plan: &Plan<'_>, (scope, time): &Of, slow: f64) -> Vec<Series> {
    let all = 10_000.0;
    let (method, route) = scope.example();
    let labels = [(METHOD, method), (ROUTE, route), (STATUS, "200")];
    let bound = time.as_secs_f64().to_string();
    let [method, route, status] = labels;
    let bucket = [method, route, status, ("le", bound.as_str())];
    let series =
        |name: &str, labels: &[_]| plan.series(&format!("{REQUEST_DURATION}_{name}"), labels);
    vec![
        Series::rising(series("count", &labels), all),
        Series::rising(series("bucket", &bucket), all * (1.0 - slow)),
    ]
}

/// Next to no requests, all of them slow.
fn idle(plan: &Plan<'_>, of: &Of, step: f64) -> Vec<Series> {
    let mut series = times(plan, of, 1.0);
    for it in &mut series {
        it.first = 1000.0;
        it.step = step;
    }
    if let Some(bucket) = series.get_mut(1) {
        bucket.step = 0.0;
    }
    series
}
