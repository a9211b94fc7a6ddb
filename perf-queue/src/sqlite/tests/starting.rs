//! What must be in the file before jobs start does not come between their grants and their starts.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::*;
use crate::{JobContext, Queue, QueueBuilder, Rate, Workers};

const QUOTA: usize = 5;

const PERIOD: Duration = Duration::from_secs(1);

/// How much later than its grant a start may be noted, on a loaded machine.
const LATE: Duration = Duration::from_millis(500);

const WORKERS: usize = 16;

const SOON: Duration = Duration::from_secs(20);

type Starts = Arc<Mutex<Vec<Instant>>>;

fn plain(dir: &Dir) -> QueueBuilder<u32, (), Sqlite> {
    Queue::<u32>::builder("test").backend(Sqlite::open(dir.file()))
}

fn limited(dir: &Dir) -> QueueBuilder<u32, (), Sqlite> {
    plain(dir).rate_limit(Rate::new(QUOTA as u32, PERIOD))
}

fn workers(queue: &Queue<u32>) -> (Workers, Starts) {
    let starts = Starts::default();
    let noted = Arc::clone(&starts);
    let handler = move |_: u32, _: JobContext| {
        noted.lock().unwrap().push(Instant::now());
        async { Ok(()) }
    };
    (queue.workers(WORKERS, handler).spawn(), starts)
}

/// A connection that has the file's lock for writes.
async fn lock(dir: &Dir) -> sqlx::SqliteConnection {
    let url = format!("sqlite://{}", dir.file().display());
    let mut conn = sqlx::SqliteConnection::connect(&url).await.unwrap();
    let begin = sqlx::raw_sql("BEGIN IMMEDIATE");
    begin.execute(&mut conn).await.unwrap();
    conn
}

/// All workers wait, and none of them for a job that counts as started.
async fn all_wait(queue: &Queue<u32>) {
    loop {
        let stats = queue.stats().await.unwrap();
        assert_eq!(stats.in_flight, 0, "granted before the file knows of it");
        if stats.workers_idle == WORKERS {
            return;
        }
        tokio::task::yield_now().await;
    }
}

fn check(starts: &Starts, all: usize) {
    let mut starts = starts.lock().unwrap().clone();
    starts.sort();
    assert_eq!(starts.len(), all);
    for window in starts.windows(QUOTA + 1) {
        let took = window[QUOTA] - window[0];
        assert!(took + LATE >= PERIOD, "{} starts in {took:?}", QUOTA + 1);
    }
}

/// The workers are there while the file is locked, for longer than a period.
async fn starts_after_a_lock(dir: &Dir, queue: &Queue<u32>, jobs: usize) {
    let locked = lock(dir).await;
    let since = Instant::now();
    let (workers, starts) = workers(queue);
    all_wait(queue).await;
    while since.elapsed() < PERIOD * 3 / 2 {
        all_wait(queue).await;
    }
    assert_eq!(starts.lock().unwrap().len(), 0);
    locked.close().await.unwrap();
    let drained = tokio::time::timeout(SOON, queue.drain());
    drained.await.unwrap().unwrap();
    workers.shutdown(SOON).await;
    check(&starts, jobs);
}

/// It was exceeded: jobs were granted, slot by slot, and started all at once when the lock was gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_holds_where_the_first_start_waits_for_the_file() {
    let dir = Dir::new();
    let queue = limited(&dir).build().await.unwrap();
    for _ in 0..2 {
        queue.enqueue_batch(vec![0; 12]).await.unwrap();
        starts_after_a_lock(&dir, &queue, 12).await;
    }
}

/// A file whose jobs may have killed the process.
async fn with_suspects(jobs: usize) -> Dir {
    let dir = Dir::new();
    let queue = plain(&dir).build().await.unwrap();
    queue.enqueue_batch(vec![0; jobs]).await.unwrap();
    let killed = Dir::new();
    for end in ["", "-wal"] {
        let part = |dir: &Dir| format!("{}{end}", dir.file().display());
        std::fs::copy(part(&dir), part(&killed)).unwrap();
    }
    killed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_holds_where_suspects_wait_for_their_marks() {
    let dir = with_suspects(12).await;
    let queue = limited(&dir).build().await.unwrap();
    let (workers, starts) = workers(&queue);
    let count = || starts.lock().unwrap().len();
    // The file knows that jobs start.
    while count() == 0 {
        tokio::task::yield_now().await;
    }
    let locked = lock(&dir).await;
    let (since, before) = (Instant::now(), count());
    while since.elapsed() < PERIOD * 3 / 2 {
        let running = queue.stats().await.unwrap().in_flight;
        assert!(running <= 1, "{running} were granted before their marks");
        tokio::task::yield_now().await;
    }
    assert!(count() <= before + 1);
    locked.close().await.unwrap();
    let drained = tokio::time::timeout(SOON, queue.drain());
    drained.await.unwrap().unwrap();
    workers.shutdown(SOON).await;
    check(&starts, 12);
}

/// Whether the file expects jobs to start.
async fn expects_starts(dir: &Dir) -> bool {
    let sql = "SELECT count(*) FROM perf_queue_past WHERE closed IS NULL";
    number(&dir.file(), sql).await == 1
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_start_where_the_file_cannot_be_told_and_it_is_told_later() {
    let dir = Dir::new();
    let queue = plain(&dir).build().await.unwrap();
    // So that the file knows when the last one was.
    for starts_before in 0..2 {
        queue.enqueue_batch(vec![0; 4]).await.unwrap();
        let away = dir.file().with_extension("away");
        if starts_before > 0 {
            assert!(!expects_starts(&dir).await);
            std::fs::rename(dir.file(), &away).unwrap();
        }
        let (workers, starts) = workers(&queue);
        let began = Instant::now();
        while starts.lock().unwrap().len() < 4 {
            assert!(began.elapsed() < SOON);
            tokio::task::yield_now().await;
        }
        if starts_before > 0 {
            std::fs::rename(&away, dir.file()).unwrap();
            while !expects_starts(&dir).await {
                assert!(began.elapsed() < SOON);
                tokio::task::yield_now().await;
            }
        }
        workers.shutdown(SOON).await;
    }
}
