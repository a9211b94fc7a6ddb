//! Processes that are killed at any moment: this test binary, started again.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use super::*;

const FILE: &str = "PERF_QUEUE_TEST_FILE";

fn child(test: &str, file: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture"])
        .arg(format!("sqlite::tests::kill::{test}"))
        .env(FILE, file)
        .stdout(Stdio::piped())
        .stdin(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Says on standard output what the journal has acknowledged: `+` for jobs added, `!` before a job's
/// end is told, `-` for ends flushed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by the tests here"]
async fn adds_and_ends_jobs() {
    let Ok(file) = std::env::var(FILE) else {
        return;
    };
    let (journal, found) = open(Path::new(&file)).await;
    let mut out = std::io::stdout();
    let mut say = |sign: char, rows: &[RowId]| {
        let rows = rows.iter().map(|row| format!("{sign}{}\n", row.to_u64()));
        let text: String = rows.collect();
        out.write_all(text.as_bytes()).unwrap();
        out.flush().unwrap();
    };
    let mut alive: Vec<RowId> = found.iter().map(|job| job.row).collect();
    loop {
        let size = fastrand::usize(1..40);
        let jobs = (0..size).map(|at| job(format!("{size} {at}"))).collect();
        let added = rows(&journal.append(jobs).await.unwrap());
        say('+', &added);
        alive.extend(added);
        let ended = alive.len().min(fastrand::usize(0..45));
        let ended: Vec<_> = alive.drain(..ended).collect();
        say('!', &ended);
        for row in &ended {
            journal.started(*row);
            journal.end(*row, End::Done);
        }
        if fastrand::bool() {
            journal.flush().await.unwrap();
            say('-', &ended);
        }
    }
}

#[derive(Default)]
struct Seen {
    added: HashSet<u64>,
    told: HashSet<u64>,
    flushed: HashSet<u64>,
}

impl Seen {
    fn read(&mut self, line: &str) {
        // The harness' own lines, and the last one, which may be cut.
        let Some(text) = line.strip_suffix('\n') else {
            return;
        };
        let Some((sign, row)) = text.split_at_checked(1) else {
            return;
        };
        let Ok(row) = row.parse() else { return };
        match sign {
            "+" => self.added.insert(row),
            "!" => self.told.insert(row),
            "-" => self.flushed.insert(row),
            _ => true,
        };
    }

    fn check(&self, found: &[Stored]) {
        let rows: Vec<u64> = found.iter().map(|job| job.row.to_u64()).collect();
        assert!(rows.is_sorted(), "out of order");
        let rows: HashSet<u64> = rows.into_iter().collect();
        for row in &self.added {
            assert!(rows.contains(row) || self.told.contains(row), "{row} lost");
        }
        for row in &self.flushed {
            assert!(!rows.contains(row), "{row} is back");
        }
    }
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_when_processes_are_killed() {
    let dir = Dir::new();
    let mut seen = Seen::default();
    for round in 0..100 {
        let mut child = child("adds_and_ends_jobs", &dir.file());
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        // Killed after that many lines, or so: it goes on until it is.
        for _ in 0..fastrand::u32(1..400) {
            let mut line = String::new();
            assert!(lines.read_line(&mut line).unwrap() > 0, "it has ended");
            seen.read(&line);
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let mut line = String::new();
        while lines.read_line(&mut line).unwrap() > 0 {
            seen.read(&line);
            line.clear();
        }
        if round % 10 == 9 {
            let (journal, found) = dir.open().await;
            seen.check(&found);
            journal.shutdown().await;
        }
    }
    assert!(seen.added.len() > 1_000 && !seen.flushed.is_empty());
}

/// Starts a job, says so when it is marked, and waits for its end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by the tests here"]
async fn runs_a_job() {
    let Ok(file) = std::env::var(FILE) else {
        return;
    };
    let (journal, found) = open(Path::new(&file)).await;
    let row = match found.first() {
        Some(job) => job.row,
        None => append(&journal, "fatal").await,
    };
    journal.started(row);
    let path = Path::new(&file);
    while number(path, "SELECT max(started) FROM perf_queue_job").await == 0 {
        tokio::task::yield_now().await;
    }
    println!("\nmarked");
    std::io::stdout().flush().unwrap();
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_job_that_kills_its_process_counts_each_attempt() {
    let dir = Dir::new();
    for _ in 0..3 {
        let mut child = child("runs_a_job", &dir.file());
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let marked = lines.map(Result::unwrap).any(|line| line == "marked");
        assert!(marked, "it has ended");
        // While it lives, nobody else has its queue.
        let refused = Sqlite::open(dir.file()).start("test").await;
        assert!(matches!(refused, Err(BackendError::Unfit { .. })));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let (_journal, jobs) = dir.open().await;
    assert_eq!(
        (jobs.len(), jobs[0].attempt, jobs[0].errors.len()),
        (1, 4, 3)
    );
}

/// Starts the first job, and dies of it before it has run for a millisecond.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by the tests here"]
async fn dies_of_a_job() {
    let Ok(file) = std::env::var(FILE) else {
        return;
    };
    let (journal, found) = open(Path::new(&file)).await;
    match found.first() {
        Some(job) if job.suspect => journal.started_for_sure(job.row).await.unwrap(),
        Some(job) => journal.started(job.row),
        None => journal.started(append(&journal, "fatal").await),
    }
    std::process::abort();
}

#[tokio::test]
async fn a_job_that_kills_its_process_at_once_is_a_suspect_and_then_counted() {
    let dir = Dir::new();
    for _ in 0..4 {
        let mut child = child("dies_of_a_job", &dir.file());
        assert!(!child.wait().unwrap().success());
    }
    let (journal, jobs) = dir.open().await;
    // The first time nobody could know.
    assert_eq!((jobs.len(), jobs[0].attempt), (1, 4));
    assert!(jobs[0].suspect);
    journal.shutdown().await;
    assert!(!dir.open().await.1[0].suspect);
}
