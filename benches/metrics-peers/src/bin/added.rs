//! `cargo run --release --manifest-path benches/metrics-peers/Cargo.toml --bin added [ours|excluded|floor N]`
//!
//! The time that a request takes longer with our layer than with the `floor`, in nanoseconds, on
//! one thread and on two: the median over interleaved rounds, and the middle half.
//!
//! With an entry and a number, sends so many requests through that one and exits: counted by
//! `valgrind --tool=callgrind`, the difference of two numbers, and then of two entries, is what a
//! request costs in instructions without all that happens once.

use std::process::ExitCode;
use std::time::Duration;

use perf_benches::metrics::{Timed, excluded, floor, ours};

const ROUNDS: usize = 100;
const REQUESTS: u64 = 20_000;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let (Some(ours), Some(excluded), floor) = (ours(), excluded(), floor()) else {
        return ExitCode::FAILURE;
    };
    match (args.next(), args.next()) {
        (None, _) => {
            for threads in [1, 2] {
                compare(threads, "ours", &ours, &floor);
                compare(threads, "excluded", &excluded, &floor);
            }
        }
        (Some(name), Some(requests)) => {
            let Ok(requests) = requests.parse() else {
                return usage();
            };
            match name.as_str() {
                "ours" => ours.run(1, requests),
                "excluded" => excluded.run(1, requests),
                "floor" => floor.run(1, requests),
                _ => return usage(),
            };
        }
        _ => return usage(),
    }
    ExitCode::SUCCESS
}

fn usage() -> ExitCode {
    eprintln!("added [ours|excluded|floor REQUESTS]");
    ExitCode::FAILURE
}

fn compare(threads: usize, name: &str, entry: &Timed, floor: &Timed) {
    let per_request = |time: Duration| time.as_secs_f64() * 1e9 / REQUESTS as f64;
    let mut rounds: Vec<(f64, f64)> = (0..ROUNDS)
        .map(|_| {
            let least = per_request(floor.run(threads, REQUESTS));
            (per_request(entry.run(threads, REQUESTS)) - least, least)
        })
        .collect();
    rounds.sort_by(|a, b| a.0.total_cmp(&b.0));
    let added = |share: usize| rounds[ROUNDS * share / 100].0;
    let mut least: Vec<f64> = rounds.iter().map(|round| round.1).collect();
    least.sort_by(f64::total_cmp);
    println!(
        "{name}, {threads} thread(s): {:.0} ns added ({:.0} .. {:.0}) to {:.0} ns",
        added(50),
        added(25),
        added(75),
        least[ROUNDS / 2],
    );
}
