use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use futures_core::future::BoxFuture;
use sqlx::pool::PoolOptions;
use sqlx::{Connection, Database};

use crate::connect_error::{UNNAMED, target};
use crate::hooks::{AfterConnect, Checks};
use crate::{BuildError, ConnectError, Pool, Profile, connect};

/// No Postgres server can be configured for more (its `max_connections` ends at 262,143), and sqlx
/// reserves the queue of idle connections up front.
const MOST_CONNECTIONS: u32 = 262_143;

/// Longer durations mean the same and would overflow the clock inside sqlx.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Settings of a [`Pool`]; [`connect`](Self::connect) checks them and opens it.
#[must_use = "a builder does nothing until `connect`"]
pub struct PoolBuilder<DB: Database> {
    name: Arc<str>,
    profile: Profile,
    min_connections: Option<u32>,
    max_connections: Option<u32>,
    acquire_timeout: Duration,
    connect_timeout: Duration,
    idle_timeout: Option<Duration>,
    max_lifetime: Option<Duration>,
    alive_bypass_window: Duration,
    ping_timeout: Duration,
    return_timeout: Option<Duration>,
    begin_statement: Option<&'static str>,
    after_connect: Option<AfterConnect<DB>>,
}

/// Checked settings.
pub(crate) struct Settings<DB: Database> {
    pub(crate) name: Arc<str>,
    pub(crate) base: u32,
    pub(crate) max: u32,
    pub(crate) acquire_timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) begin_statement: Option<&'static str>,
    pub(crate) checks: Checks,
    pub(crate) after_connect: Option<AfterConnect<DB>>,
    pub(crate) sqlx: PoolOptions<DB>,
}

impl<DB: Database> PoolBuilder<DB> {
    pub(crate) fn new() -> Self {
        Self {
            name: "default".into(),
            profile: Profile::default(),
            min_connections: None,
            max_connections: None,
            acquire_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(5),
            idle_timeout: Some(Duration::from_secs(10 * 60)),
            max_lifetime: Some(Duration::from_secs(30 * 60)),
            alive_bypass_window: Duration::from_millis(500),
            ping_timeout: Duration::from_millis(500),
            return_timeout: Some(Duration::from_secs(5)),
            begin_statement: None,
            after_connect: None,
        }
    }

