//! The program that runs the entries of each group interleaved and prints, for each, the median of
//! time(entry) / time(ours) with its 95% interval.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use comfy_table::{CellAlignment, Table, presets};
use tokio::runtime::Runtime;

use crate::{Group, Ratio, measure};

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

/// Makes the groups of a crate.
pub type Works = fn(&Arc<Runtime>) -> Vec<Group>;

/// The `main` of such a program: the groups of `crates` by the crate's short name, which is the
/// first part of their names; the command line says which of them, how often and where to.
pub fn ratios_main(crates: &[(&str, Works)]) -> ExitCode {
    let args = Args::parse();
    match run(crates, &args) {
        Ok(ratios) if ratios.is_empty() => {
            let names: Vec<&str> = crates.iter().map(|(name, _)| *name).collect();
            eprintln!(
                "no group that can run here has a name that starts with {:?}; names start with one of {}",
                args.only,
                names.join(", ")
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

fn run(crates: &[(&str, Works)], args: &Args) -> std::io::Result<Vec<Ratio>> {
    let rt = Arc::new(Runtime::new()?);
    let mut ratios = Vec::new();
    for (name, works) in crates {
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
