//! `cargo run --release -p perf-benches --bin added`
//!
//! What a request costs more with our layer than with the `floor`, on one thread and on two: in
//! nanoseconds, and in instructions where valgrind is installed.
//!
//! The time is the median over rounds that take turns, and of that the mean over several processes,
//! with the least and the greatest: where a process has its code and its memory shifts all of its
//! rounds. The instructions are those of the requests alone, and the same each time.

use std::error::Error;
use std::io::ErrorKind;
use std::process::{Command, Stdio};
use std::time::Duration;

use perf_benches::metrics::{Timed, excluded, floor, least, ours};

const PROCESSES: usize = 8;
const ROUNDS: usize = 40;
const REQUESTS: u64 = 10_000;

const NAMES: [&str; 4] = ["floor", "ours", "excluded", "least"];

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    match (args.next(), args.next()) {
        (None, _) => compare(),
        (Some(mode), Some(threads)) if mode == "rounds" => rounds(threads.parse()?),
        (Some(mode), Some(name)) if mode == "once" => {
            entry(&name)?.run(1, REQUESTS);
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

/// Prints the median time of the first entry, then of what each adds to it.
fn rounds(threads: usize) -> Result<()> {
    let entries = NAMES.map(entry).into_iter().collect::<Result<Vec<_>>>()?;
    let mut times = vec![Vec::with_capacity(ROUNDS); entries.len()];
    for round in 0..ROUNDS {
        for turn in 0..entries.len() {
            let which = (round + turn) % entries.len();
            times[which].push(per_request(entries[which].run(threads, REQUESTS)));
        }
    }
    println!("{}", median(times[0].clone()));
    for entry in &times[1..] {
        let added = entry
            .iter()
            .zip(&times[0])
            .map(|(time, least)| time - least);
        println!("{}", median(added.collect()));
    }
    Ok(())
}

fn per_request(time: Duration) -> f64 {
    time.as_secs_f64() * 1e9 / REQUESTS as f64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn compare() -> Result<()> {
    let instructions = counts()?;
    for threads in ["1", "2"] {
        let mut all = vec![Vec::new(); NAMES.len()];
        for _ in 0..PROCESSES {
            let output = this(&["rounds", threads])?
                .stderr(Stdio::inherit())
                .output()?;
            let output = String::from_utf8(output.stdout)?;
            for (values, line) in all.iter_mut().zip(output.lines()) {
                values.push(line.parse::<f64>()?);
            }
        }
        for (which, (name, times)) in NAMES.iter().zip(&all).enumerate() {
            let mean = times.iter().sum::<f64>() / times.len() as f64;
            let low = times.iter().copied().fold(f64::INFINITY, f64::min);
            let high = times.iter().copied().fold(0.0, f64::max);
            let sign = if which == 0 { "" } else { "+" };
            print!("{threads} thread(s), {name:9}{sign}{mean:.0} ns ({low:.0} .. {high:.0})");
            match &instructions {
                Some(counts) if which == 0 => println!(", {} instructions", counts[0]),
                Some(counts) => println!(", +{} instructions", counts[which] - counts[0]),
                None => println!(),
            }
        }
    }
    if instructions.is_none() {
        println!("no instructions, as valgrind is not installed");
    }
    Ok(())
}

fn this(args: &[&str]) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(args);
    Ok(command)
}

/// The instructions of a request through each entry; `None` without valgrind.
fn counts() -> Result<Option<Vec<i64>>> {
    let mut counts = Vec::new();
    for name in NAMES {
        let output = Command::new("valgrind")
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
            .arg("--toggle-collect=*timed_requests*")
            .arg(std::env::current_exe()?)
            .args(["once", name])
            .output();
        let output = match output {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            output => String::from_utf8(output?.stderr)?,
        };
        let count = output
            .lines()
            .find_map(|line| line.split_once("Collected :"));
        let (_, count) = count.ok_or_else(|| format!("valgrind failed: {output}"))?;
        counts.push(count.trim().parse::<i64>()? / REQUESTS as i64);
    }
    Ok(Some(counts))
}
