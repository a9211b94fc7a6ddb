use std::future::{Future, pending};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use crate::{JobContext, JobError, Queue, Stats};

/// How long [`run_within`] goes on at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Bounds {
    runs: usize,
    time: Duration,
}

impl Bounds {
    /// 10,000 runs of the handler, and 30 days of tokio's time.
    pub const fn new() -> Self {
        Self {
            runs: 10_000,
            time: Duration::from_secs(30 * 86_400),
        }
    }

    /// So many runs of the handler, retries included.
    pub const fn runs(mut self, runs: usize) -> Self {
        self.runs = runs;
        self
    }

    /// So much of tokio's time.
    pub const fn time(mut self, time: Duration) -> Self {
        self.time = time;
        self
    }
}

impl Default for Bounds {
    fn default() -> Self {
        Self::new()
    }
}

/// What a run did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ran {
    /// Whether nothing is left. Otherwise a bound was hit.
    pub idle: bool,
    /// Jobs completed.
    pub completed: u64,
    /// Attempts that failed and were, or are to be, followed by another.
    pub retried: u64,
    /// Attempts put off by `retry_after`.
    pub snoozed: u64,
    /// Jobs discarded.
    pub discarded: u64,
    /// Jobs that failed for good: [`Queue::dead_letters`] has them, with their errors.
    pub died: u64,
    /// How long it took, by tokio's clock.
    pub took: Duration,
}

/// Runs all jobs by `handler`, one at a time, also those that are due later, those that are to be tried
/// again, and those that are enqueued meanwhile, until nothing is left, or for 10,000 runs or 30 days.
///
/// With tokio's time paused, it takes no longer than the handlers compute. The queue must have no workers
/// else, and not be paused.
///
/// # Cancel safety
///
/// Dropped, it stops after the job that runs.
pub async fn run_until_idle<T, H, F>(queue: &Queue<T>, handler: H) -> Ran
where
    T: Clone + Send + 'static,
    H: Fn(T, JobContext) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<(), JobError>> + Send + 'static,
{
    run_within(queue, Bounds::new(), handler).await
}

/// As [`run_until_idle`], with other bounds. A job that runs at the end of the time is given back.
///
/// # Cancel safety
///
/// Dropped, it stops after the job that runs.
pub async fn run_within<T, H, F>(queue: &Queue<T>, bounds: Bounds, handler: H) -> Ran
where
    T: Clone + Send + 'static,
    H: Fn(T, JobContext) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<(), JobError>> + Send + 'static,
{
    let start = Instant::now();
    let before = queue.stats().await.ok();
    let left = Arc::new(AtomicUsize::new(bounds.runs));
    let used_up = Arc::new(Notify::new());
    let workers = {
        let used_up = Arc::clone(&used_up);
        let bounded = move |job, cx| {
            let less = |left: usize| left.checked_sub(1);
            let run = left.fetch_update(SeqCst, SeqCst, less).is_ok();
            let run = run.then(|| handler(job, cx));
            let used_up = Arc::clone(&used_up);
            async move {
                match run {
                    Some(run) => run.await,
                    // Given back below, as if it had not started.
                    None => {
                        used_up.notify_one();
                        pending().await
                    }
                }
            }
        };
        queue.workers(1, bounded).spawn()
    };
    let idle = tokio::select! {
        biased;
        drained = queue.drain() => drained.is_ok(),
        () = used_up.notified() => false,
        () = sleep(bounds.time) => false,
    };
    let took = start.elapsed();
    workers.shutdown(Duration::ZERO).await;
    let after = queue.stats().await.ok();
    let count = |of: fn(&Stats) -> u64| {
        let [before, after] = [&before, &after].map(|stats| stats.as_ref().map_or(0, of));
        after.saturating_sub(before)
    };
    Ran {
        idle,
        completed: count(|stats| stats.completed),
        retried: count(|stats| stats.retried),
        snoozed: count(|stats| stats.snoozed),
        discarded: count(|stats| stats.discarded),
        died: count(|stats| stats.died),
        took,
    }
}
