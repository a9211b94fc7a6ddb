//! `cargo run --release -p perf-benches --bin latency [-- --only redis] [--seconds 10] [--json FILE]`

use std::path::PathBuf;

use clap::Parser;
use perf_benches::queue::latency::{Failure, measure};

/// Prints how long jobs of perf-queue wait though workers are idle, on each backend.
#[derive(Debug, Parser)]
struct Args {
    /// Only the backends whose name starts with this: memory, sqlite, postgres, redis.
    #[arg(long, default_value = "")]
    only: String,
    /// How long each work goes on.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Also write what was measured to this file.
    #[arg(long)]
    json: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let args = Args::parse();
    let mut all = Vec::new();
    println!(
        "{:10} {:11} {:>6} {:>9} {:>9} {:>9}",
        "backend", "work", "jobs", "p50 ms", "p99 ms", "max ms"
    );
    let each = |latency: perf_benches::queue::latency::Latency| {
        println!(
            "{:10} {:11} {:>6} {:>9.3} {:>9.3} {:>9.3}",
            latency.backend, latency.work, latency.jobs, latency.p50, latency.p99, latency.max
        );
        all.push(latency);
    };
    measure(&args.only, args.seconds, each).await?;
    if let Some(path) = args.json {
        std::fs::write(path, serde_json::to_vec_pretty(&all)?)?;
    }
    Ok(())
}
