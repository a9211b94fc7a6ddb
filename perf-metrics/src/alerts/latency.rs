use std::time::Duration;

use super::plan::{BY_ROUTE, Plan, Scope};
use super::promql::{bucket, duration, percent};
use super::rule::{Alert, Example, Group, PERCENT, Record, Series, Severity};
use crate::budget::{Limit, TIME_LIMITS};
use crate::recorder::le;
use crate::timing::{METHOD, REQUEST_DURATION, ROUTE, STATUS};

/// From what share of slow requests on it is critical, whatever the quantile.
const HALF: f64 = 0.5;

/// How many slow requests it takes for a warning: more than one.
const SLOW: f64 = 2.0;
/// How many it takes to be critical.
const MANY: f64 = 5.0;

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
    let mut all = Vec::new();
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
        all.extend(budgets);
    }
    if !all.is_empty() {
        group.alerts.push(unknown(plan, &all));
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
    // By series, before they are added up: while a changed budget is being rolled out, some
    // instances have the bucket and some do not, and only the former can be judged.
    let over = budgets.iter().map(|of| {
        let window = plan.short();
        let name = format!("{REQUEST_DURATION}_bucket");
        let within = plan.rate(&name, &within(of), window);
        let count = format!("{REQUEST_DURATION}_count");
        let all = plan.rate(&count, &of.0.matchers, window);
        let except = of.0.except(plan, &count, BY_ROUTE);
        let over = format!(
            "sum by ({BY_ROUTE}) (\n  {all}\n  - ignoring (le)\n  {within}\n)\n/\n(sum by ({BY_ROUTE}) (\n  {all}\n  and ignoring (le)\n  {within}\n) > 0){except}"
        );
        format!("(\n  {}\n)", over.replace('\n', "\n  "))
    });
    Record {
        name: over_budget(plan.short()),
        expr: over.collect::<Vec<_>>().join("\nor\n"),
        labels: vec![("limit", limit.as_str().to_owned())],
    }
}

type Of = (Scope, Duration);

/// The matchers of the bucket of a budget's time.
fn within((scope, time): &Of) -> String {
    let comma = if scope.matchers.is_empty() { "" } else { "," };
    format!("{}{comma}{}", scope.matchers, bucket(time.as_secs_f64()))
}

/// An instance whose requests are counted, but not those within a budget's time: it has other
/// budgets than those that the rules were made from.
fn unknown(plan: &Plan<'_>, budgets: &[Of]) -> Alert {
    let (count, bucket) = (
        format!("{REQUEST_DURATION}_count"),
        format!("{REQUEST_DURATION}_bucket"),
    );
    let without = budgets.iter().map(|of| {
        let all = plan.select(&count, &of.0.matchers);
        let except = of.0.except(plan, &count, BY_ROUTE);
        let within = plan.select(&bucket, &within(of));
        format!(
            "count by (job, instance) (\n  {all}\n  unless ignoring (le)\n  {within}{except}\n)"
        )
    });
    let unknown = |of: &Of| times(plan, of, 0.0).into_iter().take(1).collect();
    let mut known: Vec<_> = budgets.iter().flat_map(|it| times(plan, it, 0.0)).collect();
    known.sort_by(|a, b| a.name.cmp(&b.name));
    known.dedup_by(|a, b| a.name == b.name);
    let example = |of: &Of| Example {
        series: unknown(of),
        labels: vec![("job", plan.job.to_owned()), ("instance", "a:1".to_owned())],
        value: String::new(),
    };
    Alert {
        name: "HttpBudgetUnknown",
        severity: Severity::Warning,
        expr: without.collect::<Vec<_>>().join("\nor\n"),
        labels: Vec::new(),
        hold: plan.scaled(Duration::from_secs(900)),
        summary: "An instance has other budgets than these rules.",
        description: "{{ $labels.instance }} of {{ $labels.job }} does not export a time of the budgets that these rules were made from, so that its requests are not judged by it.".to_owned(),
        runbook: "End the rollout, or make the rules again from the budgets of what runs.",
        // One at a time: all of them are one alert of the instance.
        fires: budgets.iter().map(|of| vec![example(of)]).collect(),
        silent: vec![("the times are exported", known)],
    }
}

