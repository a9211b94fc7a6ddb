use std::time::{Duration, Instant};

use super::*;

const JOBS: usize = 20_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, for a release build"]
async fn measures_batches() {
    for batch in [100, 1_000] {
        for round in 0..5 {
            let dir = Dir::new();
            let (journal, _) = dir.open().await;
            let jobs: Vec<Vec<NewJob>> = (0..JOBS / batch)
                .map(|_| (0..batch).map(|_| job([7; 100])).collect())
                .collect();
            let start = Instant::now();
            let mut added = Vec::with_capacity(JOBS);
            for jobs in jobs {
                added.extend(rows(&journal.append(jobs).await.unwrap()));
            }
            let appended = start.elapsed();
            for rows in added.chunks(batch) {
                for row in rows {
                    journal.started(*row);
                    journal.end(*row, End::Done);
                }
                // As if they took their time.
                tokio::task::yield_now().await;
            }
            journal.flush().await.unwrap();
            let took = start.elapsed();
            let rate = |took: Duration| JOBS as f64 / took.as_secs_f64();
            println!(
                "batches of {batch}, round {round}: append {:.0}/s, append and end {:.0}/s",
                rate(appended),
                rate(took)
            );
            journal.shutdown().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, for a release build"]
async fn measures_one_by_one() {
    let dir = Dir::new();
    let (journal, _) = dir.open().await;
    let mut took = Vec::new();
    for _ in 0..2_000 {
        let start = Instant::now();
        let row = append(&journal, "one").await;
        took.push(start.elapsed());
        journal.end(row, End::Done);
    }
    took.sort_unstable();
    println!(
        "one append: p50 {:?}, p99 {:?}, most {:?}",
        took[took.len() / 2],
        took[took.len() * 99 / 100],
        took[took.len() - 1]
    );
    let journal = std::sync::Arc::new(journal);
    let start = Instant::now();
    let tasks: Vec<_> = (0..100)
        .map(|_| {
            let journal = std::sync::Arc::clone(&journal);
            tokio::spawn(async move {
                for _ in 0..200 {
                    let row = append(&journal, "one of many").await;
                    journal.started(row);
                    journal.end(row, End::Done);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    journal.flush().await.unwrap();
    let rate = 20_000.0 / start.elapsed().as_secs_f64();
    println!("100 callers, one by one: {rate:.0}/s");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, for a release build"]
async fn measures_load() {
    let dir = Dir::new();
    let (journal, _) = dir.open().await;
    for _ in 0..200 {
        let jobs = (0..1_000).map(|_| job([7; 100])).collect();
        journal.append(jobs).await.unwrap();
    }
    journal.shutdown().await;
    let start = Instant::now();
    let (_journal, jobs) = dir.open().await;
    println!("{} jobs loaded in {:?}", jobs.len(), start.elapsed());
}
