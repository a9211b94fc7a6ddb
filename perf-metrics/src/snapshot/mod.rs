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
pub(crate) use family::{CACHE_REQUESTS, FAMILY_METRICS, hit_ratios};
pub use requests::{Quantiles, Requests, Route};
pub(crate) use requests::{REQUEST_METRICS, Tally, route_of};

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
    /// CPU time used since the last reading, of that which the process may use: 1 is all of it.
    /// `None` in the first second of the monitor. Readings within a second of each other show the
    /// same, so that several readers do not disturb each other.
    pub cpu_usage_ratio: Option<f64>,
    /// Processors that the process may use, by the quota of its control groups and its affinity;
    /// such as 0.5.
    pub cpu_limit_cores: Option<f64>,
    /// Resident memory in bytes.
    pub resident_memory_bytes: Option<u64>,
    /// Virtual memory in bytes.
    pub virtual_memory_bytes: Option<u64>,
    /// Bytes that the process may use: the lowest limit of its control groups, or the machine's
    /// memory without one.
    pub memory_limit_bytes: Option<u64>,
    /// Bytes that count against the limit: the working set of the control group that has it
    /// (`memory.current` without the inactive files, as Kubernetes counts it, and with all
    /// processes of the group), or the resident memory without such a group.
    pub memory_usage_bytes: Option<u64>,
    /// Usage by limit: 1 is all of it.
    pub memory_usage_ratio: Option<f64>,
    /// Open file descriptors.
    pub open_fds: Option<u64>,
    /// Most file descriptors that may be open; 0 is without limit.
    pub max_fds: Option<u64>,
    /// Threads.
    pub threads: Option<u64>,
    /// When the process started, in seconds since the Unix epoch.
    pub start_time_seconds: Option<u64>,
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
