use super::{BOUNDS, BatchSample, CacheSample, HistorySample, PoolSample, QueueSample};
use crate::recorder::{Counts, MonitorRecorder, Samples};
use crate::snapshot::{
    Batch, Cache, DatabasePool, FAMILY_METRICS, MessageQueue, Quantiles, REQUEST_METRICS, Tally,
};

/// All counts since the monitor was built.
#[derive(Debug)]
pub(crate) struct Totals {
    requests: Tally,
    queue: Option<MessageQueue>,
    pool: Option<DatabasePool>,
    cache: Option<Cache>,
    batch: Option<Batch>,
}

impl Totals {
    pub(crate) fn read(recorder: &MonitorRecorder) -> Self {
        Self::of(&recorder.samples(&[REQUEST_METRICS, FAMILY_METRICS]))
    }

    fn of(samples: &Samples) -> Self {
        let mut requests = Tally::by(samples, |_| ());
        Self {
            requests: requests.remove(&()).unwrap_or_default(),
            queue: MessageQueue::of(samples),
            pool: DatabasePool::of(samples),
            cache: Cache::of(samples),
            batch: Batch::of(samples),
        }
    }

    /// What happened from `earlier` to this.
    pub(super) fn since(&self, earlier: &Self, at_seconds: f64, seconds: f64) -> HistorySample {
        let (now, then) = (&self.requests, &earlier.requests);
        let times = match (&now.times, &then.times) {
            (Some(now), Some(then)) => Some(now.since(then)),
            (now, _) => now.clone(),
        };
        HistorySample {
            at_seconds,
            seconds,
            requests: now.ended.saturating_sub(then.ended),
            errors: now.errors.saturating_sub(then.errors),
            aborted: now.aborted.saturating_sub(then.aborted),
            in_flight: now.in_flight,
            quantiles: Quantiles::of(times.as_ref()),
            times: buckets(times.as_ref()),
            message_queue: self.queue.as_ref().map(|now| {
                let since = difference(now, earlier.queue.as_ref());
                QueueSample {
                    queue_size: now.queue_size,
                    in_flight: now.in_flight,
                    processed: since(|queue| queue.processed),
                    retried: since(|queue| queue.retried),
                }
            }),
            database_pool: self.pool.as_ref().map(|now| {
                let since = difference(now, earlier.pool.as_ref());
                let sum = |pool: &DatabasePool, of: fn(&crate::snapshot::Pool) -> u64| -> u64 {
                    pool.pools.iter().map(of).sum()
                };
                PoolSample {
                    checked_out_connections: now.checked_out_connections,
                    overflow_connections: now.overflow_connections,
                    pending: sum(now, |pool| pool.pending),
                    timeouts: since(|pool| pool.pools.iter().map(|pool| pool.timeouts).sum()),
                }
            }),
            cache: self.cache.as_ref().map(|now| {
                let since = difference(now, earlier.cache.as_ref());
                CacheSample {
                    hits: since(|cache| cache.hits),
                    misses: since(|cache| cache.misses),
                    loads: since(|cache| cache.loads),
                }
            }),
            batch: self.batch.as_ref().map(|now| {
                let since = difference(now, earlier.batch.as_ref());
                BatchSample {
                    written: since(|batch| batch.written),
                    failed: since(|batch| batch.failed),
                    commits: since(|batch| batch.commits),
                }
            }),
        }
    }
}

/// How much a count rose; from zero where there was nothing before.
fn difference<'a, T>(now: &'a T, then: Option<&'a T>) -> impl Fn(fn(&T) -> u64) -> u64 + 'a {
    move |count| count(now).saturating_sub(then.map_or(0, count))
}

fn buckets(times: Option<&Counts>) -> [u32; BOUNDS.len() + 1] {
    let mut buckets = [0; BOUNDS.len() + 1];
    let Some(times) = times else {
        return buckets;
    };
    let within = BOUNDS.iter().filter_map(|bound| times.within(*bound));
    let mut below = 0;
    for (bucket, within) in buckets.iter_mut().zip(within.chain([times.count()])) {
        *bucket = u32::try_from(within.saturating_sub(below)).unwrap_or(u32::MAX);
        below = within;
    }
    buckets
}
