//! A dashboard for Grafana, made from the budgets and thresholds of a service.

mod layout;
mod panel;
mod requests;
mod resources;

use serde_json::{Value, json};

use crate::Monitor;
use crate::alerts::Plan;

use panel::{Row, datasource};

impl Monitor {
    /// A dashboard for Grafana, in JSON, to be imported or provisioned: requests by route with the
    /// budgets as lines, the process, pools, queues, caches and batches.
    ///
    /// It has the variables `datasource`, `job` (at first the one of the
    /// [alerts](crate::AlertOptions::job)) and `route`. It reads `/metrics` alone, but for the panel
    /// of what is over budget, which needs the [rules](Self::alert_rules).
    pub fn grafana_json(&self) -> String {
        let plan = Plan::of(self);
        let job = plan.job.to_owned();
        // The series of whichever job is chosen.
        let plan = Plan {
            job: "$job",
            ..plan
        };
        let mut rows = vec![requests::row(&plan)];
        rows.extend(resources::rows(&plan));
        let dashboard = dashboard(self.service(), &job, &rows);
        format!("{dashboard:#}\n")
    }
}

fn dashboard(service: &str, job: &str, rows: &[Row]) -> Value {
    // Grafana takes 40 characters of these.
    let uid = service
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' });
    let uid: String = "perf-".chars().chain(uid).take(40).collect();
    json!({
        "uid": uid,
        "title": service,
        "description": "Made by perf-metrics from the budgets of the service.",
        "tags": ["perf-metrics"],
        "schemaVersion": 38,
        "version": 1,
        "editable": true,
        "graphTooltip": 1,
        "timezone": "browser",
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": variables(job)},
        "panels": layout::panels(rows),
    })
}

fn variables(job: &str) -> Value {
    let query = |name: &str, label: &str, query: &str| {
        json!({
            "name": name,
            "label": label,
            "type": "query",
            "datasource": datasource(),
            "query": {"query": query, "refId": name},
            "definition": query,
            "refresh": 2,
            "sort": 1,
        })
    };
    let mut jobs = query(
        "job",
        "Job",
        "label_values(http_server_active_requests, job)",
    );
    jobs["current"] = json!({"text": job, "value": job, "selected": true});
    let routes = "label_values(http_server_active_requests{job=\"$job\"}, http_route)";
    let mut routes = query("route", "Route", routes);
    routes["multi"] = json!(true);
    routes["includeAll"] = json!(true);
    routes["allValue"] = json!(".*");
    routes["current"] = json!({"text": ["All"], "value": ["$__all"], "selected": true});
    json!([
        {
            "name": "datasource",
            "label": "Data source",
            "type": "datasource",
            "query": "prometheus",
            "refresh": 1,
        },
        jobs,
        routes,
    ])
}
