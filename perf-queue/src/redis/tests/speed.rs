use std::time::{Duration, Instant};

use super::faults::command;
use super::support::*;
use crate::remote::{NewJob, Remote, Rules};

/// Seconds that the server computed so far: unlike the time that passed, this says something on a
/// machine that is busy with other things as well.
async fn server_seconds(url: &str) -> f64 {
    let info: String = command(url, &["INFO", "cpu"]).await.unwrap();
    let of = |name: &str| -> f64 {
        let line = info.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap().parse().unwrap()
    };
    of("used_cpu_user:") + of("used_cpu_sys:")
}

/// Run by hand: `cargo test -p perf-queue --release --features redis -- --ignored --nocapture speed`.
#[tokio::test]
#[ignore = "a measurement"]
async fn speed() {
    let limits = Rules {
        queue: Some(quota(1_000_000, Duration::from_secs(1), 1)),
        key: Some(quota(100_000, Duration::from_secs(1), 1)),
        concurrency_per_key: None,
    };
    for (what, backlog, keys, batch, rules) in [
        ("one key", 20_000, 1, 200, Rules::default()),
        ("one key", 20_000, 1, 500, Rules::default()),
        ("one key", 20_000, 1, 1_000, Rules::default()),
        ("one key", 200_000, 1, 500, Rules::default()),
        ("100 keys", 20_000, 100, 500, Rules::default()),
        (
            "as many keys as jobs",
            20_000,
            20_000,
            500,
            Rules::default(),
        ),
        (
            "100 keys, 1 of each at once",
            20_000,
            100,
            100,
            one_per_key(),
        ),
        ("1,000 keys, limits", 20_000, 1_000, 500, limits),
    ] {
        let Some(backend) = backend().await else {
            return;
        };
        let (url, backend) = (backend.url.clone(), backend.capacity(1_000_000));
        let remote = backend.open("q", Some(&rules)).await.unwrap();
        let jobs: Vec<NewJob> = (0..backlog)
            .map(|number| NewJob {
                payload: vec![7; 100],
                ..job(&(number % keys).to_string(), number)
            })
            .collect();
        let before = server_seconds(&url).await;
        let start = Instant::now();
        for jobs in jobs.chunks(batch) {
            remote.add(jobs).await;
        }
        let enqueued = start.elapsed();
        let (mut ended, mut seen, mut trips) = (Vec::new(), 0, 0);
        let mut wanted = want(batch);
        wanted.within = 50 * MS;
        loop {
            let exchange = remote.exchange(&ended, wanted).await.unwrap();
            trips += 1;
            seen += exchange.granted.len();
            ended = done(&exchange.granted);
            if ended.is_empty() && exchange.next.is_none() {
                break;
            }
        }
        let total = start.elapsed();
        let server = (server_seconds(&url).await - before) * 1e6 / seen as f64;
        let rate = |n: usize, time: Duration| n as f64 / time.as_secs_f64();
        println!(
            "{what}, {seen} jobs in batches of {batch}: enqueue {:.0}/s, drain {:.0}/s ({trips} trips), \
             end to end {:.0}/s, {server:.1} us of the server's a job",
            rate(seen, enqueued),
            rate(seen, total - enqueued),
            rate(seen, total),
        );
    }
}
