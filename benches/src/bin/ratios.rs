//! `cargo run --release -p perf-benches --bin ratios [-- --only batch] [--json FILE]`

use std::process::ExitCode;

use perf_benches::{batch, cache, metrics, pool, queue};

fn main() -> ExitCode {
    perf_benches::ratios_main(&[
        ("pool", pool::groups),
        ("queue", queue::groups),
        ("cache", cache::groups),
        ("batch", batch::groups),
        ("metrics", metrics::groups),
    ])
}
