use std::collections::{BTreeMap, BTreeSet};

use metrics::Key;
use serde::Serialize;

use crate::recorder::{Samples, label};

const DEPTH: &str = "queue_depth";
const WORKERS: &str = "queue_workers";
const PROCESSED: &str = "queue_jobs_processed_total";
const ENQUEUED: &str = "queue_jobs_enqueued_total";
const OLDEST: &str = "queue_oldest_job_age_seconds";
const CONNECTIONS: &str = "db_client_connections";
const MAX: &str = "db_client_connections_max";
const OVERFLOW: &str = "db_client_connections_overflow";
const PENDING: &str = "db_client_connections_pending_requests";
const TIMEOUTS: &str = "db_client_connections_timeouts_total";
pub(crate) const CACHE_REQUESTS: &str = "cache_requests_total";
const LOADS: &str = "cache_loads_total";
const ENTRIES: &str = "cache_entries";
const ITEMS: &str = "batch_items_total";
const COMMITS: &str = "batch_commits_total";
const FALLBACKS: &str = "batch_fallbacks_total";
const RETRIES: &str = "batch_retries_total";
const SIZE: &str = "batch_size";

/// The metrics of the other crates that a snapshot reads.
pub(crate) const FAMILY_METRICS: &[&str] = &[
    DEPTH,
    WORKERS,
    PROCESSED,
    ENQUEUED,
    OLDEST,
    CONNECTIONS,
    MAX,
    OVERFLOW,
    PENDING,
    TIMEOUTS,
    CACHE_REQUESTS,
    LOADS,
    ENTRIES,
    ITEMS,
    COMMITS,
    FALLBACKS,
    RETRIES,
    SIZE,
];

fn is(name: &'static str, values: &'static [&'static str]) -> impl Fn(&Key) -> bool {
    move |key| label(key, name).is_some_and(|value| values.contains(&value))
}

fn all(_: &Key) -> bool {
    true
}

/// All message queues together.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct MessageQueue {
    /// Jobs that wait: ready, scheduled for later, or held back by a rate limit.
    pub queue_size: u64,
    /// Jobs being worked on now.
    pub in_flight: u64,
    /// Jobs that were given up.
    pub dead: u64,
    /// Workers, busy or idle.
    pub workers: u64,
    /// Jobs that were completed.
    pub processed: u64,
    /// Attempts that failed and are to be repeated.
    pub retried: u64,
    /// How long the job that has been due the longest has waited, in seconds, in any queue.
    pub oldest_job_age_seconds: Option<f64>,
}

impl MessageQueue {
    pub(crate) fn of(samples: &Samples) -> Option<Self> {
        if !samples.any(&[DEPTH, WORKERS, PROCESSED, ENQUEUED]) {
            return None;
        }
        let depth = |states| samples.sum(DEPTH, is("state", states)).max(0.0) as u64;
        let processed = |outcomes| samples.sum(PROCESSED, is("outcome", outcomes)) as u64;
        Some(Self {
            queue_size: depth(&["ready", "scheduled", "limited"]),
            in_flight: depth(&["in_flight"]),
            dead: depth(&["dead"]),
            workers: samples.sum(WORKERS, all).max(0.0) as u64,
            processed: processed(&["completed"]),
            retried: processed(&["retried"]),
            oldest_job_age_seconds: samples
                .values(OLDEST)
                .iter()
                .map(|(_, age)| *age)
                .reduce(f64::max),
        })
    }
}

/// All connection pools.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct DatabasePool {
    /// Connections in use, over all pools.
    pub checked_out_connections: u64,
    /// Connections beyond the base size, over all pools.
    pub overflow_connections: u64,
    /// The worst status of any pool.
    pub status: PoolStatus,
    /// Each pool, by name.
    pub pools: Vec<Pool>,
}

/// One connection pool.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Pool {
    /// The name of the pool.
    pub name: String,
    /// Connections in use.
    pub used: u64,
    /// Open connections not in use.
    pub idle: u64,
    /// Most connections that the pool opens.
    pub max: u64,
    /// Connections beyond the base size.
    pub overflow: u64,
    /// Callers that wait for a connection.
    pub pending: u64,
    /// Callers that waited in vain.
    pub timeouts: u64,
    /// What this comes to.
    pub status: PoolStatus,
}

/// How a pool fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PoolStatus {
    /// There are connections to be had.
    Ok,
    /// All connections are in use; nobody waits.
    Saturated,
    /// All connections are in use, and callers wait.
    Exhausted,
}

