use std::time::{Duration, Instant};

use super::restarts::built;
use super::*;
use crate::sqlite::file::OwnedFile;
use crate::{JobContext, Queue, QueueBuilder, Rate};

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

type Keyed = (u32, String);

/// Runs jobs of as many keys as there are, 100 bytes each. The time from the first enqueue to the last end
/// in the file, and that of the shutdown after it.
async fn run(queue: &Queue<Keyed>, jobs: usize, keys: usize) -> [Duration; 2] {
    let jobs = (0..jobs).map(|n| ((n % keys) as u32, "x".repeat(100)));
    let jobs: Vec<Keyed> = jobs.collect();
    let workers = queue.workers(10, |_: Keyed, _: JobContext| async { Ok(()) });
    let workers = workers.spawn();
    let start = Instant::now();
    queue.enqueue_batch(jobs).await.unwrap();
    queue.drain().await.unwrap();
    let took = start.elapsed();
    let start = Instant::now();
    workers.shutdown(Duration::from_secs(10)).await;
    [took, start.elapsed()]
}

fn keyed(file: &Path) -> QueueBuilder<Keyed, u32, Sqlite> {
    let queue = Queue::<Keyed>::builder("test").backend(Sqlite::open(file));
    queue.key(|job: &Keyed| job.0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, for a release build"]
async fn measures_limits_of_a_thousand_keys() {
    // Beyond what the disk can do, so that the limits cost their bookkeeping and hold nothing back.
    let none = Rate::new(1_000_000, Duration::from_millis(10)).burst(1_000_000);
    let mut took: [Vec<f64>; 3] = Default::default();
    for _ in 0..15 {
        for (at, took) in took.iter_mut().enumerate() {
            let dir = Dir::new();
            let queue = keyed(&dir.file());
            let (queue, keys) = match at {
                0 => (queue, 1),
                1 => (queue, 1_000),
                _ => {
                    let queue = queue.rate_limit(none).rate_limit_per_key(none);
                    (queue.concurrency_per_key(1), 1_000)
                }
            };
            let queue = queue.build().await.unwrap();
            took.push(run(&queue, JOBS, keys).await[0].as_secs_f64());
        }
    }
    let names = ["one key", "1,000 keys", "1,000 keys with all limits"];
    for (name, times) in names.into_iter().zip(&took) {
        let ratios = times.iter().zip(&took[0]).map(|(time, one)| time / one);
        let rate = JOBS as f64 / median(times.clone());
        let ratio = median(ratios.collect());
        println!("{name}: {rate:.0} jobs/s, {ratio:.2} times as long as one key");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, for a release build"]
async fn measures_an_opening_with_what_100_000_keys_have_had() {
    const KEYS: usize = 100_000;
    let dir = Dir::new();
    let file = dir.file();
    let limited = || keyed(&file).rate_limit_per_key(Rate::new(1, Duration::from_secs(3_600)));
    let size = || std::fs::metadata(&file).unwrap().len() >> 10;
    for keys in [1, KEYS] {
        let queue = limited().build().await.unwrap();
        let before = size();
        let [ran, left] = run(&queue, keys, keys).await;
        let kept = number(&file, "SELECT length(keys) FROM perf_queue_keys").await;
        drop(queue);
        while number(&file, "SELECT clean FROM perf_queue").await == 0 {
            tokio::task::yield_now().await;
        }
        let start = Instant::now();
        let queue = built(limited).await;
        let opened = start.elapsed();
        println!(
            "{keys} keys: ran in {ran:?}, shut down in {left:?}, {kept} bytes kept of keys; the file went \
             from {before} to {} KiB; built again in {opened:?}",
            size()
        );
        // Their jobs would wait.
        drop(queue);
        sql(
            &file,
            "DELETE FROM perf_queue_keys; UPDATE perf_queue_past SET closed = 0",
        )
        .await;
    }
}
