//! oxana, which shares its Redis by a namespace.

use std::time::{Duration, Instant};

use perf_benches::queue::{JOBS, WORKERS, payload};
use serde::{Deserialize, Serialize};

use crate::Failure;
use crate::count::Count;

#[derive(Debug, thiserror::Error)]
enum Never {}

#[derive(Debug, Serialize, Deserialize, oxana::Job)]
struct PeerJob {
    payload: String,
}

#[derive(oxana::Worker)]
#[oxana(context = Count)]
struct PeerWorker {
    count: Count,
}

impl PeerWorker {
    async fn process(&self, job: PeerJob, _cx: &oxana::JobContext) -> Result<(), Never> {
        std::hint::black_box(job.payload);
        self.count.one();
        Ok(())
    }
}

#[derive(Serialize, oxana::Queue)]
#[oxana(key = "bench", concurrency = 10)]
struct PeerQueue;

const _: () = assert!(WORKERS == 10);

pub(crate) async fn run(url: String) -> Result<Duration, Failure> {
    let storage = oxana::Storage::builder()
        .namespace(testkit::unique("oxana"))
        .build_from_redis_url(url)?;
    let count = Count::of(JOBS);
    let runtime = storage
        .runtime(count.clone())
        .queue::<PeerQueue>()
        .worker::<PeerWorker, PeerJob>()
        .dequeue_timeout(Duration::from_millis(1))
        .exit_when_processed(JOBS as u64);
    let running = tokio::spawn(runtime.run());
    let jobs: Vec<PeerJob> = (0..JOBS).map(|_| PeerJob { payload: payload() }).collect();
    let start = Instant::now();
    storage.enqueue_list(PeerQueue, jobs).await?;
    let left = || async { Ok::<i64, Failure>(i64::try_from(storage.jobs_count().await?)?) };
    count.over(left).await?;
    let took = start.elapsed();
    let _ = tokio::time::timeout(Duration::from_secs(10), running).await;
    Ok(took)
}
