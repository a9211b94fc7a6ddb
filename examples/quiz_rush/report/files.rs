use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use askama::Template;
use serde::Serialize;

use super::charts::Chart;
use super::{Expectation, Measured, Row, charts, rows};
use crate::args::Size;
use crate::conductor::Outcome;

/// The content of `report.json`.
#[derive(Debug, Serialize)]
struct Json<'a> {
    size: Size,
    results: &'a [Measured],
    table: Vec<Row>,
    expectations: &'a [Expectation],
    findings: Vec<String>,
    /// The service's own `/monitoring/stats` after the rush.
    monitoring: Option<&'a serde_json::Value>,
}

/// `report.html`.
#[derive(Template)]
#[template(path = "report.html")]
struct Html<'a> {
    size: Size,
    rows: &'a [Row],
    expectations: &'a [Expectation],
    findings: &'a [String],
    charts: Vec<Chart>,
    monitoring: Option<String>,
}

/// Writes `report.html` and `report.json` and returns their paths.
pub(crate) fn write(
    out: &Path,
    size: Size,
    outcomes: &[Outcome],
    measured: &[Measured],
    expectations: &[Expectation],
) -> Result<[PathBuf; 2]> {
    let json = Json {
        size,
        results: measured,
        table: rows(measured),
        expectations,
        findings: outcomes
            .iter()
            .flat_map(|o| o.findings.iter().map(move |f| format!("{}: {f}", o.build)))
            .collect(),
        monitoring: outcomes.iter().find_map(|o| o.monitoring.as_ref()),
    };
    let html = Html {
        size,
        rows: &json.table,
        expectations,
        findings: &json.findings,
        charts: charts::all(outcomes)?,
        monitoring: json
            .monitoring
            .map(serde_json::to_string_pretty)
            .transpose()?,
    };
    let paths = ["report.html", "report.json"].map(|name| out.join(name));
    let contents = [
        html.render()?.into_bytes(),
        serde_json::to_vec_pretty(&json)?,
    ];
    for (path, content) in paths.iter().zip(contents) {
        std::fs::write(path, content).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(paths)
}
