//! What the builder passes on to the monitor's layers, and what these know of running requests.

use std::time::Duration;

use super::{Monitor, MonitorBuilder};
use crate::timing::{RunningRequest, UpgradedConnection};

impl MonitorBuilder {
    /// Requests that are not timed: those whose path or route matches one of these patterns, such
    /// as `/metrics` or `/static/{*rest}`. Defaults to none; more than one call adds up. See
    /// [`TimingLayer::exclude`](crate::TimingLayer::exclude).
    pub fn exclude(mut self, patterns: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.exclude.extend(patterns.into_iter().map(Into::into));
        self
    }

    /// Logs and counts requests that take `threshold` or longer to their response headers. Defaults
    /// to off. See [`TimingLayer::slow_log`](crate::TimingLayer::slow_log).
    pub fn slow_log(mut self, threshold: Duration) -> Self {
        self.layer = self.layer.slow_log(threshold);
        self
    }

    /// Logs requests that are still running beyond their budget without response headers, even if
    /// they never end: to a route with a [budget](Self::budget) of its own, beyond its p99, or its
    /// p95 if it has none; to others, and to those whose budget has neither, for `threshold` or
    /// longer. A budget without any limit, as for long polls, exempts its route. Defaults to off.
    /// See [`TimingLayer::watchdog`](crate::TimingLayer::watchdog) for the line, and for who looks.
    pub fn watchdog(mut self, threshold: Duration) -> Self {
        self.watchdog = Some(threshold);
        self
    }

    /// Whether responses get the header `X-Process-Time`: the seconds to the headers, with six
    /// digits. Defaults to `false`. See
    /// [`TimingLayer::process_time_header`](crate::TimingLayer::process_time_header).
    pub fn process_time_header(mut self, add: bool) -> Self {
        self.layer = self.layer.process_time_header(add);
        self
    }
}

impl Monitor {
    /// The requests that are running now, the oldest first; see
    /// [`TimingLayer::running`](crate::TimingLayer::running).
    #[must_use]
    pub fn running(&self) -> Vec<RunningRequest> {
        self.inner.layer.running()
    }

    /// Counts an upgraded connection of this route until what is returned is dropped; see
    /// [`TimingLayer::upgraded`](crate::TimingLayer::upgraded).
    pub fn upgraded(&self, route: &str) -> UpgradedConnection {
        self.inner.layer.upgraded(route)
    }

    /// The requests that have been running for `min_age` or longer, the oldest first.
    #[must_use]
    pub fn long_running(&self, min_age: Duration) -> Vec<RunningRequest> {
        self.inner.layer.long_running(min_age)
    }
}