fn broken(plan: &Plan<'_>, limit: Limit, allowed: f64, budgets: &[Of]) -> Alert {
    let mut alert = alert(plan, limit, (allowed, SLOW), budgets);
    let kept = budgets.iter().flat_map(|of| times(plan, of, allowed / 2.0));
    alert.silent.push(("the budgets are kept", kept.collect()));
    if let Some(of) = budgets.first() {
        alert.silent.extend([
            ("there are no requests", idle(plan, of, 0.0)),
            ("a single request was slow", idle(plan, of, 1e-9)),
            (
                "an instance does not export the time yet",
                half_rolled_out(plan, of, allowed / 2.0),
            ),
        ]);
        let slow = f64::midpoint(allowed, 1.0);
        let mut labels = of.0.labels(plan);
        labels.push(("limit", limit.as_str().to_owned()));
        alert.fires.push(vec![Example {
            series: half_rolled_out(plan, of, slow),
            labels,
            value: percent(slow),
        }]);
    }
    alert
}

fn critical(plan: &Plan<'_>, limit: Limit, allowed: f64, budgets: &[Of]) -> Alert {
    let mut alert = alert(plan, limit, (HALF, MANY), budgets);
    alert.severity = Severity::Critical;
    alert.name = "HttpLatencyCritical";
    alert.summary = "Most requests to a route take longer than its budget of time.";
    let a_few = budgets.iter().flat_map(|of| times(plan, of, allowed * 3.0));
    alert
        .silent
        .push(("the budgets are broken by a few", a_few.collect()));
    alert
}

fn alert(plan: &Plan<'_>, limit: Limit, (most, least): (f64, f64), budgets: &[Of]) -> Alert {
    let window = plan.short();
    let over = plan.select(
        &over_budget(window),
        &format!("limit=\"{}\"", limit.as_str()),
    );
    // A test has five samples in a window.
    let few = |requests: f64| budgets.first().map(|of| idle(plan, of, requests / 5.0));
    let name = limit.as_str();
    let slow = most + (1.0 - most) / 4.0;
    let labels = |of: &Of| {
        let mut labels = of.0.labels(plan);
        labels.push(("limit", name.to_owned()));
        labels
    };
    let example = |of: &Of| Example {
        series: times(plan, of, slow),
        labels: labels(of),
        value: percent(slow),
    };
    let slow = budgets.first().zip(few(least * 1.5));
    let slow = slow.map(|(of, series)| Example {
        series,
        labels: labels(of),
        value: percent(1.0),
    });
    Alert {
        name: "HttpLatencyBudgetBroken",
        severity: Severity::Warning,
        expr: format!(
            "{over} > {most}\nand on ({BY_ROUTE})\n{over} * on ({BY_ROUTE}) {} * {} >= {least}",
            count(plan, ""),
            window.as_secs_f64(),
        ),
        labels: vec![("limit", name.to_owned())],
        hold: plan.scaled(Duration::from_secs(300)),
        summary: "A route takes longer than its budget of time.",
        description: format!(
            "{PERCENT} of the requests to {{{{ $labels.{METHOD} }}}} {{{{ $labels.{ROUTE} }}}} of {{{{ $labels.job }}}} take longer than its budget says for {name}, which is for {} of them at most.",
            percent(limit.allowed().unwrap_or(most))
        ),
        runbook: "See on the dashboard whether the route waits (for connections of the pool, for the queue, for a CPU) or works (queries, loads of a cache), and since when.",
        fires: [budgets.iter().map(example).collect()]
            .into_iter()
            .chain(slow.map(|it| vec![it]))
            .collect(),
        silent: few(least / 2.0)
            .map(|series| ("only a few were slow", series))
            .into_iter()
            .collect(),
    }
}

/// Many requests of which a share takes longer than `time`.
fn times(plan: &Plan<'_>, (scope, time): &Of, slow: f64) -> Vec<Series> {
    let all = 10_000.0;
    let (method, route) = scope.example();
    let labels = [(METHOD, method), (ROUTE, route), (STATUS, "200")];
    let bound = le(time.as_secs_f64());
    let [method, route, status] = labels;
    let bucket = [method, route, status, ("le", bound.as_str())];
    let series =
        |name: &str, labels: &[_]| plan.series(&format!("{REQUEST_DURATION}_{name}"), labels);
    vec![
        Series::rising(series("count", &labels), all),
        Series::rising(series("bucket", &bucket), all * (1.0 - slow)),
    ]
}

/// Two instances, of which only one exports the bucket of the time.
fn half_rolled_out(plan: &Plan<'_>, of: &Of, slow: f64) -> Vec<Series> {
    let new = times(plan, of, slow);
    let old = new.first().map(|count| Series {
        name: count.name.replace("instance=\"a:1\"", "instance=\"b:1\""),
        ..count.clone()
    });
    old.into_iter().chain(new).collect()
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
