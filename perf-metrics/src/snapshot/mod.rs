//! The state of a service at a moment, read from its metrics.
//!
//! Serialised, this is what `/monitoring/stats` answers. A part whose crate recorded nothing is
//! `None` (JSON `null`): absent, not zero.

mod family;
mod requests;

use std::time::Duration;

use serde::Serialize;

use crate::recorder::Samples;

pub use family::{Batch, Cache, DatabasePool, MessageQueue, Pool, PoolStatus};
pub use requests::{Quantiles, Requests, Route};

/// The state of a service at a moment.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Snapshot {
    /// The name of the service.
    pub service: String,
    /// Seconds since the monitor was built.
    pub uptime_seconds: f64,
    /// The process.
    pub process: Process,
    /// The requests that went through the monitor's layer, and any other layer that records with
    /// the monitor's recorder.
    pub requests: Requests,
    /// All message queues together; `None` without a queue.
    pub message_queue: Option<MessageQueue>,
    /// All connection pools; `None` without a pool.
    pub database_pool: Option<DatabasePool>,
    /// All caches together; `None` without a cache.
    pub cache: Option<Cache>,
    /// All batches together; `None` without a batch.
    pub batch: Option<Batch>,
}

/// The process, as the operating system tells; `None` where it does not.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Process {
    /// User and system CPU time in seconds.
    pub cpu_seconds: Option<f64>,
    /// Resident memory in bytes.
    pub resident_memory_bytes: Option<u64>,
    /// Virtual memory in bytes.
    pub virtual_memory_bytes: Option<u64>,
    /// Open file descriptors.
    pub open_fds: Option<u64>,
    /// Most file descriptors that may be open; 0 is without limit.
    pub max_fds: Option<u64>,
    /// Threads.
    pub threads: Option<u64>,
}

impl Snapshot {
    pub(crate) fn of(service: &str, uptime: Duration, process: Process, samples: &Samples) -> Self {
        Self {
            service: service.to_owned(),
            uptime_seconds: uptime.as_secs_f64(),
            process,
            requests: Requests::of(samples),
            message_queue: MessageQueue::of(samples),
            database_pool: DatabasePool::of(samples),
            cache: Cache::of(samples),
            batch: Batch::of(samples),
        }
    }
}
