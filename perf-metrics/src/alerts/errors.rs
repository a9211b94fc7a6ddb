use std::collections::BTreeSet;
use std::time::Duration;

use super::plan::{BY_ROUTE, Plan, Scope};
use super::promql::{duration, number, percent};
use super::rule::{Alert, Example, Group, PERCENT, Record, Series, Severity};
use crate::budget::requests_to_judge;
use crate::timing::{
    METHOD, REASON, REQUEST_DURATION, REQUESTS_ABORTED, RESPONSE_DURATION, ROUTE, STATUS,
};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// How fast a budget of errors is used up, over two windows: the long one makes sure that it is
/// worth an alert, the short one that it is still so.
struct Burn {
    alert: &'static str,
    severity: Severity,
    /// How many times as many errors as the budget allows.
    factor: f64,
    long: Duration,
    short: Duration,
    hold: Duration,
    summary: &'static str,
}

/// Those of the SRE workbook, chapter "Alerting on SLOs": 2% of a month's budget in an hour, 5% in
/// six hours, 10% in three days.
const BURNS: [Burn; 3] = [
    Burn {
        alert: "HttpErrorBudgetBurnsFast",
        severity: Severity::Critical,
        factor: 14.4,
        long: HOUR,
        short: Duration::from_secs(5 * 60),
        hold: Duration::from_secs(2 * 60),
        summary: "A route uses up a month's budget of errors within two days.",
    },
    Burn {
        alert: "HttpErrorBudgetBurns",
        severity: Severity::Critical,
        factor: 6.0,
        long: Duration::from_secs(6 * 3600),
        short: Duration::from_secs(30 * 60),
        hold: Duration::from_secs(15 * 60),
        summary: "A route uses up a month's budget of errors within five days.",
    },
    Burn {
        alert: "HttpErrorBudgetBurnsSlowly",
        severity: Severity::Warning,
        factor: 1.0,
        long: Duration::from_secs(3 * 86_400),
        short: Duration::from_secs(6 * 3600),
        hold: Duration::from_secs(30 * 60),
        summary: "A route fails more often than its budget allows.",
    },
];

/// A share of errors beyond which no burn rate goes: a factor of a large budget would come to more
/// than all requests.
const MOST: f64 = 0.9;

fn count() -> String {
    format!("{RESPONSE_DURATION}_count")
}

/// Of the requests that got headers, whatever became of the body: a 5xx status is an error even if
/// its body is dropped.
fn answered() -> String {
    format!("{REQUEST_DURATION}_count")
}

/// The name of the rate of all requests that ended, whatever way.
pub(crate) fn requests(window: Duration) -> String {
    format!("route:http_server_requests:rate{}", duration(window))
}

/// The name of the share of these that failed.
pub(crate) fn ratio(window: Duration) -> String {
    format!("route:http_server_errors:ratio_rate{}", duration(window))
}

pub(super) fn group(plan: &Plan<'_>) -> Group {
    let mut windows = BTreeSet::from([plan.short()]);
    for burn in &BURNS {
        windows.extend([plan.window(burn.long), plan.window(burn.short)]);
    }
    let mut records: Vec<Record> = windows
        .into_iter()
        .flat_map(|window| records(plan, window))
        .collect();
    let (ratio, requests) = (ratio(plan.short()), requests(plan.short()));
    records.push(Record {
        name: of_all(plan),
        expr: format!(
            "sum by (job) ({0} * {1})\n/\n(sum by (job) ({1}) > 0)",
            plan.select(&ratio, ""),
            plan.select(&requests, "")
        ),
        labels: Vec::new(),
    });
    let mut alerts = vec![error_ratio(plan)];
    let budgets = plan.objectives.all();
    let budgets: Vec<(Scope, f64)> = budgets
        .filter_map(|budget| Some((plan.scope(budget), budget.errors?)))
        .collect();
    if !budgets.is_empty() {
        alerts.extend(BURNS.iter().map(|burn| burn.alert(plan, &budgets)));
    }
    Group {
        name: "errors",
        records,
        alerts,
    }
}

fn of_all(plan: &Plan<'_>) -> String {
    format!(
        "job:http_server_errors:ratio_rate{}",
        duration(plan.short())
    )
}

/// The requests by route, and the share of them that failed. What completes and what is aborted
/// have different labels, so that `or` is all of both. A response may fail twice, by its status and
/// in its body, or before it has ended.
fn records(plan: &Plan<'_>, window: Duration) -> [Record; 2] {
    let all = requests(window);
    let rate = |metric: &str, more: &str| plan.rate(metric, more, window);
    let ended = format!(
        "sum by ({BY_ROUTE}) (\n  {}\n  or\n  {}\n)",
        rate(&count(), ""),
        rate(REQUESTS_ABORTED, "")
    );
    let failed = format!(
        "sum by ({BY_ROUTE}) (\n    {}\n    or\n    {}\n  )",
        rate(&answered(), &format!("{STATUS}=~\"5..\"")),
        rate(REQUESTS_ABORTED, &format!("{REASON}!=\"dropped\""))
    );
    let of_all = plan.select(&all, "");
    [
        Record {
            name: all,
            expr: ended,
            labels: Vec::new(),
        },
        Record {
            name: ratio(window),
            expr: format!(
                "clamp_max(\n  (\n    {failed}\n    or\n    0 * {of_all}\n  )\n  /\n  ({of_all} > 0),\n  1\n)"
            ),
            labels: Vec::new(),
        },
    ]
}

