use std::sync::Arc;
use std::time::Duration;

use sqlx::Database;
use sqlx::pool::PoolOptions;

use crate::driver::Driver;
use crate::hooks::{AfterConnect, Checks};
use crate::lifetimes::Lifetimes;
use crate::maintenance::Upkeep;
use crate::{BuildError, PoolBuilder};

/// No Postgres server can be configured for more (its `max_connections` ends at 262,143), and sqlx
/// reserves the queue of idle connections up front.
const MOST_CONNECTIONS: u32 = 262_143;

/// Longer durations mean the same and would overflow the clock inside sqlx.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Checked settings.
pub(crate) struct Settings<DB: Database> {
    pub(crate) name: Arc<str>,
    pub(crate) base: u32,
    pub(crate) max: u32,
    pub(crate) acquire_timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) begin_statement: Option<&'static str>,
    pub(crate) statement_cache_capacity: Option<usize>,
    pub(crate) max_connecting: u32,
    pub(crate) checks: Checks,
    pub(crate) lifetimes: Arc<Lifetimes>,
    pub(crate) upkeep: Upkeep,
    pub(crate) after_connect: Option<AfterConnect<DB>>,
    pub(crate) sqlx: PoolOptions<DB>,
}

impl<DB: Driver> PoolBuilder<DB> {
    pub(crate) fn check(self) -> Result<Settings<DB>, BuildError> {
        let (base, max) = self.size()?;
        let positive = |option, value: Duration| match value {
            Duration::ZERO => Err(BuildError::ZeroDuration { option }),
            value => Ok(value.min(LONGEST)),
        };
        let optional = |option, value: Option<Duration>| {
            value.map(|value| positive(option, value)).transpose()
        };
        let acquire_timeout = positive("acquire_timeout", self.acquire_timeout)?;
        let connect_timeout = positive("connect_timeout", self.connect_timeout)?;
        let idle_timeout = optional("idle_timeout", self.idle_timeout)?;
        let max_lifetime = optional("max_lifetime", self.max_lifetime)?;
        let ping_timeout = self
            .ping_timeout
            .unwrap_or_else(|| DB::ping_timeout(&self.driver));
        let checks = Checks {
            alive_bypass_window: self.alive_bypass_window,
            ping_timeout: positive("ping_timeout", ping_timeout)?,
            return_timeout: optional("return_timeout", self.return_timeout)?,
        };
        let keepalive_interval = optional("keepalive_interval", self.keepalive_interval)?;
        let leak_detection_threshold =
            optional("leak_detection_threshold", self.leak_detection_threshold)?;
        let jitter = self.max_lifetime_jitter;
        if !(0.0..=1.0).contains(&jitter) {
            return Err(BuildError::Jitter { jitter });
        }
        if self.max_connecting == 0 {
            return Err(BuildError::NoConnecting);
        }
        let lifetimes = Lifetimes::new(max_lifetime, jitter);
        Ok(Settings {
            name: self.name,
            base,
            max,
            acquire_timeout,
            connect_timeout,
            max_connecting: self.max_connecting,
            begin_statement: self.begin_statement,
            statement_cache_capacity: self.statement_cache_capacity,
            upkeep: Upkeep {
                base,
                idle_timeout,
                // Nothing wakes a connection to a database within the process.
                keepalive_interval: keepalive_interval.filter(|_| checks.return_timeout.is_some()),
                look_every: lifetimes.look_every(),
                leak_detection_threshold,
                warn: self.warn,
            },
            lifetimes: Arc::new(lifetimes),
            checks,
            after_connect: self.after_connect,
            // What closes and opens connections by itself is our own maintenance.
            sqlx: PoolOptions::new()
                .min_connections(0)
                .max_connections(max)
                // Those who wait through our own acquire have a deadline of their own; the
                // connection that is opened for them must outlive it.
                .acquire_timeout(acquire_timeout.max(connect_timeout))
                // An attempt of the pool that takes long delays nobody in particular; what a caller
                // waited is in the metrics.
                .acquire_slow_threshold(Duration::MAX)
                .idle_timeout(None)
                .max_lifetime(None),
        })
    }

    fn size(&self) -> Result<(u32, u32), BuildError> {
        let profile = self.profile;
        let max = self.max_connections.unwrap_or_else(|| {
            let base = self.min_connections.unwrap_or(profile.base());
            base.saturating_add(profile.overflow())
        });
        let min = self
            .min_connections
            .unwrap_or_else(|| profile.base().min(max));
        match max {
            0 => Err(BuildError::NoConnections),
            max if min > max => Err(BuildError::MinAboveMax { min, max }),
            max if max > MOST_CONNECTIONS => Err(BuildError::TooManyConnections {
                max,
                limit: MOST_CONNECTIONS,
            }),
            max => Ok((min, max)),
        }
    }
}
