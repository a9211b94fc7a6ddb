use std::time::Duration;

use crate::BuildError;

/// From where on the state of the service and of its resources is worth a warning, or critical.
///
/// The alerts are made of them, and of the [budgets](super::Budget); see
/// [`Monitor::alert_rules`](crate::Monitor::alert_rules).
#[derive(Debug, Clone, PartialEq)]
#[must_use = "thresholds do nothing until they are given to a monitor's builder"]
pub struct Thresholds {
    pub(crate) error_ratio: f64,
    pub(crate) unanswered_ratio: (f64, f64),
    pub(crate) memory_usage: (f64, f64),
    pub(crate) pool_usage: f64,
    pub(crate) queue_depth: (u64, u64),
    pub(crate) queue_age: (Duration, Duration),
    pub(crate) cache_hit_ratio: (f64, f64),
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            error_ratio: 0.05,
            unanswered_ratio: (0.2, 0.5),
            memory_usage: (0.75, 0.85),
            pool_usage: 0.9,
            queue_depth: (20, 50),
            queue_age: (Duration::from_secs(30), Duration::from_secs(120)),
            cache_hit_ratio: (0.8, 0.7),
        }
    }
}

impl Thresholds {
    /// More than this share of all requests fails: critical. Defaults to 0.05.
    pub fn error_ratio(mut self, critical: f64) -> Self {
        self.error_ratio = critical;
        self
    }

    /// More than this share of the requests to a route is dropped before its response headers: the
    /// clients give up, or a timeout outside the layer does. Beyond the first, no budget of the
    /// route is [kept](super::Verdict::Unanswered) either. Defaults to 0.2 and 0.5.
    pub fn unanswered_ratio(mut self, warning: f64, critical: f64) -> Self {
        self.unanswered_ratio = (warning, critical);
        self
    }

    /// The process uses more than this share of the memory that it may use. Defaults to 0.75 and
    /// 0.85.
    pub fn memory_usage(mut self, warning: f64, critical: f64) -> Self {
        self.memory_usage = (warning, critical);
        self
    }

    /// More than this share of a pool's connections is in use: a warning. That all are, and callers
    /// wait, is critical in any case. Defaults to 0.9.
    pub fn pool_usage(mut self, warning: f64) -> Self {
        self.pool_usage = warning;
        self
    }

    /// More jobs than this wait in a queue, ready or held back by a limit; not those scheduled for
    /// later. Defaults to 20 and 50.
    pub fn queue_depth(mut self, warning: u64, critical: u64) -> Self {
        self.queue_depth = (warning, critical);
        self
    }

    /// The job that has been due the longest waits for longer than this. Defaults to 30 seconds and
    /// two minutes.
    pub fn queue_age(mut self, warning: Duration, critical: Duration) -> Self {
        self.queue_age = (warning, critical);
        self
    }

    /// A smaller share than this of a cache's reads finds a value. Defaults to 0.8 and 0.7.
    pub fn cache_hit_ratio(mut self, warning: f64, critical: f64) -> Self {
        self.cache_hit_ratio = (warning, critical);
        self
    }

    pub(super) fn validate(&self) -> Result<(), BuildError> {
        let ratio = |ratio: f64| ratio > 0.0 && ratio < 1.0;
        let (memory, hits) = (self.memory_usage, self.cache_hit_ratio);
        let wrong = |name, remedy| Err(BuildError::Threshold { name, remedy });
        if !ratio(self.error_ratio) {
            return wrong("error_ratio", "set a ratio above 0 and below 1");
        }
        let unanswered = self.unanswered_ratio;
        if !ratio(unanswered.0) || !ratio(unanswered.1) || unanswered.0 > unanswered.1 {
            return wrong(
                "unanswered_ratio",
                "set ratios above 0 and below 1, the critical one not below the warning",
            );
        }
        if !ratio(memory.0) || !ratio(memory.1) || memory.0 > memory.1 {
            return wrong(
                "memory_usage",
                "set ratios above 0 and below 1, the critical one not below the warning",
            );
        }
        if !ratio(self.pool_usage) {
            return wrong("pool_usage", "set a ratio above 0 and below 1");
        }
        if self.queue_depth.0 > self.queue_depth.1 {
            return wrong("queue_depth", "set the critical one not below the warning");
        }
        if self.queue_age.0 > self.queue_age.1 {
            return wrong("queue_age", "set the critical one not below the warning");
        }
        if !ratio(hits.0) || !ratio(hits.1) || hits.0 < hits.1 {
            return wrong(
                "cache_hit_ratio",
                "set ratios above 0 and below 1, the critical one not above the warning",
            );
        }
        Ok(())
    }
}
