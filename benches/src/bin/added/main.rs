//! `cargo run --release -p perf-benches --bin added`
//!
//! What a request costs more with our layer than with the `floor`, on one thread and on two: in
//! nanoseconds, and in instructions and allocations where valgrind is installed.
//!
//! A round runs each entry once, for a millisecond, and compares it with the floor of that round. Only
//! rounds count in which the threads had the same of the machine all the time: a core to themselves
//! or, apart from these, a core that they shared with another hyperthread, where everything takes
//! half as long again. Of the rounds it is the median, as what else happens only adds; of that, the
//! median over the processes with its 95% interval, as where a process has its code and its memory
//! shifts all of its rounds.

mod core;
mod counts;

use std::error::Error;
use std::process::{Command, Stdio};

use perf_benches::metrics::{Timed, excluded, floor, least, ours};
use perf_benches::{interval, median};

use crate::core::{Core, look};
use crate::counts::Counts;

const PROCESSES: usize = 40;
const ROUNDS: usize = 150;
const REQUESTS: u64 = 1_000;
/// Fewer rounds of a process say nothing.
const FEWEST: usize = 10;

const NAMES: [&str; 4] = ["floor", "ours", "excluded", "least"];
const THREADS: [usize; 2] = [1, 2];
const CORES: [(Core, &str); 2] = [
    (Core::Alone, "a core to itself"),
    (Core::Shared, "a core shared with another hyperthread"),
];

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        [] => compare(),
        ["rounds"] => rounds(),
        ["once", name, requests] => {
            entry(name)?.run(1, requests.parse()?);
            Ok(())
        }
        _ => Err("added takes no options".into()),
    }
}

fn entry(name: &str) -> Result<Timed> {
    let timed = match name {
        "floor" => Some(floor()),
        "ours" => ours(),
        "excluded" => excluded(),
        "least" => Some(least()),
        _ => None,
    };
    timed.ok_or_else(|| format!("no entry {name}").into())
}

/// One run of an entry: the mean time of its threads for a request, and their looks at the core.
struct Run {
    time: f64,
    looks: Vec<std::time::Duration>,
}

impl Run {
    fn of(entry: &Timed, threads: usize) -> Self {
        let runs = entry.run_between(threads, REQUESTS, look);
        let total: f64 = runs.iter().map(|(time, _)| time.as_secs_f64()).sum();
        Self {
            time: total * 1e9 / (REQUESTS * threads as u64) as f64,
            looks: runs.iter().flat_map(|(_, looks)| *looks).collect(),
        }
    }
}

/// Prints, by the number of threads and the core, in how many rounds that was so, the median time of
/// the first entry, and of what each other adds to it.
fn rounds() -> Result<()> {
    let entries = NAMES.map(entry).into_iter().collect::<Result<Vec<_>>>()?;
    let mut all = THREADS.map(|_| Vec::with_capacity(ROUNDS));
    for round in 0..ROUNDS {
        for (rounds, threads) in all.iter_mut().zip(THREADS) {
            let mut runs: Vec<(usize, Run)> = (0..entries.len())
                .map(|turn| (round + turn) % entries.len())
                .map(|which| (which, Run::of(&entries[which], threads)))
                .collect();
            runs.sort_by_key(|(which, _)| *which);
            rounds.push(runs);
        }
    }
    let looks = all
        .iter()
        .flatten()
        .flatten()
        .flat_map(|(_, run)| &run.looks);
    let least = looks.min().copied().unwrap_or_default();
    for rounds in &all {
        for (core, _) in CORES {
            let mut times = vec![Vec::new(); entries.len()];
            for runs in rounds {
                let had = |run: &Run| Core::of(&run.looks, least) == core;
                let (_, floor) = &runs[0];
                for (which, run) in runs.iter().filter(|(_, run)| had(floor) && had(run)) {
                    let less = if *which == 0 { 0.0 } else { floor.time };
                    times[*which].push(run.time - less);
                }
            }
            let rounds = times.iter().map(Vec::len).min().unwrap_or_default();
            let medians = times.iter_mut().map(|times| median(times).to_string());
            println!("{rounds} {}", medians.collect::<Vec<_>>().join(" "));
        }
    }
    Ok(())
}

/// What the processes say of a number of threads and a core.
#[derive(Default, Clone)]
struct Found {
    rounds: usize,
    /// By process, the values of the entries; `None` of a process that says nothing.
    values: Vec<Option<Vec<f64>>>,
}

fn compare() -> Result<()> {
    let counts = NAMES.map(Counts::of).into_iter();
    let counts: Option<Vec<Counts>> = counts.collect::<Result<Option<Vec<_>>>>()?;
    let mut all = vec![Found::default(); THREADS.len() * CORES.len()];
    for _ in 0..PROCESSES {
        let output = Command::new(std::env::current_exe()?)
            .arg("rounds")
            .stderr(Stdio::inherit())
            .output()?;
        let output = String::from_utf8(output.stdout)?;
        for (found, line) in all.iter_mut().zip(output.lines()) {
            let (rounds, values) = line.split_once(' ').ok_or("no rounds")?;
            let rounds: usize = rounds.parse()?;
            found.rounds += rounds;
            let values = values.split(' ').map(str::parse::<f64>);
            let values = values.collect::<std::result::Result<Vec<_>, _>>()?;
            found.values.push((rounds >= FEWEST).then_some(values));
        }
    }
    let (one, two) = all.split_at(CORES.len());
    for (at, (_, core)) in CORES.iter().enumerate() {
        print(&format!("one thread, {core}"), &one[at], counts.as_deref());
        print(&format!("two threads, each {core}"), &two[at], None);
        let ours = |values: &Option<Vec<f64>>| values.as_ref().map(|values| values[1]);
        let pairs = one[at].values.iter().zip(&two[at].values);
        let mut ratios: Vec<f64> = pairs
            .filter_map(|(one, two)| Some(ours(two)? / ours(one)?))
            .collect();
        if !ratios.is_empty() {
            let (low, high) = interval(&mut ratios);
            let ratio = median(&mut ratios);
            println!("  ours on two threads / on one: {ratio:.2} ({low:.2} .. {high:.2})");
        }
    }
    if counts.is_none() {
        println!("no instructions and no allocations, as valgrind is not installed");
    }
    Ok(())
}

fn print(title: &str, found: &Found, counts: Option<&[Counts]>) {
    let share = 100 * found.rounds / (PROCESSES * ROUNDS);
    let processes: Vec<&Vec<f64>> = found.values.iter().flatten().collect();
    println!(
        "{title}: {share}% of the rounds, {} processes",
        processes.len()
    );
    if processes.is_empty() {
        return;
    }
    for (which, name) in NAMES.iter().enumerate() {
        let mut values: Vec<f64> = processes.iter().map(|it| it[which]).collect();
        let (low, high) = interval(&mut values);
        let sign = if which == 0 { " " } else { "+" };
        print!(
            "  {name:9}{sign}{:.0} ns ({low:.0} .. {high:.0})",
            median(&mut values)
        );
        match counts {
            Some(counts) => {
                let less = |of: fn(&Counts) -> i64| {
                    of(&counts[which]) - if which == 0 { 0 } else { of(&counts[0]) }
                };
                let instructions = less(|it| it.instructions);
                let allocations = less(|it| it.allocations);
                println!(", {sign}{instructions} instructions, {sign}{allocations} allocations");
            }
            None => println!(),
        }
    }
}
