//! Written by hand: the files have one shape, and are meant to be read.

use std::fmt::Write;
use std::time::Duration;

use super::RULES_FILE;
use super::plan::Plan;
use super::promql::{duration, number, quote};
use super::rule::{Alert, Example, Group, Record, Series};

/// The file of rules.
pub(super) fn rules(plan: &Plan<'_>, groups: &[Group]) -> String {
    let mut text = format!(
        "# Made by perf-metrics from the budgets and thresholds of {}.\ngroups:\n",
        quote(plan.job)
    );
    for group in groups {
        // Writing to a string does not fail.
        let name = quote(&format!("{}: {}", plan.job, group.name));
        let _ = writeln!(text, "  - name: {name}\n    rules:");
        for record in &group.records {
            write_record(&mut text, record);
        }
        for alert in &group.alerts {
            write_alert(&mut text, alert);
        }
    }
    text
}

fn write_record(text: &mut String, record: &Record) {
    let _ = writeln!(text, "      - record: {}", record.name);
    write_expr(text, &record.expr);
    if !record.labels.is_empty() {
        let _ = writeln!(text, "        labels:");
        write_map(text, 10, &record.labels);
    }
}

fn write_alert(text: &mut String, alert: &Alert) {
    let _ = writeln!(text, "      - alert: {}", alert.name);
    write_expr(text, &alert.expr);
    if !alert.hold.is_zero() {
        let _ = writeln!(text, "        for: {}", duration(alert.hold));
    }
    let _ = writeln!(text, "        labels:");
    write_map(text, 10, &[("severity", alert.severity.as_str())]);
    write_map(text, 10, &alert.labels);
    let _ = writeln!(text, "        annotations:");
    write_map(text, 10, &annotations(alert, &alert.description));
}

fn annotations<'a>(alert: &'a Alert, description: &'a str) -> [(&'static str, &'a str); 3] {
    [
        ("summary", alert.summary),
        ("description", description),
        ("runbook", alert.runbook),
    ]
}

fn write_expr(text: &mut String, expr: &str) {
    let _ = writeln!(text, "        expr: |-");
    for line in expr.lines() {
        let _ = writeln!(text, "          {line}");
    }
}

fn write_map(text: &mut String, indent: usize, map: &[(&'static str, impl AsRef<str>)]) {
    for (name, value) in map {
        let _ = writeln!(text, "{:indent$}{name}: {}", "", quote(value.as_ref()));
    }
}

fn together(examples: &[Example]) -> Vec<Series> {
    let series = examples.iter().flat_map(|it| it.series.iter().cloned());
    series.collect()
}

/// The file of the rules' tests.
pub(super) fn tests(plan: &Plan<'_>, groups: &[Group]) -> String {
    // A sample five times in the shortest window, and an evaluation at every other one: promtool
    // evaluates all rules for each test.
    let interval = Duration::from_millis((plan.short().as_millis() / 5).max(1) as u64);
    let mut text = format!(
        "# Tests of {RULES_FILE}: promtool test rules THIS_FILE\nrule_files:\n  - {RULES_FILE}\n\
         evaluation_interval: {}\ntests:\n",
        duration(2 * interval)
    );
    for alert in groups.iter().flat_map(|group| &group.alerts) {
        // Ten samples until a rate is steady, and then as long as the alert waits.
        let steps = 10 + 2 * alert.hold.as_nanos().div_ceil(2 * interval.as_nanos());
        let steps = u32::try_from(steps).unwrap_or(u32::MAX);
        let test = |text: &mut String, what: &str, series: &[Series]| {
            let name = quote(&format!("{} {what}", alert.name));
            let _ = writeln!(
                text,
                "  - name: {name}\n    interval: {}",
                duration(interval)
            );
            let _ = writeln!(
                text,
                "    input_series:{}",
                if series.is_empty() { " []" } else { "" }
            );
            for Series { name, first, step } in series {
                let (first, step) = (number(*first), number(*step));
                let _ = writeln!(text, "      - series: {}", quote(name));
                let _ = writeln!(text, "        values: \"{first}+{step}x{}\"", steps + 1);
            }
            let at = duration(interval * steps);
            let _ = writeln!(text, "    alert_rule_test:\n      - eval_time: {at}");
            let _ = writeln!(text, "        alertname: {}", alert.name);
        };
        for (what, series) in &alert.silent {
            test(&mut text, &format!("is silent: {what}"), series);
        }
        for examples in &alert.fires {
            test(&mut text, "fires", &together(examples));
            let _ = writeln!(text, "        exp_alerts:");
            for example in examples {
                let _ = writeln!(text, "          - exp_labels:");
                write_map(&mut text, 14, &[("severity", alert.severity.as_str())]);
                write_map(&mut text, 14, &example.labels);
                let _ = writeln!(text, "            exp_annotations:");
                let description = alert.described(example);
                write_map(&mut text, 14, &annotations(alert, &description));
            }
        }
    }
    text
}
