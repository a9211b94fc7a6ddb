use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::AsyncCommands;
use tokio::task::JoinSet;

use super::support::*;
use crate::remote::redis::remote::RedisRemote;
use crate::remote::{Read, Remote};

const TASKS: u32 = 64;
const KEYS: u32 = 1_000;
const ROUNDS: usize = 10;

/// What a round of 64 tasks took, and each of its reads.
struct Round {
    took: Duration,
    reads: Vec<Duration>,
}

async fn round<F: Future<Output = ()> + Send + 'static>(
    reads: u32,
    read: impl Fn(u32, u32) -> F + Clone + Send + 'static,
) -> Round {
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let read = read.clone();
        tasks.spawn(async move {
            let mut took = Vec::with_capacity(reads as usize);
            for number in 0..reads {
                let began = Instant::now();
                read(task, (task * 37 + number * 101) % KEYS).await;
                took.push(began.elapsed());
            }
            took
        });
    }
    let reads = tasks.join_all().await.concat();
    Round {
        took: began.elapsed(),
        reads,
    }
}

fn report(what: &str, rounds: &mut [Round]) -> f64 {
    let reads: usize = rounds.iter().map(|round| round.reads.len()).sum();
    let mut each: Vec<Duration> = rounds.iter().flat_map(|r| r.reads.clone()).collect();
    each.sort_unstable();
    rounds.sort_unstable_by_key(|round| round.took);
    let median = rounds[rounds.len() / 2].took.as_secs_f64();
    let rate = reads as f64 / rounds.len() as f64 / median;
    let (half, p99) = (each[each.len() / 2], each[each.len() * 99 / 100]);
    println!("{what}: {rate:.0} reads/s, p50 {half:?}, p99 {p99:?}");
    rate
}

/// Run by hand: `cargo test -p perf-cache --release --features redis -- --ignored --nocapture speed`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn speed() {
    let Some(tier) = tier().await else { return };
    let url = testkit::Redis::shared().await.unwrap().url();
    let ours: Arc<RedisRemote<u32, String>> = open(&tier, None);
    let client = redis::Client::open(url).unwrap();
    let mut managers = Vec::new();
    for _ in 0..TASKS {
        managers.push(client.get_connection_manager().await.unwrap());
    }
    let prefix = testkit::unique("speed");
    for key in 0..KEYS {
        ours.load(key, "x".repeat(100)).await;
        let value = "x".repeat(100);
        let _: () = managers[0]
            .set(format!("{prefix}:{key}"), value)
            .await
            .unwrap();
    }
    let (mut our_rounds, mut their_rounds) = (Vec::new(), Vec::new());
    for number in 0..=ROUNDS {
        let remote = Arc::clone(&ours);
        let read = move |_, key| {
            let remote = Arc::clone(&remote);
            async move {
                let read = remote.read(&[key], true).await.pop();
                assert!(matches!(read, Some(Read::Value(_))));
            }
        };
        let our_round = round(4_000, read).await;
        let (managers, prefix) = (managers.clone(), prefix.clone());
        let read = move |task: u32, key| {
            let mut manager = managers[task as usize].clone();
            let name = format!("{prefix}:{key}");
            async move {
                let value: String = manager.get(name).await.unwrap();
                assert_eq!(value.len(), 100);
            }
        };
        let their_round = round(1_000, read).await;
        // The first warms up.
        if number > 0 {
            our_rounds.push(our_round);
            their_rounds.push(their_round);
        }
    }
    let ours = report("coalesced", &mut our_rounds);
    let theirs = report("a ConnectionManager for each task", &mut their_rounds);
    println!("{:.2} times", ours / theirs);
}