impl DatabasePool {
    pub(crate) fn of(samples: &Samples) -> Option<Self> {
        let mut pools: BTreeMap<String, Pool> = BTreeMap::new();
        let mut collect = |metric: &str, set: fn(&mut Pool, &Key, u64)| {
            for (key, value) in samples.values(metric) {
                let name = label(key, "pool").unwrap_or_default();
                let pool = pools
                    .entry(name.to_owned())
                    .or_insert_with(|| Pool::new(name));
                set(pool, key, value.max(0.0) as u64);
            }
        };
        collect(CONNECTIONS, |pool, key, n| match label(key, "state") {
            Some("used") => pool.used += n,
            Some("idle") => pool.idle += n,
            _ => {}
        });
        collect(MAX, |pool, _, n| pool.max += n);
        collect(OVERFLOW, |pool, _, n| pool.overflow += n);
        collect(PENDING, |pool, _, n| pool.pending += n);
        collect(TIMEOUTS, |pool, _, n| pool.timeouts += n);

        let mut pools: Vec<Pool> = pools.into_values().collect();
        for pool in &mut pools {
            pool.status = match (pool.max > 0 && pool.used >= pool.max, pool.pending) {
                (false, _) => PoolStatus::Ok,
                (true, 0) => PoolStatus::Saturated,
                (true, _) => PoolStatus::Exhausted,
            };
        }
        Some(Self {
            checked_out_connections: pools.iter().map(|pool| pool.used).sum(),
            overflow_connections: pools.iter().map(|pool| pool.overflow).sum(),
            status: pools.iter().map(|pool| pool.status).max()?,
            pools,
        })
    }
}

impl Pool {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            used: 0,
            idle: 0,
            max: 0,
            overflow: 0,
            pending: 0,
            timeouts: 0,
            status: PoolStatus::Ok,
        }
    }
}

/// All caches together.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Cache {
    /// The share of the reads that found a value, 0 to 1; `None` before the first read. Of those
    /// that missed in memory, as many count as found as the shared tier had of what it was asked
    /// for. A read whose load failed and that got a stale value for that is a miss and a find.
    pub hit_ratio: Option<f64>,
    /// Reads that found a value, fresh or stale, in any tier.
    pub hits: u64,
    /// Reads that did not.
    pub misses: u64,
    /// Loads from the source.
    pub loads: u64,
    /// Entries held.
    pub entries: u64,
}

impl Cache {
    pub(crate) fn of(samples: &Samples) -> Option<Self> {
        if !samples.any(&[CACHE_REQUESTS, LOADS, ENTRIES]) {
            return None;
        }
        let (reads, hits) = reads_and_hits(samples, all);
        Some(Self {
            hit_ratio: (reads > 0.0).then(|| hits / reads),
            hits: hits.round() as u64,
            misses: (reads - hits).round() as u64,
            loads: samples.sum(LOADS, all) as u64,
            entries: samples.sum(ENTRIES, all).max(0.0) as u64,
        })
    }
}

/// The reads of some caches, and how many of them found a value.
fn reads_and_hits(samples: &Samples, of: impl Fn(&Key) -> bool) -> (f64, f64) {
    let sum = |tier, results| {
        let (tier, result) = (is("tier", tier), is("result", results));
        samples.sum(CACHE_REQUESTS, |key| of(key) && tier(key) && result(key))
    };
    let (found, missed) = (
        sum(&["local"], &["hit", "stale"]),
        sum(&["local"], &["miss"]),
    );
    let shared_found = sum(&["remote"], &["hit"]);
    let shared = shared_found + sum(&["remote"], &["miss", "error"]);
    // A read asks the local tier first. What misses there may find the value in the shared tier;
    // but that is asked once for many that miss at once, and for refreshes that nobody waits for,
    // so that its hits are no count of reads: the misses find it in the share in which it has it.
    let share = if shared > 0.0 {
        shared_found / shared
    } else {
        0.0
    };
    (found + missed, found + missed * share)
}

/// The hit ratio of each cache that was read.
pub(crate) fn hit_ratios(samples: &Samples) -> Vec<(String, f64)> {
    let name = |key: &Key| label(key, "cache").unwrap_or_default().to_owned();
    let series = samples.values(CACHE_REQUESTS).iter();
    let names: BTreeSet<String> = series.map(|(key, _)| name(key)).collect();
    let ratio = |cache: String| {
        let (reads, hits) = reads_and_hits(samples, |key| name(key) == cache);
        (reads > 0.0).then(|| (cache, hits / reads))
    };
    names.into_iter().filter_map(ratio).collect()
}

/// All batches together.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Batch {
    /// Rows written.
    pub written: u64,
    /// Rows that were there already, or came twice in a batch.
    pub ignored: u64,
    /// Rows that failed.
    pub failed: u64,
    /// Transactions committed.
    pub commits: u64,
    /// Times that a batch had to be taken apart because of a row.
    pub fallbacks: u64,
    /// Times that a batch was repeated.
    pub retries: u64,
}

impl Batch {
    pub(crate) fn of(samples: &Samples) -> Option<Self> {
        if !samples.any(&[ITEMS, COMMITS, FALLBACKS, RETRIES, SIZE]) {
            return None;
        }
        let items = |outcomes| samples.sum(ITEMS, is("outcome", outcomes)) as u64;
        Some(Self {
            written: items(&["written"]),
            ignored: items(&["ignored", "deduplicated"]),
            failed: items(&["failed"]),
            commits: samples.sum(COMMITS, all) as u64,
            fallbacks: samples.sum(FALLBACKS, all) as u64,
            retries: samples.sum(RETRIES, all) as u64,
        })
    }
}
