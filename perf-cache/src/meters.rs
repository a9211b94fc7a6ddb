use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::Instant;
use crate::sharded::Sharded;
use crate::watch::{Low, Watch};
use crate::{Invalidation, LoadError, Stats};
use metrics::{Counter, Gauge, Histogram, Unit};

/// Counts everything twice: for `stats()`, which works without a recorder, and in the metrics,
/// whose handles are fetched once, here.
pub(crate) struct Meters {
    cache: Arc<str>,
    hits: Sharded,
    stale: AtomicU64,
    misses: AtomicU64,
    remote_hits: AtomicU64,
    remote_misses: AtomicU64,
    remote_errors: AtomicU64,
    loads: AtomicU64,
    loads_failed: AtomicU64,
    loads_superseded: AtomicU64,
    evictions: AtomicU64,
    // Signed: an entry is counted when it is stored, and may be gone by then.
    entries: AtomicI64,
    watch: Option<Watch>,
    handles: Handles,
}

struct Handles {
    local_hit: Counter,
    local_stale: Counter,
    local_miss: Counter,
    remote_hit: Counter,
    remote_miss: Counter,
    remote_error: Counter,
    load_hit: Counter,
    load_error: Counter,
    ok: Counter,
    superseded: Counter,
    error: Counter,
    panic: Counter,
    timeout: Counter,
    closed: Counter,
    load_duration: Histogram,
    entries: Gauge,
    evicted_size: Counter,
    evicted_expired: Counter,
    applied: Counter,
    deferred: Counter,
}

