use serde_json::{Value, json};

use super::panel::Row;

/// Grafana's grid has 24 columns; three panels stand side by side.
const COLUMNS: usize = 24;
const WIDTH: usize = 8;
const HEIGHT: usize = 8;

/// The rows and their panels, from left to right and from above to below.
pub(super) fn panels(rows: &[Row]) -> Vec<Value> {
    let mut panels = Vec::new();
    let mut top = 0;
    for row in rows {
        let id = panels.len() + 1;
        panels.push(json!({
            "id": id,
            "type": "row",
            "title": row.title,
            "collapsed": false,
            "gridPos": {"x": 0, "y": top, "w": COLUMNS, "h": 1},
            "panels": [],
        }));
        top += 1;
        for line in row.panels.chunks(COLUMNS / WIDTH) {
            for (column, panel) in line.iter().enumerate() {
                let position = json!({"x": column * WIDTH, "y": top, "w": WIDTH, "h": HEIGHT});
                panels.push(panel.json(panels.len() + 1, position));
            }
            top += HEIGHT;
        }
    }
    panels
}
