//! A process in a control group of its own fills its memory, and the alerts on it fire and clear.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use perf_metrics::{AlertOptions, Monitor};
use testkit::{Prometheus, PrometheusOptions};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

use crate::endpoints::serve;
use crate::firing::{EVERY, firing, query, until};

/// The variable that tells the process its group.
const GROUP: &str = "PERF_TEST_CONTROL_GROUP";
const LIMIT: u64 = 256 << 20;
const STEP: usize = 1 << 20;

fn monitor() -> Monitor {
    let options = AlertOptions::default()
        .scrape_interval(EVERY)
        .time_scale(1.0 / 3600.0);
    let monitor = Monitor::builder().service("filling").alerts(options);
    monitor.build().unwrap()
}

/// A control group below that of the tests, until it is dropped.
struct Group(PathBuf);

impl Group {
    /// One with this limit; `None` where there are no control groups, or nobody may make one.
    fn new(limit: u64) -> Option<Self> {
        let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
        groups.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let (root, file) = match parts.next()? {
                "memory" => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
                "" => ("/sys/fs/cgroup", "memory.max"),
                _ => return None,
            };
            let parent = Path::new(root).join(parts.next()?.trim_start_matches('/'));
            // What is no control group would take any file.
            if !parent.join("cgroup.procs").exists() {
                return None;
            }
            let group = Self(parent.join(format!("perf-metrics-{}", std::process::id())));
            fs::create_dir(&group.0).ok()?;
            let limit = fs::write(group.0.join(file), limit.to_string());
            limit.is_ok().then_some(group)
        })
    }

    fn or_skip() -> Option<Self> {
        let group = Self::new(LIMIT);
        if group.is_none() {
            let required = std::env::var("PERF_REQUIRE_CONTROL_GROUPS").is_ok_and(|it| it == "1");
            assert!(
                !required,
                "no control group can be made, and one is required"
            );
            let line = "skipped the alerts on real memory: no control group can be made here\n";
            let _ = std::io::stderr().write_all(line.as_bytes());
        }
        group
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

/// Waits until the alerts on memory that fire are these.
async fn until_firing(prometheus: &Prometheus, expected: &[&str]) {
    until(async || {
        let mut now = firing(prometheus).await;
        now.retain(|name| name.starts_with("ProcessMemory"));
        let these = now.iter().eq(expected);
        these.then_some(()).ok_or((now, expected))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_alerts_on_memory_fire_for_a_process_that_fills_its_own() {
    let Some(group) = Group::or_skip() else {
        return;
    };
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "filling::a_process_in_a_group", "--ignored"])
        .arg("--nocapture")
        .env(GROUP, &group.0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let url = loop {
        let line = lines.next_line().await.unwrap().expect("the url");
        if let Some(url) = line.strip_prefix("url ") {
            break url.to_owned();
        }
    };
    let mut stdin = child.stdin.take().unwrap();
    let mut fill = async |share: &str| {
        let line = format!("{share}\n");
        stdin.write_all(line.as_bytes()).await.unwrap();
    };
    let rules = monitor().alert_rules();
    let options = PrometheusOptions::default()
        .interval(EVERY)
        .scrape("filling", &format!("{url}/metrics"))
        .rules(&rules);
    let Some(prometheus) = Prometheus::start(options).await else {
        return;
    };

    fill("0.3").await;
    until(async || {
        let found = query(&prometheus, "process_memory_usage_ratio > 0.3").await;
        (!found.is_empty()).then_some(()).ok_or("no data")
    })
    .await;
    let limit = query(&prometheus, "process_memory_limit_bytes").await;
    assert_eq!(limit[0]["value"][1], LIMIT.to_string(), "{limit:?}");
    until_firing(&prometheus, &[]).await;
    fill("0.79").await;
    until_firing(&prometheus, &["ProcessMemoryHigh"]).await;
    fill("0.9").await;
    until_firing(&prometheus, &["ProcessMemoryCritical", "ProcessMemoryHigh"]).await;
    fill("0.79").await;
    until_firing(&prometheus, &["ProcessMemoryHigh"]).await;
    fill("0.3").await;
    until_firing(&prometheus, &[]).await;
    child.kill().await.unwrap();
}

/// The process that [`the_alerts_on_memory_fire_for_a_process_that_fills_its_own`] starts: it takes
/// memory, or gives it back, until it uses the share that it reads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "started by another test"]
async fn a_process_in_a_group() {
    let Ok(group) = std::env::var(GROUP) else {
        return;
    };
    let processes = Path::new(&group).join("cgroup.procs");
    fs::write(processes, std::process::id().to_string()).unwrap();
    let monitor = monitor();
    let url = serve(monitor.router()).await;
    println!("\nurl {url}");
    let used = || monitor.snapshot().process.memory_usage_ratio.unwrap();
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let mut held = Vec::new();
    while let Some(line) = lines.next_line().await.unwrap() {
        let share: f64 = line.parse().unwrap();
        while used() < share {
            held.push(vec![1_u8; STEP]);
        }
        while used() > share + 0.02 && held.pop().is_some() {}
    }
}
