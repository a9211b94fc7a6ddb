//! The dashboard as JSON; `prometheus` asks each of its expressions for data.

use std::collections::BTreeSet;

use perf_metrics::{AlertOptions, Budget, Monitor, MonitorBuilder};
use serde_json::Value;

use crate::alerts::demanding;

pub(crate) fn dashboard(builder: MonitorBuilder) -> Value {
    let json = builder.build().unwrap().grafana_json();
    serde_json::from_str(&json).unwrap()
}

/// The expressions, each with the title of its panel.
pub(crate) fn expressions(dashboard: &Value) -> Vec<(String, String)> {
    let panels = dashboard["panels"].as_array().unwrap().iter();
    panels
        .flat_map(|panel| {
            let title = panel["title"].as_str().unwrap();
            let targets = panel["targets"].as_array().into_iter().flatten();
            targets.map(move |it| (title.to_owned(), it["expr"].as_str().unwrap().to_owned()))
        })
        .collect()
}

#[test]
fn panels_have_ids_of_their_own_and_do_not_overlap() {
    let dashboard = dashboard(demanding());
    assert!(dashboard["schemaVersion"].as_u64().unwrap() >= 36);
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<_> = panels.iter().map(|it| it["id"].as_u64().unwrap()).collect();
    assert_eq!((ids.len(), ids.contains(&0)), (panels.len(), false));
    let mut taken = BTreeSet::new();
    for panel in panels {
        let at = |name: &str| panel["gridPos"][name].as_u64().unwrap();
        assert!(
            at("w") > 0 && at("h") > 0 && at("x") + at("w") <= 24,
            "{panel}"
        );
        for x in at("x")..at("x") + at("w") {
            for y in at("y")..at("y") + at("h") {
                assert!(taken.insert((x, y)), "two panels at {x}, {y}: {panel}");
            }
        }
    }
    let rows = panels.iter().filter(|it| it["type"] == "row");
    let rows: Vec<_> = rows.map(|it| it["title"].as_str().unwrap()).collect();
    let expected = [
        "Requests", "Process", "Pools", "Queues", "Caches", "Batches",
    ];
    assert_eq!(rows, expected);
}

#[test]
fn every_expression_is_of_the_chosen_job_and_source() {
    let dashboard = dashboard(demanding());
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let names: Vec<_> = variables
        .iter()
        .map(|it| it["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["datasource", "job", "route"]);
    assert_eq!(variables[1]["current"]["value"], "orders");
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            assert_eq!(target["datasource"]["uid"], "${datasource}");
            let refs = panel["targets"].as_array().unwrap().iter();
            let refs: BTreeSet<_> = refs.map(|it| it["refId"].as_str().unwrap()).collect();
            assert_eq!(refs.len(), panel["targets"].as_array().unwrap().len());
        }
    }
    let expressions = expressions(&dashboard);
    assert!(expressions.len() > 40, "{}", expressions.len());
    for (title, expr) in expressions {
        assert_eq!(
            expr.matches('{').count(),
            expr.matches("job=\"$job\"").count()
                + expr.matches("/{id}").count()
                + expr.matches("\\\\{id").count(),
            "{title}: {expr}"
        );
    }
}

#[test]
fn budgets_and_thresholds_are_lines() {
    let dashboard = dashboard(demanding());
    let expressions = expressions(&dashboard);
    let lines = |title: &str| {
        let of = expressions.iter().filter(|(it, _)| it == title);
        of.map(|(_, expr)| expr.clone()).nth(1).unwrap()
    };
    let p95 = lines("p95 to the headers");
    for part in ["+ 0.2)", "+ 5)", "+ 0.5", "http_route=\"/orders/{id}\""] {
        assert!(p95.contains(part), "{part} is not in {p95}");
    }
    assert!(lines("Errors").contains("+ 0.01)"));
    let panels = dashboard["panels"].as_array().unwrap();
    let steps = |title: &str| {
        let panel = panels.iter().find(|it| it["title"] == title).unwrap();
        let steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"].as_array();
        let steps = steps.unwrap().iter();
        let step = |it: &Value| {
            (
                it["color"].as_str().unwrap().to_owned(),
                it["value"].as_f64(),
            )
        };
        steps.map(step).collect::<Vec<_>>()
    };
    let step = |color: &str, value| (color.to_owned(), value);
    let memory = [
        step("green", None),
        step("orange", Some(0.75)),
        step("red", Some(0.85)),
    ];
    assert_eq!(steps("Memory of its limit"), memory);
    let hits = [
        step("red", None),
        step("orange", Some(0.7)),
        step("green", Some(0.8)),
    ];
    assert_eq!(steps("Hit ratio"), hits);
}

#[test]
fn without_budgets_there_are_no_lines_and_the_job_may_have_another_name() {
    let builder = Monitor::builder()
        .service("a service/é")
        .default_budget(Budget::any());
    let dashboard = dashboard(builder.alerts(AlertOptions::default().job("prod")));
    assert!(!dashboard.to_string().contains("\"budget {{"));
    assert_eq!(dashboard["uid"], "perf-a-service--");
    assert_eq!(
        dashboard["templating"]["list"][1]["current"]["value"],
        "prod"
    );
}
