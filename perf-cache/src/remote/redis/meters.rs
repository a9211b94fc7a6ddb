use metrics::{Counter, Unit};

/// The metrics of the shared tier itself. What comes of a cache's requests to it, the cache counts.
pub(crate) struct RemoteMeters {
    cache: String,
    errors: Counter,
    gaps: Counter,
}

impl RemoteMeters {
    pub(crate) fn new(cache: &str) -> Self {
        metrics::describe_counter!(
            "cache_remote_errors_total",
            Unit::Count,
            "Round trips to the shared tier that failed, and values there that cannot be read or written"
        );
        metrics::describe_counter!(
            "cache_bus_gaps_total",
            Unit::Count,
            "Times that invalidations of other processes may have been missed"
        );
        Self {
            cache: cache.to_owned(),
            errors: metrics::counter!("cache_remote_errors_total", "cache" => cache.to_owned()),
            gaps: metrics::counter!("cache_bus_gaps_total", "cache" => cache.to_owned()),
        }
    }

    pub(super) fn cache(&self) -> &str {
        &self.cache
    }

    pub(super) fn error(&self) {
        self.errors.increment(1);
    }

    pub(super) fn gap(&self) {
        self.gaps.increment(1);
    }
}

impl std::fmt::Debug for RemoteMeters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemoteMeters")
            .field("cache", &self.cache)
            .finish_non_exhaustive()
    }
}
