//! The last fifteen minutes of a service, second by second.
//!
//! [`Monitor::history`](crate::Monitor::history) returns what was sampled. Spawn
//! [`Monitor::sampler`](crate::Monitor::sampler) to have a sample a second (feature `tokio`);
//! without it, a reading takes one when the last is a second old, so that a page that asks each
//! second needs no task.
//!
//! Nothing is kept until the first sample; then 900 samples have their place, 300 KiB however many
//! routes and requests there are, and the latest replaces the oldest.

mod ring;
mod totals;

use serde::Serialize;

use crate::snapshot::Quantiles;

pub(crate) use ring::History;
pub(crate) use totals::Totals;

/// How many samples are kept.
pub const CAPACITY: usize = 900;

/// The upper bounds in seconds of [`HistorySample::times`], whose last element counts what is
/// above them all. OpenTelemetry's advice for `http.server.request.duration`.
pub const BOUNDS: [f64; 14] = crate::recorder::TIME_BOUNDS;

/// What happened since the sample before, and how things stood at its end.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct HistorySample {
    /// The end, in seconds since the Unix epoch.
    pub at_seconds: f64,
    /// Seconds since the sample before, of which all that follows is a count.
    pub seconds: f64,
    /// Requests that ended, in whatever way.
    pub requests: u64,
    /// Of these, those that failed, as in [`Requests::errors`](crate::snapshot::Requests::errors).
    pub errors: u64,
    /// Of these, those that were dropped before their end.
    pub aborted: u64,
    /// Requests in flight at the end.
    pub in_flight: u64,
    /// Times to the response headers.
    #[serde(flatten)]
    pub quantiles: Quantiles,
    /// Times to the response headers, by [bucket](BOUNDS): a column of a heatmap.
    pub times: [u32; BOUNDS.len() + 1],
    /// All message queues together; `None` without a queue.
    pub message_queue: Option<QueueSample>,
    /// All connection pools together; `None` without a pool.
    pub database_pool: Option<PoolSample>,
    /// All caches together; `None` without a cache.
    pub cache: Option<CacheSample>,
    /// All batches together; `None` without a batch.
    pub batch: Option<BatchSample>,
}

/// The message queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct QueueSample {
    /// Jobs that waited at the end.
    pub queue_size: u64,
    /// Jobs that were worked on at the end.
    pub in_flight: u64,
    /// Jobs that were completed.
    pub processed: u64,
    /// Attempts that failed and are to be repeated.
    pub retried: u64,
}

/// The connection pools.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PoolSample {
    /// Connections in use at the end.
    pub checked_out_connections: u64,
    /// Connections beyond the base size at the end.
    pub overflow_connections: u64,
    /// Callers that waited for a connection at the end.
    pub pending: u64,
    /// Callers that waited in vain.
    pub timeouts: u64,
}

/// The caches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CacheSample {
    /// Reads that found a value.
    pub hits: u64,
    /// Reads that did not.
    pub misses: u64,
    /// Loads from the source.
    pub loads: u64,
}

/// The batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct BatchSample {
    /// Rows written.
    pub written: u64,
    /// Rows that failed.
    pub failed: u64,
    /// Transactions committed.
    pub commits: u64,
}
