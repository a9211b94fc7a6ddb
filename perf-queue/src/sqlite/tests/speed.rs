use std::time::{Duration, Instant};

use super::*;
use crate::sqlite::file::OwnedFile;

const JOBS: usize = 20_000;

/// The rate of adding and ending all jobs by a journal.
async fn journal(batch: usize) -> f64 {
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
    for rows in added.chunks(batch) {
        for row in rows {
            journal.started(*row);
            journal.end(*row, End::Done);
        }
        tokio::task::yield_now().await;
    }
    journal.flush().await.unwrap();
    rate(start.elapsed())
}

/// The same by statements on a bare connection, one at a time, with the same settings.
async fn floor(batch: usize) -> f64 {
    let dir = Dir::new();
    dir.open().await.0.shutdown().await;
    let mut file = OwnedFile::take(&dir.file(), "test").unwrap();
    let mut conn = file.open().await.unwrap();
    let values = vec!["(1, 2, 3, 0, ?)"; batch].join(",");
    let insert = format!(
        "INSERT INTO perf_queue_job (queue, id_hi, id_lo, enqueued, payload) VALUES {values}"
    );
    let marks = vec!["?"; batch].join(",");
    let delete = format!("DELETE FROM perf_queue_job WHERE seq IN ({marks})");
    let start = Instant::now();
    for _ in 0..JOBS / batch {
        let mut query = sqlx::query(sqlx::AssertSqlSafe(insert.as_str()));
        for _ in 0..batch {
            query = query.bind(vec![7_u8; 100]);
        }
        query.execute(&mut conn).await.unwrap();
    }
    for at in 0..JOBS / batch {
        let mut query = sqlx::query(sqlx::AssertSqlSafe(delete.as_str()));
        for row in 1..=batch {
            query = query.bind((at * batch + row) as i64);
        }
        let done = query.execute(&mut conn).await.unwrap();
        assert_eq!(done.rows_affected() as usize, batch);
    }
    rate(start.elapsed())
}

fn rate(took: Duration) -> f64 {
    JOBS as f64 / took.as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, for a release build"]
async fn measures_batches() {
    for batch in [100, 1_000] {
        let (mut ours, mut floors) = (Vec::new(), Vec::new());
        for _ in 0..15 {
            ours.push(journal(batch).await);
            floors.push(floor(batch).await);
        }
        let ratios = ours.iter().zip(&floors).map(|(ours, floor)| ours / floor);
        println!(
            "in batches of {batch}, append and end: ratio to the floor {:.2}, {:.0}/s of {:.0}/s",
            median(ratios.collect()),
            median(ours),
            median(floors)
        );
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
