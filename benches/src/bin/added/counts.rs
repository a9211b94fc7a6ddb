//! What valgrind counts: the same each time, on any machine.

use std::io::ErrorKind;
use std::process::Command;

use crate::Result;

const REQUESTS: u64 = 1_000;

/// Of one request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counts {
    pub(crate) instructions: i64,
    pub(crate) allocations: i64,
}

impl Counts {
    /// Those of a request through this entry; `None` without valgrind.
    pub(crate) fn of(name: &str) -> Result<Option<Self>> {
        let callgrind = [
            "--tool=callgrind",
            "--callgrind-out-file=/dev/null",
            "--toggle-collect=*timed_requests*",
        ];
        let Some(instructions) = run(&callgrind, name, REQUESTS, "Collected :")? else {
            return Ok(None);
        };
        // What else the process allocates is the same for twice as many.
        let memcheck = ["--tool=memcheck", "--undef-value-errors=no"];
        let usage = "total heap usage:";
        let once = run(&memcheck, name, REQUESTS, usage)?;
        let twice = run(&memcheck, name, 2 * REQUESTS, usage)?;
        let allocations = twice.zip(once).map_or(0, |(twice, once)| twice - once);
        Ok(Some(Self {
            instructions: instructions / REQUESTS as i64,
            allocations: allocations / REQUESTS as i64,
        }))
    }
}

/// The number that valgrind tells after `label`.
fn run(options: &[&str], name: &str, requests: u64, label: &str) -> Result<Option<i64>> {
    let output = Command::new("valgrind")
        .args(options)
        .arg(std::env::current_exe()?)
        .args(["once", name, &requests.to_string()])
        .output();
    let output = match output {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        output => String::from_utf8(output?.stderr)?,
    };
    let after = output.lines().find_map(|line| line.split_once(label));
    let number = after.and_then(|(_, rest)| rest.split_whitespace().next());
    let number = number.ok_or_else(|| format!("valgrind failed: {output}"))?;
    Ok(Some(number.replace(',', "").parse()?))
}
