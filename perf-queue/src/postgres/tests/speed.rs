use std::time::Instant;

use super::support::*;
use crate::remote::{NewJob, Remote, Rules};

async fn run(total: usize, size: usize, keys: usize) {
    let Some(backend) = backend().await else {
        return;
    };
    let backend = backend.capacity(1_000_000);
    let remote = backend.open("q", Some(&Rules::default())).await.unwrap();
    let all: Vec<NewJob> = (0..total)
        .map(|i| {
            let key = if keys == 0 {
                String::new()
            } else {
                format!("k{}", i % keys)
            };
            let mut job = job(&key);
            job.payload = vec![b'x'; 100];
            job
        })
        .collect();
    let begun = Instant::now();
    for batch in all.chunks(size) {
        add(&remote, batch).await;
    }
    let enqueued = begun.elapsed();
    let mut ended = Vec::new();
    let mut count = 0;
    let middle = Instant::now();
    let mut half = None;
    while count < total || !ended.is_empty() {
        let exchange = remote.exchange(&ended, want(size)).await.unwrap();
        count += exchange.granted.len();
        ended = exchange.granted.iter().map(done).collect();
        if count >= total / 2 && half.is_none() {
            half = Some(middle.elapsed());
        }
    }
    let drained = middle.elapsed();
    let rate = |n: usize, t: std::time::Duration| (n as f64 / t.as_secs_f64()) as u64;
    println!(
        "{total} jobs of {keys} keys in {size}s: enqueue {}/s, drain {}/s (first half {}/s), end to end {}/s",
        rate(total, enqueued),
        rate(total, drained),
        rate(total / 2, half.unwrap()),
        rate(total, enqueued + drained),
    );
}

#[tokio::test]
#[ignore = "measures; for a release build on a quiet machine"]
async fn jobs_per_second() {
    for _ in 0..3 {
        run(20_000, 500, 0).await;
    }
    run(20_000, 200, 0).await;
    run(20_000, 1000, 0).await;
    run(200_000, 500, 0).await;
    run(20_000, 500, 10).await;
    run(20_000, 500, 1_000).await;
    run(20_000, 500, 20_000).await;
}
