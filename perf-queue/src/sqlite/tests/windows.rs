//! The limits of a queue and of its keys hold in windows that span the end of a process, also of one that
//! is killed.

use std::io::{BufRead, BufReader, Write};
use std::time::SystemTime;

use super::kill::{FILE, child_of};
use super::*;
use crate::{JobContext, Queue, Rate};

const LIMITS: &str = "PERF_QUEUE_TEST_LIMITS";

const PERIOD: Duration = Duration::from_secs(1);

/// How much later than its grant a start may be said, on a loaded machine.
pub(super) const LATE: Duration = Duration::from_millis(500);

/// Limits by their names, and how many may start in a period: of all, or of each key.
const QUOTAS: [(&str, usize); 5] = [
    ("even", 5),
    ("burst", 5),
    ("keys", 1),
    ("burst of keys", 5),
    ("keys of their own", 1),
];

pub(super) fn key(job: u32) -> u32 {
    job % 3
}

async fn queue(file: &Path, limits: &str) -> Queue<u32> {
    let builder = Queue::<u32>::builder("test").backend(Sqlite::open(file));
    let builder = builder.key(|job| key(*job));
    let rate = Rate::new(5, PERIOD);
    let built = match limits {
        "even" => builder.rate_limit(rate),
        "burst" => builder.rate_limit(rate.burst(5)),
        "keys" => builder.rate_limit_per_key(Rate::new(1, PERIOD)),
        "burst of keys" => builder.rate_limit_per_key(rate.burst(5)),
        "keys of their own" => builder.rate_limit_per_key(|_: &u32| Rate::new(1, PERIOD)),
        _ => panic!("{limits}"),
    };
    built.build().await.unwrap()
}

pub(super) fn micros() -> u64 {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap();
    u64::try_from(since.as_micros()).unwrap()
}

/// Says when jobs start, until it is killed, or told by the end of its input to let go of the queue.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by the tests here"]
async fn starts_jobs() {
    let (Ok(file), Ok(limits)) = (std::env::var(FILE), std::env::var(LIMITS)) else {
        return;
    };
    let queue = queue(Path::new(&file), &limits).await;
    queue.enqueue_batch((0..100).collect()).await.unwrap();
    let workers = queue.workers(4, |job: u32, _: JobContext| async move {
        let line = format!("\nstart {} {}\n", key(job), micros());
        let mut out = std::io::stdout();
        out.write_all(line.as_bytes()).unwrap();
        out.flush().unwrap();
        Ok(())
    });
    let workers = workers.spawn();
    let told = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new()));
    told.await.unwrap().unwrap();
    workers.shutdown(Duration::from_secs(5)).await;
    drop((workers, queue));
    while number(Path::new(&file), "SELECT clean FROM perf_queue").await == 0 {
        tokio::task::yield_now().await;
    }
}

/// The last start of a process, and the one that is `quota` later, are a period apart, except for how
/// late the former was said.
fn check(starts: &[Vec<(u32, u64)>], limits: &str, quota: usize) {
    let all = starts.concat();
    let apart = u64::try_from((PERIOD - LATE).as_micros()).unwrap();
    for key in 0..3 {
        let of_keys = limits.contains("keys");
        let counted = all.iter().filter(|(k, _)| !of_keys || *k == key);
        let counted: Vec<u64> = counted.map(|(_, at)| *at).collect();
        for window in counted.windows(quota + 1) {
            let took = window[quota] - window[0];
            assert!(
                took >= apart,
                "{limits}: {took} us for {window:?} of {starts:?}"
            );
        }
    }
}

fn across(limits: &str, quota: usize, kill: bool) {
    let dir = Dir::new();
    let mut all = Vec::new();
    // With a burst, in the middle of it.
    let (processes, after) = if limits.starts_with("burst") {
        (4, 3)
    } else {
        (8, 1)
    };
    for _ in 0..processes {
        let mut child = child_of("windows::starts_jobs", &dir.file(), &[(LIMITS, limits)]);
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut starts = Vec::new();
        let mut ended = false;
        for line in lines.map_while(Result::ok) {
            let Some(at) = line.strip_prefix("start ") else {
                continue;
            };
            let (key, at) = at.split_once(' ').unwrap();
            starts.push((key.parse().unwrap(), at.parse().unwrap()));
            if starts.len() == after && !ended {
                ended = true;
                if kill {
                    child.kill().unwrap();
                } else {
                    drop(child.stdin.take());
                }
            }
        }
        child.wait().unwrap();
        assert!(ended, "{limits}: it has ended before");
        all.push(starts);
    }
    check(&all, limits, quota);
}

#[test]
fn windows_hold_across_processes_that_are_killed() {
    for (limits, quota) in QUOTAS {
        across(limits, quota, true);
    }
}

#[test]
fn windows_hold_across_processes_that_let_go_of_the_queue() {
    for (limits, quota) in QUOTAS {
        across(limits, quota, false);
    }
}
