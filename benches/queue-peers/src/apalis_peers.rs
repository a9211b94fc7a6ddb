//! apalis in memory and on its three other backends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use apalis::prelude::*;
use apalis_postgres::PostgresStorage;
use apalis_redis::RedisStorage;
use apalis_sqlite::SqliteStorage;
use futures::channel::mpsc;
use futures::lock::Mutex;
use futures::{SinkExt, StreamExt};
use perf_benches::queue::{JOBS, WORKERS, payload};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgPoolOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use tokio::sync::oneshot;

use crate::Failure;
use crate::count::Count;

/// Jobs where 20,000 are beyond what the backend does in reasonable time, and how often its time
/// counts for that.
const FEWER: (usize, u32) = (5_000, 4);

/// Jobs in one push, and fetched at once.
const BATCH: usize = 1_000;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Job {
    payload: String,
}

async fn handle(job: Job, count: Data<Count>) -> Result<(), BoxDynError> {
    std::hint::black_box(job);
    count.one();
    Ok(())
}

fn jobs(n: usize) -> Vec<Job> {
    let job = Job { payload: payload() };
    vec![job; n]
}

/// Pushes the jobs and has a worker run them; the time from the first push to when `left` says that the
/// last job's end is stored.
macro_rules! run {
    ($storage:expr, $polled:expr, $n:expr, $left:expr) => {{
        let (mut storage, polled, n): (_, _, usize) = ($storage, $polled, $n);
        let count = Count::of(n);
        let worker = WorkerBuilder::new("bench")
            .backend(polled)
            .data(count.clone())
            .concurrency(WORKERS)
            .build(handle);
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async move {
            let _ = stopped.await;
            Ok::<(), std::io::Error>(())
        };
        let worker = tokio::spawn(worker.run_until(stopped));
        let batches: Vec<_> = (0..n / BATCH).map(|_| jobs(BATCH)).collect();
        let start = Instant::now();
        for batch in batches {
            storage.push_bulk(batch).await?;
        }
        count.over($left).await?;
        let took = start.elapsed();
        let _ = stop.send(());
        let _ = tokio::time::timeout(Duration::from_secs(5), worker).await;
        took
    }};
}

/// A storage to push to and the one that a worker polls. They are two, since a push to a storage panics
/// if its worker looks at it in that instant.
fn halves() -> (MemoryStorage<Job>, MemoryStorage<Job>) {
    let ((pushed, polled), (unused, silent)) = (mpsc::unbounded(), mpsc::unbounded());
    let half = |sender: mpsc::UnboundedSender<_>, receiver: mpsc::UnboundedReceiver<_>| {
        let sender = sender.sink_map_err(MemoryStorageError::from);
        let sender = MemorySink::new(Arc::new(Mutex::new(Box::new(sender))));
        MemoryStorage::new_with(sender, receiver.boxed())
    };
    (half(pushed, silent), half(unused, polled))
}

pub(crate) async fn memory() -> Result<Duration, Failure> {
    let (storage, polled) = halves();
    // There is no end of a job to be stored.
    let left = || async { Ok::<i64, Failure>(0) };
    Ok(run!(storage, polled, JOBS, left))
}

pub(crate) async fn sqlite() -> Result<Duration, Failure> {
    let dir = tempfile::tempdir()?;
    let options = SqliteConnectOptions::new()
        .filename(dir.path().join("apalis.db"))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(Duration::from_secs(30));
    let pool = SqlitePoolOptions::new().max_connections(2);
    let pool = pool.connect_with(options).await?;
    SqliteStorage::setup(&pool).await?;
    let (jobs, times) = FEWER;
    let config = apalis_sqlite::Config::default()
        .queue("bench")
        .batch_size(BATCH);
    let storage = SqliteStorage::<Job>::new(&pool).with_config(config);
    let polled = storage
        .clone()
        .poll_with_interval(Duration::from_millis(10));
    let left = || async {
        let left = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM Jobs WHERE status <> 'Done')");
        Ok::<i64, Failure>(left.fetch_one(&pool).await?)
    };
    let took = run!(storage, polled, jobs, left);
    pool.close().await;
    Ok(took * times)
}

pub(crate) async fn postgres(url: String) -> Result<Duration, Failure> {
    let pool = PgPoolOptions::new()
        .max_connections(5)
        .connect(&url)
        .await?;
    sqlx::query("DROP SCHEMA IF EXISTS apalis CASCADE")
        .execute(&pool)
        .await?;
    sqlx::query("DROP TABLE IF EXISTS _sqlx_migrations")
        .execute(&pool)
        .await?;
    PostgresStorage::setup(&pool).await?;
    let config = apalis_postgres::Config::default()
        .queue("bench")
        .batch_size(BATCH);
    let storage = PostgresStorage::<Job>::new(&pool).with_config(config);
    let polled = storage
        .clone()
        .poll_with_interval(Duration::from_millis(10));
    let left = || async {
        let left = "SELECT EXISTS (SELECT FROM apalis.jobs WHERE status <> 'Done')::int::bigint";
        Ok::<i64, Failure>(sqlx::query_scalar(left).fetch_one(&pool).await?)
    };
    let took = run!(storage, polled, JOBS, left);
    pool.close().await;
    Ok(took)
}

pub(crate) async fn redis(url: String) -> Result<Duration, Failure> {
    let conn = apalis_redis::connect(url).await?;
    let (jobs, times) = FEWER;
    // A queue of its own each time, since what is done stays.
    let config = apalis_redis::Config::default()
        .queue(testkit::unique("apalis"))
        .batch_size(BATCH);
    let done = config.done_jobs_set();
    let storage = RedisStorage::<Job>::new(conn.clone()).with_config(config);
    let polled = storage
        .clone()
        .poll_with_interval(Duration::from_millis(10));
    let left = || async {
        let mut conn = conn.clone();
        let done: i64 = redis::cmd("SCARD")
            .arg(&done)
            .query_async(&mut conn)
            .await?;
        Ok::<i64, Failure>(i64::try_from(jobs)? - done)
    };
    let took = run!(storage, polled, jobs, left);
    Ok(took * times)
}