    /// The metrics' label `pool`, and the name in logs. Give each pool of a process its own: two
    /// of one name would overwrite each other's gauges. Defaults to `default`.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into().into();
        self
    }

    /// How many connections to keep and how many to add at peaks. Defaults to [`Profile::Low`];
    /// [`min_connections`](Self::min_connections) and [`max_connections`](Self::max_connections)
    /// override it.
    pub fn profile(mut self, profile: Profile) -> Self {
        self.profile = profile;
        self
    }

    /// The base: connections that are opened at once and kept open. Defaults to the profile's base,
    /// or to `max_connections` if that is less.
    pub fn min_connections(mut self, min: u32) -> Self {
        self.min_connections = Some(min);
        self
    }

    /// Base + overflow: the most connections open at a time. When all are in use, acquires wait.
    /// Defaults to the base plus the profile's overflow.
    pub fn max_connections(mut self, max: u32) -> Self {
        self.max_connections = Some(max);
        self
    }

    /// The longest an acquire takes, whatever it waits for. Defaults to 30 seconds.
    pub fn acquire_timeout(mut self, timeout: Duration) -> Self {
        self.acquire_timeout = timeout;
        self
    }

    /// The longest that the first connection in [`connect`](Self::connect), the opening of the
    /// base there, and the attempt that finds out why acquires get no connection may take. Later
    /// connections are opened within an acquire and its `acquire_timeout`. Defaults to 5 seconds.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Closes connections above the base that were idle for longer; those of the base are renewed.
    /// `None`: idle connections stay. Defaults to 10 minutes.
    ///
    /// Idle connections are handed out in turn, the one idle longest first, so overflow goes once
    /// there are more connections than acquires within this time.
    pub fn idle_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.idle_timeout = timeout.into();
        self
    }

    /// Renews connections that are older, once they are not in use. `None`: age does not matter.
    /// Defaults to 30 minutes.
    pub fn max_lifetime(mut self, lifetime: impl Into<Option<Duration>>) -> Self {
        self.max_lifetime = lifetime.into();
        self
    }

    /// A connection that was idle for less than this is handed out untested; one that was idle
    /// for longer is pinged first. Zero: every acquire pings. Defaults to 500 ms, the window of
    /// HikariCP: long enough that a busy pool never pings, short enough that a server's restart
    /// is noticed.
    pub fn alive_bypass_window(mut self, window: Duration) -> Self {
        self.alive_bypass_window = window;
        self
    }

    /// The longest that a ping before handing out may take; then the connection is closed and
    /// another opened. Defaults to 500 ms.
    pub fn ping_timeout(mut self, timeout: Duration) -> Self {
        self.ping_timeout = timeout;
        self
    }

    /// The longest a returned connection may take to become ready again (to roll back, to finish
    /// a query that was cancelled, to answer a ping); then it is closed, so that a peer that
    /// silently died keeps no permit. `None`: no bound, and no ping before handing out either,
    /// which is right for a database within the process. Defaults to 5 seconds.
    ///
    /// Keep it above your slow queries: the server goes on with a cancelled query after its
    /// connection was closed, so a short bound lets more run there than `max_connections`.
    pub fn return_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.return_timeout = timeout.into();
        self
    }

    /// What begins a transaction, such as `BEGIN IMMEDIATE`. Defaults to sqlx's `BEGIN`.
    pub fn begin_statement(mut self, statement: &'static str) -> Self {
        self.begin_statement = Some(statement);
        self
    }

    /// Runs on every new connection before its first use. If it fails, the connection is closed
    /// and another one tried until the acquire's time is up; in [`connect`](Self::connect) it
    /// fails at once. Defaults to nothing.
    ///
    /// ```
    /// # #[cfg(feature = "postgres")] {
    /// use sqlx::{Executor, Postgres};
    ///
    /// let builder = perf_pool::Pool::<Postgres>::builder().after_connect(|conn| {
    ///     Box::pin(async move {
    ///         conn.execute("SET application_name = 'quiz'").await?;
    ///         Ok(())
    ///     })
    /// });
    /// # }
    /// ```
    pub fn after_connect<F>(mut self, hook: F) -> Self
    where
        F: for<'c> Fn(&'c mut DB::Connection) -> BoxFuture<'c, Result<(), sqlx::Error>>
            + Send
            + Sync
            + 'static,
    {
        self.after_connect = Some(Arc::new(hook));
        self
    }

    /// Connects to the database at `url` and opens the base connections.
    ///
    /// One connection is opened and closed first, directly: if the server cannot be reached or
    /// says no, its reason comes back at once. Base connections that are not open after a further
    /// `connect_timeout` are opened in the background.
    ///
    /// # Errors
    ///
    /// [`ConnectError`], without the password of the URL.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: what was opened is closed.
    ///
    /// # Panics
    ///
    /// Panics outside a tokio runtime.
    pub async fn connect(self, url: &str) -> Result<Pool<DB>, ConnectError> {
        let settings = self.check()?;
        let options = <DB::Connection as Connection>::Options::from_str(url)
            .map_err(|source| ConnectError::Url { source })?;
        connect::connect(settings, options, target(url)).await
    }

    /// Like [`connect`](Self::connect), with the driver's options.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect).
    ///
    /// # Cancel safety
    ///
    /// As [`connect`](Self::connect).
    ///
    /// # Panics
    ///
    /// Panics outside a tokio runtime.
    pub async fn connect_with(
        self,
        options: <DB::Connection as Connection>::Options,
    ) -> Result<Pool<DB>, ConnectError> {
        connect::connect(self.check()?, options, UNNAMED.to_owned()).await
    }

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
        let checks = Checks {
            alive_bypass_window: self.alive_bypass_window,
            ping_timeout: positive("ping_timeout", self.ping_timeout)?,
            return_timeout: optional("return_timeout", self.return_timeout)?,
        };
        // Where nothing ever closes a connection, none has to be replaced: sqlx would spawn a
        // task at every return to look.
        let refill = idle_timeout.is_some() || max_lifetime.is_some();
        Ok(Settings {
            name: self.name,
            base,
            max,
            acquire_timeout,
            connect_timeout,
            begin_statement: self.begin_statement,
            checks,
            after_connect: self.after_connect,
            sqlx: PoolOptions::new()
                .min_connections(if refill { base } else { 0 })
                .max_connections(max)
                .acquire_timeout(acquire_timeout)
                .idle_timeout(idle_timeout)
                .max_lifetime(max_lifetime),
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

impl<DB: Database> fmt::Debug for PoolBuilder<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolBuilder")
            .field("name", &self.name)
            .field("profile", &self.profile)
            .field("min_connections", &self.min_connections)
            .field("max_connections", &self.max_connections)
            .field("acquire_timeout", &self.acquire_timeout)
            .field("connect_timeout", &self.connect_timeout)
            .field("idle_timeout", &self.idle_timeout)
            .field("max_lifetime", &self.max_lifetime)
            .field("alive_bypass_window", &self.alive_bypass_window)
            .field("ping_timeout", &self.ping_timeout)
            .field("return_timeout", &self.return_timeout)
            .field("begin_statement", &self.begin_statement)
            .finish_non_exhaustive()
    }
}
