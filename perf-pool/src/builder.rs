use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use futures_core::future::BoxFuture;

use crate::connect_error::{UNNAMED, target};
use crate::driver::{Driver, Options};
use crate::hooks::AfterConnect;
use crate::thresholds::Thresholds;
use crate::{ConnectError, Pool, Profile, connect};

/// Settings of a [`Pool`]; [`connect`](Self::connect) checks them and opens it.
#[must_use = "a builder does nothing until `connect`"]
pub struct PoolBuilder<DB: Driver> {
    pub(crate) name: Arc<str>,
    pub(crate) profile: Profile,
    pub(crate) min_connections: Option<u32>,
    pub(crate) max_connections: Option<u32>,
    pub(crate) acquire_timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) max_connecting: u32,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) max_lifetime: Option<Duration>,
    pub(crate) max_lifetime_jitter: f64,
    pub(crate) keepalive_interval: Option<Duration>,
    pub(crate) leak_detection_threshold: Option<Duration>,
    pub(crate) warn: Thresholds,
    pub(crate) alive_bypass_window: Duration,
    pub(crate) ping_timeout: Option<Duration>,
    pub(crate) return_timeout: Option<Duration>,
    pub(crate) begin_statement: Option<&'static str>,
    pub(crate) statement_cache_capacity: Option<usize>,
    pub(crate) after_connect: Option<AfterConnect<DB>>,
    pub(crate) driver: DB::Settings,
}

