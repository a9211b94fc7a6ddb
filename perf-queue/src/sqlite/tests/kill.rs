//! Processes that are killed at any moment: this test binary, started again.

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use super::*;

pub(super) const FILE: &str = "PERF_QUEUE_TEST_FILE";

fn child(test: &str, file: &Path) -> Child {
    child_of(&format!("kill::{test}"), file, &[])
}

pub(super) fn child_of(test: &str, file: &Path, env: &[(&str, &str)]) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture"])
        .arg(format!("sqlite::tests::{test}"))
        .env(FILE, file)
        .envs(env.iter().copied())
        .stdout(Stdio::piped())
        .stdin(Stdio::piped())
        .spawn()
        .unwrap()
}

/// More letters than there will be.
async fn open_all(file: &Path) -> (Journal, Vec<Stored>) {
    let sqlite = Sqlite::open(file).dead_letters(1 << 20);
    sqlite.start("test").await.unwrap()
}

/// Says on standard output what becomes of which jobs: `+` when they are added; `d`, `x` or `r`
/// before it is told that they are done, dead or to be retried, and `D` or `X` when that is flushed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by the tests here"]
async fn adds_and_ends_jobs() {
    let Ok(file) = std::env::var(FILE) else {
        return;
    };
    let (journal, found) = open_all(Path::new(&file)).await;
    let mut out = std::io::stdout();
    let mut say = |signs: &[char], jobs: &[(JobId, RowId)]| {
        let lines = jobs.iter().zip(signs.iter().cycle());
        let text: String = lines
            .map(|((id, _), sign)| format!("{sign}{id}\n"))
            .collect();
        out.write_all(text.as_bytes()).unwrap();
        out.flush().unwrap();
    };
    let mut alive: Vec<_> = found.iter().map(|job| (job.id, job.row)).collect();
    loop {
        let size = fastrand::usize(1..40);
        let jobs = (0..size).map(|at| job(format!("{size} {at}"))).collect();
        let added = journal.append(jobs).await.unwrap();
        let added: Vec<_> = added.iter().map(|it| (it.id, it.row.unwrap())).collect();
        say(&['+'], &added);
        alive.extend(added);
        let ended = alive.len().min(fastrand::usize(0..45));
        let ended: Vec<_> = alive.drain(..ended).collect();
        say(&['d', 'x', 'd', 'r', 'd'], &ended);
        for ((_, row), how) in ended.iter().zip([0, 1, 0, 2, 0].into_iter().cycle()) {
            journal.started(*row);
            let error = "failed".to_owned();
            let end = [End::Done, End::Dead { error }, retry(2, "failed")];
            journal.end(*row, end[how].clone());
        }
        if fastrand::bool() {
            journal.flush().await.unwrap();
            say(&['D', 'X', 'D', 'r', 'D'], &ended);
        }
    }
}

/// What was said of each job.
#[derive(Default)]
struct Seen(HashMap<String, HashSet<char>>);

impl Seen {
    fn read(&mut self, line: &str) {
        // The harness' own lines, and the last one, which may be cut.
        let Some(text) = line.strip_suffix('\n') else {
            return;
        };
        let mut rest = text.chars();
        if let Some(sign) = rest.next()
            && "+dxrDX".contains(sign)
            && rest.as_str().len() == 32
        {
            let said = self.0.entry(rest.as_str().to_owned()).or_default();
            said.insert(sign);
        }
    }

    fn count(&self, sign: char) -> usize {
        self.0.values().filter(|said| said.contains(&sign)).count()
    }

    fn check(&self, found: &[Stored], letters: &[crate::remote::Letter]) {
        assert!(found.is_sorted_by_key(|job| job.row), "out of order");
        let jobs: HashSet<String> = found.iter().map(|job| job.id.to_string()).collect();
        let dead: HashSet<String> = letters.iter().map(|it| it.id.to_string()).collect();
        assert_eq!((jobs.len(), dead.len()), (found.len(), letters.len()));
        assert!(jobs.is_disjoint(&dead), "dead and alive");
        for (id, said) in &self.0 {
            let said = |sign| said.contains(&sign);
            let there = jobs.contains(id) || dead.contains(id);
            assert!(there || said('d') || !said('+'), "{id} lost");
            assert!(!there || !said('D'), "{id} is back");
            assert!(dead.contains(id) || !said('X'), "letter of {id} lost");
        }
        for id in dead {
            assert!(
                self.0.get(&id).is_some_and(|said| said.contains(&'x')),
                "{id} is dead"
            );
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
            let (journal, found) = open_all(&dir.file()).await;
            seen.check(&found, &journal.dead(1 << 20).await.unwrap());
            journal.shutdown().await;
        }
    }
    assert!("+DX".chars().all(|sign| seen.count(sign) > 100));
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
