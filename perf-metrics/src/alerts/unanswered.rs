//! Requests that nobody answers: whoever asks gives up before the headers, so that they have no
//! status and no time.

use std::time::Duration;

use super::errors::requests;
use super::plan::{BY_ROUTE, Plan, Scope};
use super::promql::percent;
use super::rule::{Alert, Example, Group, PERCENT, Series, Severity};
use crate::budget::{Budget, UNANSWERED_TO_JUDGE};
use crate::timing::{METHOD, PHASE, REASON, REQUESTS_ABORTED, RESPONSE_DURATION, ROUTE, STATUS};

/// Of the requests that were dropped before their headers.
pub(super) const UNANSWERED: [(&str, &str); 2] = [(PHASE, "headers"), (REASON, "dropped")];

pub(super) fn group(plan: &Plan<'_>) -> Group {
    let (warning, critical) = plan.objectives.thresholds.unanswered_ratio;
    Group {
        name: "unanswered",
        records: Vec::new(),
        alerts: vec![
            alert(plan, "HttpUnansweredHigh", Severity::Warning, warning),
            alert(plan, "HttpUnansweredCritical", Severity::Critical, critical),
        ],
    }
}

fn alert(plan: &Plan<'_>, name: &'static str, severity: Severity, most: f64) -> Alert {
    let window = plan.short();
    let scope = plan.outside(Budget::is_empty);
    let comma = if scope.matchers.is_empty() { "" } else { "," };
    let [(phase, headers), (reason, dropped)] = UNANSWERED;
    let matchers = format!(
        "{}{comma}{phase}=\"{headers}\",{reason}=\"{dropped}\"",
        scope.matchers
    );
    let all = plan.select(&requests(window), &scope.matchers);
    let share = f64::midpoint(most, 1.0);
    Alert {
        name,
        severity,
        expr: format!(
            "sum by ({BY_ROUTE}) ({})\n/\n({all} > 0) > {most}\nand\n{all} * {} >= {UNANSWERED_TO_JUDGE}{}",
            plan.rate(REQUESTS_ABORTED, &matchers, window),
            window.as_secs_f64(),
            scope.except(plan, &requests(window), BY_ROUTE),
        ),
        labels: Vec::new(),
        hold: plan.scaled(Duration::from_secs(300)),
        summary: "Requests to a route are given up before they are answered.",
        description: format!(
            "{PERCENT} of the requests to {{{{ $labels.{METHOD} }}}} {{{{ $labels.{ROUTE} }}}} of {{{{ $labels.job }}}} were dropped before their response headers, more than {}: by the client, or by a timeout outside the layer.",
            percent(most)
        ),
        runbook: "Look for what the route waits for: a lock, a connection, a service without a timeout. If its clients are meant to give up, as with long polls, give it a budget without limits, which exempts it.",
        fires: vec![vec![Example {
            series: dropping(plan, &scope, 10_000.0, share),
            labels: scope.labels(plan),
            value: percent(share),
        }]],
        silent: vec![
            (
                "few are dropped",
                dropping(plan, &scope, 10_000.0, most / 2.0),
            ),
            ("there are no requests", dropping(plan, &scope, 0.0, 0.0)),
            (
                "a single request was dropped",
                dropping(plan, &scope, 1e-9, 1.0),
            ),
        ],
    }
}

/// Requests of which a share is dropped before its headers.
fn dropping(plan: &Plan<'_>, scope: &Scope, all: f64, share: f64) -> Vec<Series> {
    let (method, route) = scope.example();
    let (method, route) = ((METHOD, method), (ROUTE, route));
    let [phase, reason] = UNANSWERED;
    let count = format!("{RESPONSE_DURATION}_count");
    vec![
        Series::rising(
            plan.series(&count, &[method, route, (STATUS, "200")]),
            all * (1.0 - share),
        ),
        Series::rising(
            plan.series(REQUESTS_ABORTED, &[method, route, phase, reason]),
            all * share,
        ),
    ]
}
