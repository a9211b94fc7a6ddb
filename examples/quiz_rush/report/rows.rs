use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use super::Measured;
use crate::args::Build;
use crate::figure::whole;
use crate::quantiles::Quantiles;

/// A line of the table: a figure of both builds, and how many times better the one after is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) before: String,
    pub(crate) after: String,
    pub(crate) ratio: String,
}

/// Which way is better.
#[derive(Debug, Clone, Copy)]
enum Better {
    Less,
    More,
    Neither,
}

type Read = fn(&Measured) -> Option<f64>;
type Show = fn(f64) -> String;

fn lag(m: &Measured, read: fn(&Quantiles) -> f64) -> Option<f64> {
    m.lag_seconds.as_ref().map(read)
}

const FIGURES: [(&str, Read, Show, Better); 20] = [
    ("lag p50", |m| lag(m, |q| q.p50), seconds, Better::Less),
    ("lag p95", |m| lag(m, |q| q.p95), seconds, Better::Less),
    ("lag max", |m| lag(m, |q| q.max), seconds, Better::Less),
    (
        "messages/s",
        |m| m.messages_per_second,
        decimal,
        Better::More,
    ),
    (
        "refused with 429",
        |m| Some(m.refused_429 as f64),
        whole,
        Better::Neither,
    ),
    ("commits", |m| Some(m.commits as f64), whole, Better::Less),
    (
        "rows saved/s",
        |m| m.rows_saved_per_second,
        whole,
        Better::More,
    ),
    (
        "save of a completion, alone",
        |m| m.quiet_save_seconds,
        seconds,
        Better::Less,
    ),
    (
        "save of a completion, rush p50",
        |m| m.save_seconds.map(|q| q.p50),
        seconds,
        Better::Less,
    ),
    (
        "save of a completion, rush max",
        |m| m.save_seconds.map(|q| q.max),
        seconds,
        Better::Less,
    ),
    (
        "completions failed and repeated",
        |m| Some(m.completion_failures as f64),
        whole,
        Better::Neither,
    ),
    (
        "leaderboard requests/s",
        |m| Some(m.leaderboards_per_second),
        decimal,
        Better::More,
    ),
    (
        "leaderboard p95",
        |m| m.leaderboard_seconds.map(|q| q.p95),
        seconds,
        Better::Less,
    ),
    (
        "leaderboard requests failed",
        |m| Some(m.leaderboard_failures as f64),
        whole,
        Better::Neither,
    ),
    (
        "database queries",
        |m| Some(m.queries as f64),
        whole,
        Better::Less,
    ),
    (
        "cache hit ratio",
        |m| m.cache_hit_ratio.map(|r| 100.0 * r),
        percent,
        Better::Neither,
    ),
    (
        "connections in use at peak",
        |m| Some(f64::from(m.peak_connections)),
        whole,
        Better::Neither,
    ),
    ("CPU time", |m| Some(m.cpu_seconds), seconds, Better::Less),
    (
        "CPU, of one processor",
        |m| Some(m.cpu_percent),
        percent,
        Better::Neither,
    ),
    (
        "memory at peak",
        |m| Some(m.peak_memory_bytes as f64),
        mebibytes,
        Better::Neither,
    ),
];

/// The table's lines; a build that did not run has dashes.
pub(crate) fn rows(measured: &[Measured]) -> Vec<Row> {
    let find = |build| measured.iter().find(|m| m.build == build);
    let (before, after) = (find(Build::Before), find(Build::After));
    FIGURES
        .into_iter()
        .map(|(name, read, show, better)| {
            let (before, after) = (before.and_then(read), after.and_then(read));
            let text = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), show);
            Row {
                name,
                before: text(before),
                after: text(after),
                ratio: ratio(before, after, better),
            }
        })
        .collect()
}

/// The table as it is printed.
pub(crate) fn table(measured: &[Measured]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_FULL_CONDENSED);
    table.set_header(["", "before", "after", "ratio"]);
    for row in rows(measured) {
        table.add_row([row.name.to_owned(), row.before, row.after, row.ratio]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// How many times better the build after is; nothing where that has no meaning.
fn ratio(before: Option<f64>, after: Option<f64>, better: Better) -> String {
    let (Some(before), Some(after)) = (before, after) else {
        return String::new();
    };
    let times = match better {
        Better::Less => before / after,
        Better::More => after / before,
        Better::Neither => return String::new(),
    };
    if !times.is_finite() {
        return String::new();
    }
    match times {
        t if t >= 100.0 => format!("{}x", whole(t)),
        t if t >= 10.0 => format!("{t:.0}x"),
        t => format!("{t:.1}x"),
    }
}

fn seconds(value: f64) -> String {
    if value >= 1.0 {
        format!("{value:.2} s")
    } else {
        format!("{:.1} ms", 1e3 * value)
    }
}

fn decimal(value: f64) -> String {
    format!("{value:.1}")
}

fn percent(value: f64) -> String {
    format!("{value:.1}%")
}

fn mebibytes(value: f64) -> String {
    format!("{:.0} MiB", value / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_says_how_many_times_better() {
        assert_eq!(ratio(Some(50.0), Some(2.5), Better::Less), "20x");
        assert_eq!(ratio(Some(20.0), Some(199.0), Better::More), "9.9x");
        assert_eq!(ratio(Some(100_000.0), Some(1.0), Better::Less), "100,000x");
        assert_eq!(ratio(Some(1.0), Some(0.0), Better::Less), "");
        assert_eq!(ratio(None, Some(1.0), Better::Less), "");
    }

    #[test]
    fn figures_are_readable() {
        assert_eq!(seconds(0.0123), "12.3 ms");
        assert_eq!(seconds(26.4), "26.40 s");
        assert_eq!(mebibytes(52_428_800.0), "50 MiB");
    }
}
