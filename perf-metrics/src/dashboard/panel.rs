use serde_json::{Value, json};

/// The data source that is chosen.
pub(super) fn datasource() -> Value {
    json!({"type": "prometheus", "uid": "${datasource}"})
}

/// Panels under a title.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) title: &'static str,
    pub(super) panels: Vec<Panel>,
}

/// A graph over time.
#[derive(Debug)]
pub(super) struct Panel {
    title: &'static str,
    description: &'static str,
    unit: &'static str,
    targets: Vec<Target>,
    /// From where on it is worth a warning, and critical, each with whether above or below.
    thresholds: Vec<(f64, &'static str)>,
    /// Whether low values are the bad ones.
    low_is_bad: bool,
}

#[derive(Debug)]
struct Target {
    expr: String,
    legend: &'static str,
}

/// The start of the legends of budgets, which are drawn as dashed lines.
const BUDGET: &str = "budget";

impl Panel {
    pub(super) fn new(title: &'static str, unit: &'static str) -> Self {
        Self {
            title,
            description: "",
            unit,
            targets: Vec::new(),
            thresholds: Vec::new(),
            low_is_bad: false,
        }
    }

    pub(super) fn describe(mut self, description: &'static str) -> Self {
        self.description = description;
        self
    }

    pub(super) fn show(mut self, expr: impl Into<String>, legend: &'static str) -> Self {
        let expr = expr.into();
        self.targets.push(Target { expr, legend });
        self
    }

    /// Draws lines; values beyond them are bad.
    pub(super) fn thresholds(mut self, warning: f64, critical: f64) -> Self {
        self.thresholds = vec![(warning, "orange"), (critical, "red")];
        self.low_is_bad = critical < warning;
        self
    }

    pub(super) fn json(&self, id: usize, position: Value) -> Value {
        let targets = self.targets.iter().zip('A'..='Z').map(|(target, name)| {
            json!({
                "refId": name.to_string(),
                "datasource": datasource(),
                "expr": target.expr,
                "legendFormat": target.legend,
                "range": true,
            })
        });
        json!({
            "id": id,
            "type": "timeseries",
            "title": self.title,
            "description": self.description,
            "datasource": datasource(),
            "gridPos": position,
            "targets": targets.collect::<Vec<_>>(),
            "fieldConfig": {
                "defaults": {
                    "unit": self.unit,
                    "min": 0,
                    "custom": {
                        "fillOpacity": 5,
                        "showPoints": "never",
                        "thresholdsStyle": {
                            "mode": if self.thresholds.is_empty() { "off" } else { "dashed" },
                        },
                    },
                    "thresholds": {"mode": "absolute", "steps": self.steps()},
                },
                "overrides": [{
                    "matcher": {"id": "byRegexp", "options": format!("/^{BUDGET} /")},
                    "properties": [
                        {"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [10, 10]}},
                        {"id": "custom.fillOpacity", "value": 0},
                        {"id": "color", "value": {"mode": "fixed", "fixedColor": "red"}},
                    ],
                }],
            },
            "options": {
                "legend": {"displayMode": "list", "placement": "bottom", "showLegend": true},
                "tooltip": {"mode": "multi", "sort": "desc"},
            },
        })
    }

    /// Colours from below to above.
    fn steps(&self) -> Value {
        let step = |value: Option<f64>, color: &str| json!({"value": value, "color": color});
        match self.thresholds.as_slice() {
            [(warning, _), (critical, _)] if self.low_is_bad => json!([
                step(None, "red"),
                step(Some(*critical), "orange"),
                step(Some(*warning), "green"),
            ]),
            above => {
                let mut steps = vec![step(None, "green")];
                steps.extend(above.iter().map(|(value, color)| step(Some(*value), color)));
                json!(steps)
            }
        }
    }
}