/// More than so many of the requests of the whole service fail.
fn error_ratio(plan: &Plan<'_>) -> Alert {
    let (window, most) = (plan.short(), plan.objectives.thresholds.error_ratio);
    let (errors, requests) = (of_all(plan), requests(window));
    let least = requests_to_judge(most);
    let share = f64::midpoint(most, 1.0);
    let example = ("GET", "/some");
    Alert {
        name: "HttpErrorRatioHigh",
        severity: Severity::Critical,
        expr: format!(
            "{} > {most}\nand\nsum by (job) ({}) * {} >= {least}",
            plan.select(&errors, ""),
            plan.select(&requests, ""),
            window.as_secs_f64()
        ),
        labels: Vec::new(),
        hold: plan.scaled(5 * MINUTE),
        summary: "Too many requests fail.",
        description: format!(
            "{PERCENT} of all requests to {{{{ $labels.job }}}} fail, more than {}.",
            percent(most)
        ),
        runbook: "Look at the errors by route on the dashboard and in the log, and at what was deployed last; roll that back if it began then.",
        fires: vec![vec![Example {
            series: statuses(plan, example, share),
            labels: vec![("job", plan.job.to_owned())],
            value: percent(share),
        }]],
        silent: vec![
            ("the errors are few", statuses(plan, example, most / 2.0)),
            ("there are no requests", idle(plan, example)),
            ("a single request failed", single(plan, example)),
        ],
    }
}

impl Burn {
    /// One alert for all budgets: each allows another share, and for requests of its own.
    fn alert(&self, plan: &Plan<'_>, budgets: &[(Scope, f64)]) -> Alert {
        let (long, short) = (plan.window(self.long), plan.window(self.short));
        let burning = budgets.iter().map(|(scope, budget)| {
            let (select, most) = (
                |metric: &str| plan.select(metric, &scope.matchers),
                self.most(*budget),
            );
            let burning = format!(
                "{} > {most}\nand\n{} > {most}\nand\n{} * {} >= {}{}",
                select(&ratio(long)),
                select(&ratio(short)),
                select(&requests(long)),
                long.as_secs_f64(),
                requests_to_judge(most),
                scope.except(plan, &requests(long), BY_ROUTE),
            );
            format!("(\n  {}\n)", burning.replace('\n', "\n  "))
        });
        let kept = budgets
            .iter()
            .flat_map(|(scope, budget)| statuses(plan, scope.example(), budget / 2.0));
        let mut silent = vec![("the budgets are kept", kept.collect())];
        if let Some((scope, _)) = budgets.first() {
            silent.push(("there are no requests", idle(plan, scope.example())));
            silent.push(("a single request failed", single(plan, scope.example())));
        }
        let fires = |(scope, budget): &(Scope, f64)| {
            let share = f64::midpoint(self.most(*budget), 1.0);
            Example {
                series: statuses(plan, scope.example(), share),
                labels: scope.labels(plan),
                value: percent(share),
            }
        };
        Alert {
            name: self.alert,
            severity: self.severity,
            expr: burning.collect::<Vec<_>>().join("\nor\n"),
            labels: Vec::new(),
            hold: plan.scaled(self.hold),
            summary: self.summary,
            description: format!(
                "{PERCENT} of the requests to {{{{ $labels.{METHOD} }}}} {{{{ $labels.{ROUTE} }}}} of {{{{ $labels.job }}}} failed in the last {}, and about as many in the last {}: over {} times what its budget allows, or over {}.",
                duration(long),
                duration(short),
                self.factor,
                percent(MOST),
            ),
            runbook: "Look at the status codes and aborts of the route on the dashboard, and for its errors in the log; what they have in common is the cause.",
            fires: vec![budgets.iter().map(fires).collect()],
            silent,
        }
    }

    /// The share of errors from which on a budget burns at this rate.
    fn most(&self, budget: f64) -> f64 {
        number((budget * self.factor).min(MOST).max(budget))
    }
}

/// Many requests of which a share fails: a third by a status, a third by one whose body is dropped,
/// and a third by a panic.
fn statuses(plan: &Plan<'_>, (method, route): (&str, &str), failing: f64) -> Vec<Series> {
    let all = 10_000.0;
    let of = |status| {
        let labels = [(METHOD, method), (ROUTE, route), (STATUS, status)];
        plan.series(&count(), &labels)
    };
    let panics = [
        (METHOD, method),
        (ROUTE, route),
        ("phase", "headers"),
        (REASON, "panic"),
    ];
    let dropped = [
        (METHOD, method),
        (ROUTE, route),
        ("phase", "body"),
        (REASON, "dropped"),
    ];
    let third = all * failing / 3.0;
    let of_500 = [(METHOD, method), (ROUTE, route), (STATUS, "500")];
    vec![
        Series::rising(of("200"), all - 3.0 * third),
        Series::rising(of("500"), third),
        Series::rising(plan.series(&answered(), &of_500), 2.0 * third),
        Series::rising(plan.series(REQUESTS_ABORTED, &dropped), third),
        Series::rising(plan.series(REQUESTS_ABORTED, &panics), third),
    ]
}

fn idle(plan: &Plan<'_>, example: (&str, &str)) -> Vec<Series> {
    let mut series = statuses(plan, example, 0.5);
    for it in &mut series {
        (it.first, it.step) = (1000.0, 0.0);
    }
    series
}

/// So few that not even all of them are as many as it takes.
fn single(plan: &Plan<'_>, example: (&str, &str)) -> Vec<Series> {
    let mut series = idle(plan, example);
    for errors in series.iter_mut().skip(1).take(2) {
        errors.step = 1e-9;
    }
    series
}
