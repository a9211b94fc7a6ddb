//! `cargo run --release -p perf-benches --bin ratios [-- --only batch] [--json FILE]`
//!
//! Runs the entries of each group interleaved and prints, for each, the median of
//! time(entry) / time(ours) with its 95% interval.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use comfy_table::{CellAlignment, Table, presets};
use perf_benches::{Group, Ratio, measure};
use tokio::runtime::Runtime;

/// Compares each way of doing the same work with ours, interleaved in one run.
#[derive(Debug, Parser)]
struct Args {
    /// Only the groups whose name starts with this, such as `batch` or `batch/sqlite`.
    #[arg(long, default_value = "")]
    only: String,
    /// Rounds after the warm-up.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Also write the ratios to this file.
    #[arg(long)]
    json: Option<PathBuf>,
}

type Works = fn(&Arc<Runtime>) -> Vec<Group>;

const CRATES: [(&str, Works); 5] = [
    ("pool", perf_benches::pool::groups),
    ("queue", perf_benches::queue::groups),
    ("cache", perf_benches::cache::groups),
    ("batch", perf_benches::batch::groups),
    ("metrics", perf_benches::metrics::groups),
];

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(ratios) if ratios.is_empty() => {
            let crates = CRATES.map(|(name, _)| name).join(", ");
            eprintln!(
                "no group that can run here has a name that starts with {:?}; names start with one of {crates}",
                args.only
            );
            ExitCode::FAILURE
        }
        Ok(ratios) => {
            println!("{}", table(&ratios));
            // After the table, so that a full disk does not cost what was measured.
            match args.json.as_deref().map(|path| write(path, &ratios)) {
                Some(Err(error)) => fail(&error),
                _ => ExitCode::SUCCESS,
            }
        }
        Err(error) => fail(&error),
    }
}

fn fail(error: &std::io::Error) -> ExitCode {
    eprintln!("ratios: {error}");
    ExitCode::FAILURE
}

fn write(path: &Path, ratios: &[Ratio]) -> std::io::Result<()> {
    std::fs::write(path, serde_json::to_vec_pretty(ratios)?).map_err(|error| {
        let message = format!("write {}: {error}", path.display());
        std::io::Error::new(error.kind(), message)
    })
}

fn run(args: &Args) -> std::io::Result<Vec<Ratio>> {
    let rt = Arc::new(Runtime::new()?);
    let mut ratios = Vec::new();
    for (name, works) in CRATES {
        let wanted = args.only.split('/').next().unwrap_or_default();
        if !name.starts_with(wanted) {
            continue;
        }
        for mut group in works(&rt) {
            if group.name().starts_with(&args.only) {
                eprintln!("measuring {}", group.name());
                ratios.extend(measure(&mut group, usize::from(args.rounds)));
            }
        }
    }
    Ok(ratios)
}

fn table(ratios: &[Ratio]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_FULL_CONDENSED);
    table.set_header([
        "group",
        "entry",
        "time / ours",
        "95% interval",
        "median time",
    ]);
    for r in ratios {
        table.add_row([
            r.group.clone(),
            r.entry.clone(),
            format!("{:.2}", r.ratio),
            format!("{:.2} .. {:.2}", r.low, r.high),
            format!("{:.3?}", std::time::Duration::from_secs_f64(r.seconds)),
        ]);
    }
    for column in 2..5 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}
