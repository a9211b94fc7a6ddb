//! `cargo run --release --manifest-path benches/cache-peers/Cargo.toml [-- --only cache/hit] [--rounds 10]`
//!
//! The ratios of perf-cache's local tier beside more peers, and how the cost of an insertion grows
//! with the capacity: a program of its own, so that the build of perf-benches stays quick.

mod hits;
mod insert;
mod stores;

use std::fmt::Display;
use std::process::ExitCode;

use perf_benches::{Entry, ratios_main};

/// Entries of which each may be unable to run here; says why.
#[derive(Default)]
pub(crate) struct Entries(Vec<Entry>);

impl Entries {
    pub(crate) fn add<E: Display>(&mut self, name: &str, entry: Result<Entry, E>) {
        match entry {
            Ok(entry) => self.0.push(entry),
            Err(error) => eprintln!("cache: {name} is left out: {error}"),
        }
    }
}

fn main() -> ExitCode {
    ratios_main(&[("cache", |rt| {
        let mut groups = hits::groups(rt);
        groups.extend(insert::groups(rt));
        groups
    })])
}
