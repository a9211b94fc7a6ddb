use super::{Monitor, MonitorBuilder};
use crate::recorder::{Alias, Derived, Kind};
use crate::snapshot::{CACHE_REQUESTS, Process, hit_ratios};
use crate::timing::REQUEST_DURATION;

const ALIASES: &[Alias] = &[
    Alias {
        name: "app_response_time_seconds",
        of: REQUEST_DURATION,
        help: "Time from the request to the response headers.",
    },
    Alias {
        name: "db_query_duration_seconds",
        of: "db_client_connections_use_time_seconds",
        help: "Time that a database connection was in use.",
    },
];

impl MonitorBuilder {
    /// Whether scrapes show some metrics by names of older services as well, so that dashboards
    /// and alerts made for those go on working. Defaults to `false`.
    ///
    /// | name | is |
    /// |---|---|
    /// | `app_response_time_seconds` | `http_server_request_duration_seconds`, with its labels |
    /// | `app_memory_usage_bytes` | `process_resident_memory_bytes` |
    /// | `db_query_duration_seconds` | `db_client_connections_use_time_seconds`, with its labels: the time that a connection was held, for one query or for a transaction |
    /// | `cache_hit_ratio` | of `cache_requests_total`, the share of the reads that found a value in memory or in Redis since the start, by `cache` |
    ///
    /// They are made when they are scraped, and cost nothing before. A metric that is recorded by
    /// one of these names goes before.
    pub fn compatibility_names(mut self, show: bool) -> Self {
        self.compatibility_names = show;
        self
    }
}

impl Monitor {
    pub(super) fn aliases(&self) -> &'static [Alias] {
        if self.inner.compatibility_names {
            ALIASES
        } else {
            &[]
        }
    }

    /// What an alias cannot show.
    pub(super) fn compatible(&self, process: &Process) -> Vec<Derived> {
        if !self.inner.compatibility_names {
            return Vec::new();
        }
        let caches = hit_ratios(&self.inner.recorder.samples(&[&[CACHE_REQUESTS]]));
        let ratios = Derived {
            name: "cache_hit_ratio",
            kind: Kind::Gauge,
            help: "Share of the reads that found a value, since the start.",
            series: caches
                .into_iter()
                .map(|(cache, ratio)| (vec![("cache", cache)], ratio))
                .collect(),
        };
        let memory = process.resident_memory_bytes.map(|bytes| {
            let (name, help) = ("app_memory_usage_bytes", "Resident memory.");
            Derived::one(name, Kind::Gauge, help, bytes as f64)
        });
        memory.into_iter().chain([ratios]).collect()
    }
}
