//! The part of a process that is started by a test: it enqueues jobs and works them off, until it is
//! told to come to an end, or comes to one.

use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use perf_queue::{Backoff, JobContext, JobError, Queue, QueueBackend, Rate};

use super::log::{Log, What, now};
use super::{LEASE, PER_KEY, PER_SECOND, Task};
use crate::support::{ms, secs};

/// What the process is told by its environment.
pub(super) const PLACE: &str = "PERF_QUEUE_TEST_PLACE";
pub(super) const URL: &str = "PERF_QUEUE_TEST_URL";
pub(super) const EVENTS: &str = "PERF_QUEUE_TEST_EVENTS";
pub(super) const NUMBER: &str = "PERF_QUEUE_TEST_NUMBER";
pub(super) const PAUSE: &str = "PERF_QUEUE_TEST_PAUSE";

const WORKERS: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by the tests here"]
async fn is_a_process_of_a_queue() {
    let Ok(place) = std::env::var(PLACE) else {
        return;
    };
    let url = std::env::var(URL).unwrap();
    match place.as_str() {
        #[cfg(feature = "sqlite")]
        "sqlite" => work(|| perf_queue::Sqlite::open(&url)).await,
        #[cfg(feature = "redis")]
        "redis" => {
            let redis = || perf_queue::Redis::connect(url.clone()).response_timeout(ms(500));
            work(redis).await;
        }
        #[cfg(feature = "postgres")]
        "postgres" => {
            let pool = sqlx::postgres::PgPoolOptions::new()
                .max_connections(4)
                .acquire_timeout(secs(2))
                .connect_lazy(&url)
                .unwrap();
            work(|| perf_queue::Postgres::new(pool.clone()).schema("queue")).await;
        }
        other => panic!("{other}"),
    }
}

/// Told by a line on standard input. Its end is that of the test, which must leave nobody behind.
fn told_to_end() -> Arc<AtomicBool> {
    let told = Arc::new(AtomicBool::new(false));
    let end = Arc::clone(&told);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            assert_eq!(line.unwrap(), "end");
            end.store(true, SeqCst);
        }
        std::process::exit(1);
    });
    told
}

async fn work<B: QueueBackend<Task, u32>>(backend: impl Fn() -> B) {
    let told = told_to_end();
    let log = Arc::new(Log::open(&PathBuf::from(std::env::var(EVENTS).unwrap())));
    let queue = loop {
        let queue = Queue::builder("q")
            .backend(backend())
            .key(|task: &Task| task.key)
            .lease(LEASE)
            .rate_limit(Rate::per_second(PER_SECOND))
            .rate_limit_per_key(Rate::per_second(PER_KEY))
            .concurrency_per_key(1)
            // A lease that is lost is an attempt, too.
            .retry(Backoff::exponential(ms(5)..ms(40)).max_attempts(10_000));
        match queue.build().await {
            Ok(queue) => break queue,
            // The server is away, or the process before has not quite gone.
            Err(_) => tokio::time::sleep(ms(20)).await,
        }
    };
    let workers = {
        let log = Arc::clone(&log);
        let handler = move |task: Task, cx: JobContext| handle(Arc::clone(&log), task, cx);
        queue.workers(WORKERS, handler).spawn()
    };
    produce(&queue, &log, &told).await;
    while queue.drain().await.is_err() {}
    workers.shutdown(secs(10)).await;
    let stats = queue.stats().await.unwrap();
    let left = stats.ready + stats.scheduled + stats.limited + stats.in_flight + stats.dead;
    // The harness' own lines are there, too.
    println!("\nleft {left}");
    std::io::stdout().flush().unwrap();
}

async fn handle(log: Arc<Log>, task: Task, cx: JobContext) -> Result<(), JobError> {
    let start = What::Start {
        id: cx.id().to_string(),
        attempt: cx.attempt(),
    };
    log.add(now(), task, &start);
    let takes = if fastrand::u8(..20) == 0 { 120 } else { 20 };
    tokio::time::sleep(ms(fastrand::u64(..takes))).await;
    if fastrand::u8(..40) == 0 {
        log.add(now(), task, &What::Retry);
        return Err(JobError::retry("not now"));
    }
    log.add(now(), task, &What::End);
    Ok(())
}

/// The jobs of a large batch, which are of one key.
const PACKED: u32 = 40;

/// A few keys have as many jobs as all others together.
fn key(n: u32) -> u32 {
    if n.is_multiple_of(2) {
        n / 2 % 4
    } else {
        4 + n / 2 % 36
    }
}

/// Enqueues until it is told to end. What fails may have been enqueued all the same: it is not tried
/// again.
async fn produce(queue: &Queue<Task>, log: &Log, told: &AtomicBool) {
    let producer = std::env::var(NUMBER).unwrap().parse().unwrap();
    let pause: u64 = std::env::var(PAUSE).unwrap().parse().unwrap();
    let mut n = 0;
    while !told.load(SeqCst) {
        let (size, same) = match fastrand::u8(..100) {
            // So many of one key wait in packs on Redis.
            0 => (PACKED, Some(key(n))),
            1..=25 => (5, None),
            _ => (1, None),
        };
        let batch: Vec<Task> = (n..n + size)
            .map(|n| Task {
                producer,
                key: same.unwrap_or_else(|| key(n)),
                n,
            })
            .collect();
        n += size;
        let at = now();
        for task in &batch {
            log.add(at, *task, &What::Enqueue);
        }
        if queue.enqueue_batch(batch.clone()).await.is_ok() {
            let at = now();
            for task in &batch {
                log.add(at, *task, &What::Added);
            }
        }
        let pause = Duration::from_millis(fastrand::u64(..=2 * pause));
        tokio::time::sleep(pause * size).await;
    }
}
