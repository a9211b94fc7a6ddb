//! How long jobs wait though workers are idle: from the call of `enqueue` to the first line of the handler.
//!
//! | work | arrivals | bar |
//! |---|---|---|
//! | `idle` | 200 jobs/s, whether or not those before have started | p50 < 2 ms, p99 < 20 ms |
//! | `cold` | the same, of 100 keys by turns | |
//! | `beside hot` | the same, beside a key with 10,000 jobs of 1 ms, 5 of which may run at once | p99 < 2 x `cold` |

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use perf_queue::{JobContext, Memory, Postgres, Queue, QueueBackend, Redis, Sqlite};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgPool;
use tempfile::TempDir;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::WORKERS;

/// Between two arrivals.
const EVERY: Duration = Duration::from_millis(5);
/// The hot key.
const HOT: u32 = u32::MAX;
const HOT_JOBS: usize = 10_000;
/// How long a job of the hot key takes.
const HOT_TAKES: Duration = Duration::from_millis(1);

/// What went wrong on the way.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// How long the jobs of one work waited.
#[derive(Debug, Clone, Serialize)]
pub struct Latency {
    /// Where the jobs were.
    pub backend: &'static str,
    /// Which work.
    pub work: &'static str,
    /// How many jobs were timed.
    pub jobs: usize,
    /// Half of the jobs waited no longer, in milliseconds.
    pub p50: f64,
    /// 99 of 100 did.
    pub p99: f64,
    /// The longest.
    pub max: f64,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Job {
    key: u32,
    number: usize,
}

/// A work on one backend.
struct Work {
    name: &'static str,
    keys: u32,
    hot: bool,
}

const WORKS: [Work; 3] = [
    Work {
        name: "idle",
        keys: 0,
        hot: false,
    },
    Work {
        name: "cold",
        keys: 100,
        hot: false,
    },
    Work {
        name: "beside hot",
        keys: 100,
        hot: true,
    },
];

/// Does the works for so many seconds each on the backends whose names start with `only`; `each` gets
/// what was measured as it comes.
///
/// # Errors
///
/// Where a backend is there and does not do its work.
pub async fn measure(
    only: &str,
    seconds: u64,
    mut each: impl FnMut(Latency),
) -> Result<(), Failure> {
    let jobs = usize::try_from(seconds)? * 200;
    let wanted = |name: &str| name.starts_with(only);
    if wanted("memory") {
        for work in &WORKS {
            each(run("memory", work, jobs, |_| Ok(Memory::bounded(100_000))).await?);
        }
    }
    if wanted("sqlite") {
        let dir = TempDir::new()?;
        for work in &WORKS {
            let open = |file: &str| Ok(Sqlite::open(dir.path().join(file)));
            each(run("sqlite", work, jobs, open).await?);
        }
    }
    if wanted("postgres")
        && let Some(server) = testkit::Postgres::shared().await
    {
        let pool = PgPool::connect(&server.schema_url().await).await?;
        for work in &WORKS {
            let open = |schema: &str| Ok(Postgres::new(pool.clone()).schema(schema));
            each(run("postgres", work, jobs, open).await?);
        }
    }
    if wanted("redis")
        && let Some(server) = testkit::Redis::shared().await
    {
        for work in &WORKS {
            let open = |prefix: &str| {
                let backend = Redis::connect(server.url().to_owned()).prefix(prefix);
                Ok(backend.allow_data_loss())
            };
            each(run("redis", work, jobs, open).await?);
        }
    }
    Ok(())
}

async fn run<B>(
    backend: &'static str,
    work: &Work,
    jobs: usize,
    open: impl Fn(&str) -> Result<B, Failure>,
) -> Result<Latency, Failure>
where
    B: QueueBackend<Job, ()> + QueueBackend<Job, u32>,
{
    let builder = Queue::<Job>::builder("latency").backend(open(&testkit::unique("latency"))?);
    let queue = match work.keys {
        0 => builder.build().await?,
        _ => {
            let builder = builder.key(|job: &Job| job.key);
            builder.concurrency_per_key(5).build().await?
        }
    };
    // Half a second more, to warm up.
    let (warm, started) = (100, Arc::new(Mutex::new(vec![None; jobs + 100])));
    let workers = {
        let started = Arc::clone(&started);
        queue.workers(WORKERS, move |job: Job, _: JobContext| {
            let now = Instant::now();
            let mut times = started.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(time) = times.get_mut(job.number) {
                *time = Some(now);
            }
            async move {
                if job.key == HOT {
                    sleep(HOT_TAKES).await;
                }
                Ok(())
            }
        })
    };
    let workers = workers.spawn();
    let hot = |n| {
        (0..n)
            .map(|_| Job {
                key: HOT,
                number: usize::MAX,
            })
            .collect::<Vec<_>>()
    };
    if work.hot {
        queue.enqueue_batch(hot(HOT_JOBS)).await?;
    }
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (mut enqueued, mut calls) = (Vec::with_capacity(warm + jobs), Vec::new());
    for number in 0..warm + jobs {
        ticks.tick().await;
        let key = u32::try_from(number)? % work.keys.max(1);
        enqueued.push(Instant::now());
        let producer = queue.clone();
        calls.push(tokio::spawn(async move {
            producer.enqueue(Job { key, number }).await
        }));
        if work.hot && number % 200 == 0 {
            // The key stays hot.
            let stats = queue.stats().await?;
            let left = stats.ready + stats.limited;
            queue
                .enqueue_batch(hot(HOT_JOBS.saturating_sub(left)))
                .await?;
        }
    }
    for call in calls {
        call.await??;
    }
    // Those of the hot key are of no interest any more; those that are timed have started or soon will.
    let all_started = || {
        let times = started.lock().unwrap_or_else(PoisonError::into_inner);
        times.iter().all(Option::is_some)
    };
    let until = Instant::now() + Duration::from_secs(30);
    while !all_started() && Instant::now() < until {
        sleep(Duration::from_millis(10)).await;
    }
    workers.shutdown(Duration::from_secs(1)).await;
    let times = started.lock().unwrap_or_else(PoisonError::into_inner);
    let mut waited: Vec<f64> = enqueued
        .iter()
        .zip(&*times)
        .skip(warm)
        .map(|(from, to)| match to {
            Some(to) => (*to - *from).as_secs_f64() * 1e3,
            None => f64::INFINITY,
        })
        .collect();
    waited.sort_by(f64::total_cmp);
    let at = |share: usize| waited.get(waited.len() * share / 100).copied();
    Ok(Latency {
        backend,
        work: work.name,
        jobs: waited.len(),
        p50: at(50).unwrap_or(f64::NAN),
        p99: at(99).unwrap_or(f64::NAN),
        max: waited.last().copied().unwrap_or(f64::NAN),
    })
}