impl<DB: Driver> PoolBuilder<DB> {
    pub(crate) fn new() -> Self {
        Self {
            name: "default".into(),
            profile: Profile::default(),
            min_connections: None,
            max_connections: None,
            acquire_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(5),
            max_connecting: 4,
            idle_timeout: Some(Duration::from_secs(10 * 60)),
            max_lifetime: Some(Duration::from_secs(30 * 60)),
            max_lifetime_jitter: 0.1,
            keepalive_interval: Some(Duration::from_secs(60)),
            leak_detection_threshold: None,
            warn: Thresholds::default(),
            alive_bypass_window: Duration::from_millis(500),
            ping_timeout: None,
            return_timeout: Some(Duration::from_secs(5)),
            begin_statement: None,
            statement_cache_capacity: None,
            after_connect: None,
            driver: DB::Settings::default(),
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

    /// The longest that opening a connection may take, with its retries while the server refuses
    /// it or starts up; then it is given up and begun again, if somebody waits for it. Also bounds
    /// the first connection in [`connect`](Self::connect), and the opening of the base there.
    /// Defaults to 5 seconds.
    ///
    /// A caller whose `acquire_timeout` is shorter does not end the opening, which goes on for the
    /// next one.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// The most connections that are being opened at a time, so that a server that comes back is
    /// not met by all at once. The base in [`connect`](Self::connect) is opened all at once
    /// nevertheless, and the bare sqlx pool does not ask. Defaults to 4.
    pub fn max_connecting(mut self, max: u32) -> Self {
        self.max_connecting = max;
        self
    }

    /// Closes as many connections above the base as were idle all the time for so long. `None`:
    /// they stay. Defaults to 10 minutes.
    ///
    /// After a peak the pool is back at its base within one and a half times this time, however
    /// the load goes round among its connections.
    pub fn idle_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.idle_timeout = timeout.into();
        self
    }

    /// Renews connections that are older: when they come back from use, or within a twentieth of
    /// this time while they are idle. `None`: age does not matter. Defaults to 30 minutes.
    pub fn max_lifetime(mut self, lifetime: impl Into<Option<Duration>>) -> Self {
        self.max_lifetime = lifetime.into();
        self
    }

    /// By which part `max_lifetime` is shorter at most, for each connection another: so those that
    /// were opened together are not renewed together. From 0 to 1. Defaults to 0.1.
    pub fn max_lifetime_jitter(mut self, part: f64) -> Self {
        self.max_lifetime_jitter = part;
        self
    }

    /// Pings idle connections this often, so that firewalls do not forget them and dead ones are
    /// found before a caller does. `None`: never. Defaults to a minute.
    pub fn keepalive_interval(mut self, interval: impl Into<Option<Duration>>) -> Self {
        self.keepalive_interval = interval.into();
        self
    }

    /// Warns of a connection that is held for longer, with the line that took it, and counts it in
    /// `db_client_connections_leaks_total`; when it comes back after all, that is logged too.
    /// `None`: never. Defaults to `None`. HikariCP's name; it takes nothing away from the holder.
    pub fn leak_detection_threshold(mut self, threshold: impl Into<Option<Duration>>) -> Self {
        self.leak_detection_threshold = threshold.into();
        self
    }

    /// Warns once when more connections than this are in use, and tells when it is over. Looked at
    /// once a second. Defaults to no warning.
    pub fn warn_in_use(mut self, above: u32) -> Self {
        self.warn.in_use = Some(above);
        self
    }

    /// Warns once when more connections than this are open above the base, and tells when it is
    /// over. Looked at once a second. Defaults to no warning.
    pub fn warn_overflow(mut self, above: u32) -> Self {
        self.warn.overflow = Some(above);
        self
    }

    /// Warns once when more callers than this wait for a connection, and tells when it is over.
    /// Looked at once a second. Defaults to no warning.
    pub fn warn_pending(mut self, above: u32) -> Self {
        self.warn.pending = Some(above);
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
    /// another opened. Defaults to 500 ms; behind PgBouncer in transaction mode, where a ping
    /// waits for a connection to the server, to 5 seconds.
    pub fn ping_timeout(mut self, timeout: Duration) -> Self {
        self.ping_timeout = Some(timeout);
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

    /// How many prepared statements each connection keeps, the least recently used going first.
    /// Defaults to what the URL says, else to sqlx's 100. Postgres: 0 is refused, for sqlx 0.9.0
    /// prepares a statement for each query then and never drops it. SQLite: 0 keeps none.
    pub fn statement_cache_capacity(mut self, capacity: usize) -> Self {
        self.statement_cache_capacity = Some(capacity);
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
        let driver = self.driver.clone();
        let settings = self.check()?;
        let options =
            Options::<DB>::from_str(url).map_err(|source| ConnectError::Url { source })?;
        connect::connect(settings, driver, options, target(url)).await
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
    pub async fn connect_with(self, options: Options<DB>) -> Result<Pool<DB>, ConnectError> {
        self.open(options, UNNAMED.to_owned()).await
    }

    pub(crate) async fn open(
        self,
        options: Options<DB>,
        target: String,
    ) -> Result<Pool<DB>, ConnectError> {
        let driver = self.driver.clone();
        connect::connect(self.check()?, driver, options, target).await
    }
}

impl<DB: Driver> fmt::Debug for PoolBuilder<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolBuilder")
            .field("name", &self.name)
            .field("profile", &self.profile)
            .field("min_connections", &self.min_connections)
            .field("max_connections", &self.max_connections)
            .field("acquire_timeout", &self.acquire_timeout)
            .field("connect_timeout", &self.connect_timeout)
            .field("max_connecting", &self.max_connecting)
            .field("idle_timeout", &self.idle_timeout)
            .field("max_lifetime", &self.max_lifetime)
            .field("max_lifetime_jitter", &self.max_lifetime_jitter)
            .field("keepalive_interval", &self.keepalive_interval)
            .field("leak_detection_threshold", &self.leak_detection_threshold)
            .field("warn", &self.warn)
            .field("alive_bypass_window", &self.alive_bypass_window)
            .field("ping_timeout", &self.ping_timeout)
            .field("return_timeout", &self.return_timeout)
            .field("begin_statement", &self.begin_statement)
            .field("statement_cache_capacity", &self.statement_cache_capacity)
            .field("driver", &self.driver)
            .finish_non_exhaustive()
    }
}