impl Meters {
    pub(crate) fn new(cache: Arc<str>, watch: Option<Watch>) -> Self {
        describe();
        let request = |tier: &'static str, result: &'static str| {
            metrics::counter!("cache_requests_total",
                "cache" => String::from(&*cache), "tier" => tier, "result" => result)
        };
        let load = |outcome: &'static str| {
            metrics::counter!("cache_loads_total",
                "cache" => String::from(&*cache), "outcome" => outcome)
        };
        let evicted = |cause: &'static str| {
            metrics::counter!("cache_evictions_total",
                "cache" => String::from(&*cache), "cause" => cause)
        };
        let invalidation = |outcome: &'static str| {
            metrics::counter!("cache_invalidations_total",
                "cache" => String::from(&*cache), "outcome" => outcome)
        };
        let handles = Handles {
            local_hit: request("local", "hit"),
            local_stale: request("local", "stale"),
            local_miss: request("local", "miss"),
            remote_hit: request("remote", "hit"),
            remote_miss: request("remote", "miss"),
            remote_error: request("remote", "error"),
            load_hit: request("load", "hit"),
            load_error: request("load", "error"),
            ok: load("ok"),
            superseded: load("superseded"),
            error: load("error"),
            panic: load("panic"),
            timeout: load("timeout"),
            closed: load("closed"),
            load_duration: metrics::histogram!("cache_load_duration_seconds",
                "cache" => String::from(&*cache)),
            entries: metrics::gauge!("cache_entries", "cache" => String::from(&*cache)),
            evicted_size: evicted("size"),
            evicted_expired: evicted("expired"),
            applied: invalidation("applied"),
            deferred: invalidation("deferred"),
        };
        Self {
            cache,
            hits: Sharded::default(),
            stale: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            remote_hits: AtomicU64::new(0),
            remote_misses: AtomicU64::new(0),
            remote_errors: AtomicU64::new(0),
            loads: AtomicU64::new(0),
            loads_failed: AtomicU64::new(0),
            loads_superseded: AtomicU64::new(0),
            evictions: AtomicU64::new(0),
            entries: AtomicI64::new(0),
            watch,
            handles,
        }
    }

    pub(crate) fn cache(&self) -> &str {
        &self.cache
    }

    #[inline]
    pub(crate) fn hit(&self) {
        self.hits.add_one();
        self.handles.local_hit.increment(1);
    }

    pub(crate) fn miss(&self, now: impl FnOnce() -> Instant) {
        self.misses.fetch_add(1, Ordering::Relaxed);
        self.handles.local_miss.increment(1);
        if let Some(watch) = &self.watch {
            let hits = self.hits.sum();
            let requests = hits + self.misses.load(Ordering::Relaxed);
            let cache = &*self.cache;
            match watch.look(now(), hits, requests) {
                Some(Low::Warn(hit_ratio)) => tracing::warn!(cache, hit_ratio, "low hit ratio"),
                Some(Low::Alert(hit_ratio)) => tracing::error!(cache, hit_ratio, "low hit ratio"),
                None => (),
            }
        }
    }

    /// A value that was no longer fresh was served.
    pub(crate) fn stale(&self) {
        self.stale.fetch_add(1, Ordering::Relaxed);
        self.handles.local_stale.increment(1);
    }

    pub(crate) fn remote_hit(&self) {
        self.remote_hits.fetch_add(1, Ordering::Relaxed);
        self.handles.remote_hit.increment(1);
    }

    pub(crate) fn remote_miss(&self) {
        self.remote_misses.fetch_add(1, Ordering::Relaxed);
        self.handles.remote_miss.increment(1);
    }

    pub(crate) fn remote_error(&self) {
        self.remote_errors.fetch_add(1, Ordering::Relaxed);
        self.handles.remote_error.increment(1);
    }

    /// A caller that waited for a load got its result.
    pub(crate) fn answered(&self, ok: bool) {
        let counter = if ok {
            &self.handles.load_hit
        } else {
            &self.handles.load_error
        };
        counter.increment(1);
    }

    pub(crate) fn load_started(&self) {
        self.loads.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn load_succeeded(&self, kept: bool, took: Duration) {
        self.handles.load_duration.record(took);
        if kept {
            return self.handles.ok.increment(1);
        }
        self.loads_superseded.fetch_add(1, Ordering::Relaxed);
        self.handles.superseded.increment(1);
        let cache = &*self.cache;
        tracing::debug!(
            cache,
            "loaded value not kept: superseded while it was loaded"
        );
    }

    pub(crate) fn load_failed(&self, error: &LoadError, heard: bool, took: Duration) {
        self.handles.load_duration.record(took);
        self.loads_failed.fetch_add(1, Ordering::Relaxed);
        let counter = match error {
            LoadError::Failed(_) => &self.handles.error,
            LoadError::Panicked(_) => &self.handles.panic,
            LoadError::TimedOut { .. } => &self.handles.timeout,
            LoadError::Closed => &self.handles.closed,
        };
        counter.increment(1);
        // Else the callers have the error, and know better what it means to them.
        if !heard && !matches!(error, LoadError::Closed) {
            let (cache, source) = (&*self.cache, error.source());
            tracing::warn!(cache, %error, source, "a load failed that nobody waits for");
        }
    }

    pub(crate) fn invalidated(&self, how: Invalidation) {
        match how {
            Invalidation::Applied => self.handles.applied.increment(1),
            Invalidation::Deferred => self.handles.deferred.increment(1),
        }
    }

    pub(crate) fn stored(&self) {
        self.entries.fetch_add(1, Ordering::Relaxed);
        self.handles.entries.increment(1.0);
    }

    /// An entry is gone, for whatever reason.
    pub(crate) fn removed(&self) {
        self.entries.fetch_sub(1, Ordering::Relaxed);
        self.handles.entries.decrement(1.0);
    }

    /// It had to make room.
    pub(crate) fn evicted(&self) {
        self.evictions.fetch_add(1, Ordering::Relaxed);
        self.handles.evicted_size.increment(1);
    }

    /// It was of no use any more.
    pub(crate) fn expired(&self) {
        self.evictions.fetch_add(1, Ordering::Relaxed);
        self.handles.evicted_expired.increment(1);
    }

    pub(crate) fn entries(&self) -> u64 {
        u64::try_from(self.entries.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// The store is going, and its entries with it.
    pub(crate) fn forget_entries(&self) {
        let entries = self.entries.swap(0, Ordering::Relaxed);
        self.handles.entries.decrement(entries as f64);
    }

    pub(crate) fn stats(&self) -> Stats {
        Stats {
            hits: self.hits.sum(),
            stale: self.stale.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            remote_hits: self.remote_hits.load(Ordering::Relaxed),
            remote_misses: self.remote_misses.load(Ordering::Relaxed),
            remote_errors: self.remote_errors.load(Ordering::Relaxed),
            loads: self.loads.load(Ordering::Relaxed),
            loads_failed: self.loads_failed.load(Ordering::Relaxed),
            loads_superseded: self.loads_superseded.load(Ordering::Relaxed),
            entries: self.entries(),
            evictions: self.evictions.load(Ordering::Relaxed),
        }
    }
}

fn describe() {
    metrics::describe_counter!(
        "cache_requests_total",
        Unit::Count,
        "Requests by the tier that was asked and its result"
    );
    metrics::describe_counter!(
        "cache_loads_total",
        Unit::Count,
        "Loads that ended, by outcome"
    );
    metrics::describe_histogram!(
        "cache_load_duration_seconds",
        Unit::Seconds,
        "Time from the start of a load to its end"
    );
    metrics::describe_gauge!("cache_entries", Unit::Count, "Entries in memory");
    metrics::describe_counter!(
        "cache_evictions_total",
        Unit::Count,
        "Entries that went because the cache was full or they were expired"
    );
    metrics::describe_counter!(
        "cache_invalidations_total",
        Unit::Count,
        "Invalidations by outcome"
    );
}
