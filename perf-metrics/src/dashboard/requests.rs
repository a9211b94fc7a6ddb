use super::panel::{Panel, Row};
use crate::alerts::{Plan, over_budget};
use crate::budget::{Budget, Limit};
use crate::timing::{
    ACTIVE_REQUESTS, PHASE, REASON, REQUEST_DURATION, REQUESTS_ABORTED, RESPONSE_BODY_SIZE,
    RESPONSE_DURATION, ROUTE, STATUS,
};

const BY: &str = "http_request_method, http_route";
const LEGEND: &str = "{{http_request_method}} {{http_route}}";
const BUDGET: &str = "budget {{http_request_method}} {{http_route}}";

/// A selector of the chosen job and routes.
fn select(plan: &Plan<'_>, metric: &str, more: &str) -> String {
    let comma = if more.is_empty() { "" } else { "," };
    plan.select(metric, &format!("{ROUTE}=~\"$route\"{comma}{more}"))
}

fn rate(plan: &Plan<'_>, metric: &str, more: &str) -> String {
    format!("rate({}[$__rate_interval])", select(plan, metric, more))
}

pub(super) fn row(plan: &Plan<'_>) -> Row {
    let count = format!("{RESPONSE_DURATION}_count");
    let answered = format!("{REQUEST_DURATION}_count");
    let ended = format!(
        "{} or {}",
        rate(plan, &count, ""),
        rate(plan, REQUESTS_ABORTED, "")
    );
    let failed = format!(
        "{} or {}",
        rate(plan, &answered, &format!("{STATUS}=~\"5..\"")),
        rate(plan, REQUESTS_ABORTED, &format!("{REASON}!=\"dropped\""))
    );
    let errors = format!(
        "clamp_max((sum by ({BY}) ({failed}) or 0 * sum by ({BY}) ({ended}))\n/ (sum by ({BY}) ({ended}) > 0), 1)"
    );
    let times = |title, limit, q| {
        let panel = Panel::new(title, "s").show(quantile(plan, REQUEST_DURATION, q), LEGEND);
        let time = |budget: &Budget| {
            let (_, time) = budget.times().find(|(it, _)| *it == limit)?;
            Some(time.as_secs_f64())
        };
        with_budgets(panel, plan, time)
    };
    let bytes = format!("{RESPONSE_BODY_SIZE}_sum");
    let panels = vec![
        Panel::new("Requests", "reqps").show(format!("sum by ({BY}) ({ended})"), LEGEND),
        with_budgets(
            Panel::new("Errors", "percentunit")
                .describe("Responses with a 5xx status, panics, and errors of the service or the body.")
                .show(errors, LEGEND),
            plan,
            |budget| budget.errors,
        ),
        Panel::new("In flight", "short")
            .show(format!("sum by ({BY}) ({})", select(plan, ACTIVE_REQUESTS, "")), LEGEND),
        times("p50 to the headers", Limit::P50, 0.5),
        times("p95 to the headers", Limit::P95, 0.95),
        times("p99 to the headers", Limit::P99, 0.99),
        Panel::new("Over budget", "percentunit")
            .describe("The share of the requests that take longer than the budget's p50, p95 or p99, of which 50%, 5% and 1% may. Needs the rules to be loaded.")
            .show(
                select(plan, &over_budget(plan.short()), ""),
                "{{limit}} {{http_request_method}} {{http_route}}",
            ),
        Panel::new("p95 to the end of the body", "s")
            .show(quantile(plan, RESPONSE_DURATION, 0.95), LEGEND),
        Panel::new("Responses by status", "reqps").show(
            format!("sum by ({STATUS}) ({})", rate(plan, &count, "")),
            "{{http_response_status_code}}",
        ),
        Panel::new("Aborts", "reqps")
            .describe("Requests that ended before the end of their body: dropped as the client went away, panicked, or failed.")
            .show(
                format!("sum by ({ROUTE}, {PHASE}, {REASON}) ({})", rate(plan, REQUESTS_ABORTED, "")),
                "{{http_route}} {{reason}} ({{phase}})",
            ),
        Panel::new("Sent", "Bps").show(
            format!("sum by ({BY}) ({})", rate(plan, &bytes, "")),
            LEGEND,
        ),
    ];
    Row {
        title: "Requests",
        panels,
    }
}

fn quantile(plan: &Plan<'_>, metric: &str, q: f64) -> String {
    let buckets = rate(plan, &format!("{metric}_bucket"), "");
    format!("histogram_quantile({q}, sum by (le, {BY}) ({buckets}))")
}

/// Draws a limit of the budgets beside the routes that they are for, once these were asked for.
fn with_budgets(panel: Panel, plan: &Plan<'_>, limit: impl Fn(&Budget) -> Option<f64>) -> Panel {
    let lines = plan.objectives.all().filter_map(|budget| {
        let (limit, scope) = (limit(budget)?, plan.scope(budget));
        let routes = select(plan, ACTIVE_REQUESTS, &scope.matchers);
        let except = scope.except(plan, ACTIVE_REQUESTS, BY);
        Some(format!("(0 * max by ({BY}) ({routes}) + {limit}{except})"))
    });
    let lines: Vec<_> = lines.collect();
    if lines.is_empty() {
        return panel;
    }
    panel.show(lines.join("\nor\n"), BUDGET)
}
