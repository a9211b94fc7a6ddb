//! graphile_worker, as fast as its options make it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use graphile_worker::{
    IntoTaskHandlerResult, JobSpec, LocalQueueConfig, RawJobSpec, TaskHandler, WorkerContext,
    WorkerOptions,
};
use perf_benches::queue::{JOBS, WORKERS, payload};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgPoolOptions;

use crate::Failure;
use crate::count::Count;

#[derive(Debug, Serialize, Deserialize)]
struct Job {
    payload: String,
}

impl TaskHandler for Job {
    const IDENTIFIER: &'static str = "job";

    async fn run(self, cx: WorkerContext) -> impl IntoTaskHandlerResult {
        std::hint::black_box(&self.payload);
        if let Some(count) = cx.get_ext::<Count>() {
            count.one();
        }
        Ok::<(), String>(())
    }
}

pub(crate) async fn run(url: String) -> Result<Duration, Failure> {
    // The local queue fetches with one of them.
    let pool = PgPoolOptions::new().max_connections(WORKERS as u32 + 2);
    let pool = pool.connect(&url).await?;
    let count = Count::of(JOBS);
    let worker = WorkerOptions::default()
        .pg_pool(pool.clone())
        .schema("graphile_worker")
        .concurrency(WORKERS)
        .poll_interval(Duration::from_millis(10))
        .local_queue(LocalQueueConfig::default().with_size(500))
        .complete_job_batch_delay(Duration::from_millis(1))
        .listen_os_shutdown_signals(false)
        .add_extension(count.clone())
        .define_job::<Job>()
        .init()
        .await?;
    let worker = Arc::new(worker);
    let utils = worker.create_utils();
    let running = {
        let worker = Arc::clone(&worker);
        tokio::spawn(async move { worker.run().await.map_err(|error| error.to_string()) })
    };
    let jobs: Vec<RawJobSpec> = (0..JOBS)
        .map(|_| RawJobSpec {
            identifier: Job::IDENTIFIER.to_owned(),
            payload: serde_json::json!({ "payload": payload() }),
            spec: JobSpec::default(),
        })
        .collect();
    let start = Instant::now();
    utils.add_raw_jobs(&jobs).await?;
    let left = || async {
        let left = "SELECT EXISTS (SELECT FROM graphile_worker._private_jobs)::int::bigint";
        Ok::<i64, Failure>(sqlx::query_scalar(left).fetch_one(&pool).await?)
    };
    count.over(left).await?;
    let took = start.elapsed();
    worker.request_shutdown();
    let _ = tokio::time::timeout(Duration::from_secs(10), running).await;
    pool.close().await;
    Ok(took)
}
