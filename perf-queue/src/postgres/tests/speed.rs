use std::time::Instant;

use super::support::*;
use crate::remote::{NewJob, Remote, Rules};

async fn run(total: usize, size: usize, keys: usize) {
    run_with(total, size, keys, false).await;
}

/// Where it says so, nothing of what jobs leave is removed or marked meanwhile.
async fn run_with(total: usize, size: usize, keys: usize, left: bool) {
    let Some(backend) = backend().await else {
        return;
    };
    let backend = backend.capacity(1_000_000);
    let remote = backend.open("q", Some(&Rules::default())).await.unwrap();
    let mut held = None;
    if left {
        remote.no_vacuum().await;
        held = Some(hold_back(&remote).await);
    }
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
        "{total} jobs of {keys} keys in {size}s, what they leave stays: {left}: enqueue {}/s, leased and ended {}/s, {:.1} us a job (first half {}/s), end to end {}/s",
        rate(total, enqueued),
        rate(total, drained),
        drained.as_secs_f64() * 1e6 / total as f64,
        rate(total / 2, half.unwrap()),
        rate(total, enqueued + drained),
    );
    drop(held);
}

/// The least that a queue could do: insert rows in batches, then delete them in batches.
async fn floor(total: usize, size: usize) {
    let Some(server) = testkit::Postgres::shared().await else {
        return;
    };
    let pool = pool(&server.url()).await;
    let table = testkit::unique("floor");
    let run = |sql: String| sqlx::query(sqlx::AssertSqlSafe(sql));
    run(format!(
        "CREATE TABLE {table} (id bigserial PRIMARY KEY, payload bytea)"
    ))
    .execute(&pool)
    .await
    .unwrap();
    let batch = vec![vec![b'x'; 100]; size];
    let begun = Instant::now();
    for _ in 0..total / size {
        run(format!(
            "INSERT INTO {table} (payload) SELECT unnest($1::bytea[])"
        ))
        .bind(&batch)
        .execute(&pool)
        .await
        .unwrap();
    }
    let mut count = 0;
    while count < total {
        let rows = run(format!(
            "DELETE FROM {table} WHERE id IN (SELECT id FROM {table} ORDER BY id LIMIT {size} \
             FOR UPDATE SKIP LOCKED) RETURNING id, payload"
        ))
        .fetch_all(&pool)
        .await
        .unwrap();
        count += rows.len();
    }
    let rate = total as f64 / begun.elapsed().as_secs_f64();
    println!("floor: {total} rows in {size}s: end to end {rate:.0}/s");
}

#[tokio::test]
#[ignore = "measures; for a release build on a quiet machine"]
async fn jobs_per_second() {
    for _ in 0..3 {
        floor(20_000, 500).await;
        run(20_000, 500, 0).await;
    }
    run(20_000, 200, 0).await;
    run(20_000, 1000, 0).await;
    run(200_000, 500, 0).await;
    floor(20_000, 500).await;
    run(20_000, 500, 10).await;
    run(20_000, 500, 1_000).await;
    run(200_000, 500, 1_000).await;
    run(20_000, 500, 20_000).await;
}

#[tokio::test]
#[ignore = "measures; for a release build on a quiet machine"]
async fn jobs_per_second_while_nothing_is_removed() {
    for keys in [0, 10, 1_000, 200_000] {
        for total in [20_000, 200_000] {
            run_with(total, 500, keys, true).await;
        }
    }
}
