//! Nothing survives the process that started it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use testkit::{Postgres, Redis};

use crate::child;

#[tokio::test]
async fn servers_of_a_killed_process_vanish() {
    // External servers would not do: the child starts its own.
    if Postgres::start().await.is_none() || Redis::shared().await.is_none() {
        return;
    }
    let mut process = holder();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().ends_with("holding")));
    let directories = directories_of(&process);
    // Two of Postgres, and one each of Redis and Prometheus where their binaries are here.
    assert!(directories.len() >= 2, "{directories:?}");
    let servers: Vec<String> = directories.iter().map(|dir| server_in(dir)).collect();
    for server in &servers {
        assert!(runs(server), "{server} runs");
    }

    kill_the_group_of(&mut process);

    eventually("the servers end", || !servers.iter().any(|it| runs(it)));
    eventually("their files are gone", || {
        directories_of(&process).is_empty()
    });
}

#[tokio::test]
async fn a_process_killed_while_its_server_starts_leaves_nothing() {
    if Postgres::start().await.is_none() {
        return;
    }
    let mut process = holder();
    eventually("a server starts", || !directories_of(&process).is_empty());

    kill_the_group_of(&mut process);

    eventually("its files are gone", || directories_of(&process).is_empty());
}

/// A process that starts servers and keeps them.
fn holder() -> Child {
    child::command("holds_servers")
        .arg("--nocapture")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap()
}

/// As hard as a killed CI job: SIGKILL for the process and all of its group.
fn kill_the_group_of(process: &mut Child) {
    assert!(kill("-KILL", &format!("-{}", process.id())));
    assert_eq!(process.wait().unwrap().signal(), Some(9));
}

fn directories_of(process: &Child) -> Vec<PathBuf> {
    let pid = format!("_{:x}_", process.id());
    let mut places = vec![PathBuf::from("/tmp"), std::env::temp_dir()];
    places.dedup();
    places
        .iter()
        .flat_map(|place| fs::read_dir(place).unwrap().flatten())
        .filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.starts_with("perf_test_") && name.contains(&pid)
        })
        .map(|entry| entry.path())
        .collect()
}

fn server_in(directory: &Path) -> String {
    let pid = fs::read_to_string(directory.join("pid")).unwrap();
    pid.trim().to_owned()
}

fn runs(pid: &str) -> bool {
    kill("-0", pid)
}

fn kill(signal: &str, whom: &str) -> bool {
    Command::new("/bin/sh")
        .arg("-c")
        .arg(r#"kill "$1" "$2""#)
        .args(["sh", signal, whom])
        .stderr(Stdio::null())
        .status()
        .unwrap()
        .success()
}

fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < deadline, "not within a minute: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}
