use std::fmt;
use std::ops::Deref;
use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use sqlx::{Connection, Database, SqlSafeStr};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::advice::Load;
use crate::desk::Desk;
use crate::diagnosis::Diagnosis;
use crate::driver::{Driver, Terms};
use crate::holders::Holders;
use crate::hooks::{AfterConnect, Checks, DroppedBegins, Hooks};
use crate::lifetimes::Lifetimes;
use crate::maintenance;
use crate::metrics::Metrics;
use crate::pace::Pace;
use crate::settings::Settings;
use crate::slots::Slots;
use crate::supply::Look;
use crate::warm::Warm;
use crate::{AcquireError, PoolBuilder, PoolConnection, Status, StillInUse, Transaction};

/// A pool of connections to a database: sqlx's own pool with safe, cheap, measured checkouts.
///
/// A cheap handle: clones share the pool, and the pool's tasks end when it is closed or its last
/// handle and last guard are dropped.
///
/// `&Pool` is an [`sqlx::Executor`] and an [`sqlx::Acquire`], like sqlx's pool. It derefs to
/// [`sqlx::Pool`] for code that asks for that type; what runs through the bare sqlx pool passes by
/// the metrics of wait and use times and by [`AcquireError`], see the table in the
/// [crate's documentation](crate#what-holds-where).
pub struct Pool<DB: Database> {
    inner: Arc<Inner<DB>>,
}

pub(crate) struct Inner<DB: Database> {
    pub(crate) sqlx: sqlx::Pool<DB>,
    pub(crate) name: Arc<str>,
    pub(crate) base: u32,
    pub(crate) max: u32,
    pub(crate) acquire_timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) checks: Checks,
    pub(crate) max_connecting: u32,
    pub(crate) begin_statement: Option<&'static str>,
    /// As many as sqlx has permits, in front of them: so that waiting for another caller and
    /// opening a connection are told apart.
    pub(crate) slots: Slots,
    pub(crate) desk: Desk<DB>,
    pub(crate) warm: Warm<DB>,
    pub(crate) holders: Holders,
    pub(crate) load: Load,
    /// How long handshakes and uses took lately.
    pub(crate) handshakes: Arc<Pace>,
    pub(crate) uses: Pace,
    pub(crate) lifetimes: Arc<Lifetimes>,
    /// From when on a connection that is held counts as leaked for the advice.
    pub(crate) stuck_after: Option<Duration>,
    /// Wakes the maintenance before its time.
    pub(crate) look_after: Arc<Notify>,
    /// The least connections that were idle since the maintenance looked.
    pub(crate) least_idle: AtomicU32,
    /// Idle connections that the maintenance has in its hands.
    pub(crate) swept: AtomicU32,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) diagnosis: Arc<Diagnosis>,
    pub(crate) terms: Terms<DB>,
    pub(crate) dropped_begins: DroppedBegins,
    pub(crate) after_connect: Option<AfterConnect<DB>>,
    /// Where connections go back when they are dropped outside any runtime.
    pub(crate) runtime: Handle,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
    _stop_on_drop: DropGuard,
}

impl<DB: Driver> Pool<DB> {
    /// A pool to configure; [`PoolBuilder::connect`] opens it.
    pub fn builder() -> PoolBuilder<DB> {
        PoolBuilder::new()
    }
}

impl<DB: Database> Pool<DB> {
    /// Must be called within a runtime.
    pub(crate) fn open(
        settings: Settings<DB>,
        options: <DB::Connection as Connection>::Options,
        metrics: Arc<Metrics>,
        terms: Terms<DB>,
    ) -> Self {
        let diagnosis = Arc::new(Diagnosis::default());
        let dropped_begins = DroppedBegins::default();
        let handshakes = Arc::new(Pace::default());
        let hooks = Hooks {
            checks: settings.checks,
            after_connect: settings.after_connect.clone(),
            metrics: Arc::clone(&metrics),
            diagnosis: Arc::clone(&diagnosis),
            dropped_begins: dropped_begins.clone(),
            lifetimes: Arc::clone(&settings.lifetimes),
            handshakes: Arc::clone(&handshakes),
        };
        let sqlx = hooks.install(settings.sqlx).connect_lazy_with(options);
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let inner = Arc::new_cyclic(|inner| {
            let look_after = Arc::new(Notify::new());
            let wake = Arc::clone(&look_after);
            let maintain =
                maintenance::run(inner.clone(), sqlx.close_event(), wake, settings.upkeep);
            let stopped = stop.clone();
            tasks.spawn(async move {
                stopped.run_until_cancelled_owned(maintain).await;
            });
            Inner {
                slots: Slots::new(settings.max),
                desk: Desk::default(),
                warm: Warm::default(),
                holders: Holders::default(),
                load: Load::new(Instant::now()),
                handshakes,
                uses: Pace::default(),
                stuck_after: settings.upkeep.leak_detection_threshold,
                lifetimes: settings.lifetimes,
                look_after,
                least_idle: AtomicU32::new(u32::MAX),
                swept: AtomicU32::new(0),
                max_connecting: settings.max_connecting,
                sqlx,
                name: settings.name,
                base: settings.base,
                max: settings.max,
                acquire_timeout: settings.acquire_timeout,
                connect_timeout: settings.connect_timeout,
                checks: settings.checks,
                begin_statement: settings.begin_statement,
                metrics,
                diagnosis,
                terms,
                dropped_begins,
                after_connect: settings.after_connect,
                runtime: Handle::current(),
                tasks,
                _stop_on_drop: stop.clone().drop_guard(),
                stop,
            }
        });
        Self { inner }
    }

    pub(crate) fn inner(&self) -> &Arc<Inner<DB>> {
        &self.inner
    }

    /// Checks a connection out. Callers that have to wait are served in their order.
    ///
    /// A connection that was idle for less than
    /// [`alive_bypass_window`](PoolBuilder::alive_bypass_window) comes untested.
    ///
    /// # Errors
    ///
    /// [`AcquireError::Timeout`] after [`acquire_timeout`](PoolBuilder::acquire_timeout),
    /// [`AcquireError::Closed`], or [`AcquireError::Connect`] if a new connection was needed and
    /// there is no hope of getting one.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a dropped acquire gives everything back that it held, and loses its place among
    /// the waiting. A connection that was being opened or tested for it goes to the next caller, or
    /// becomes idle.
    #[track_caller]
    pub fn acquire(
        &self,
    ) -> impl Future<Output = Result<PoolConnection<DB>, AcquireError>> + Send + use<DB> {
        Arc::clone(&self.inner).acquire(Location::caller())
    }

    /// Checks a connection out if one is idle, without waiting and without testing it.
    #[track_caller]
    pub fn try_acquire(&self) -> Option<PoolConnection<DB>> {
        if !self.inner.desk.is_empty() {
            // They were here before.
            return None;
        }
        let slot = self.inner.slots.try_take().ok()?;
        let live = match self.inner.look() {
            Look::Fresh(live) | Look::Stale(live) => live,
            Look::Opening(attempt) => {
                self.inner.adopt(attempt);
                return None;
            }
            Look::Nothing | Look::Failed(_) => return None,
        };
        let inner = Arc::clone(&self.inner);
        Some(PoolConnection::new(live, slot, inner, Location::caller()))
    }

    /// Checks a connection out and begins a transaction on it, with the pool's
    /// [`begin_statement`](PoolBuilder::begin_statement), by default `BEGIN`.
    ///
    /// # Errors
    ///
    /// The error of the statement, or an [`AcquireError`] as it converts.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a transaction that may have begun is rolled back while its connection goes
    /// back.
    #[track_caller]
    pub fn begin(
        &self,
    ) -> impl Future<Output = Result<Transaction<DB>, sqlx::Error>> + Send + use<DB> {
        let statement = self.inner.begin_statement.map(SqlSafeStr::into_sql_str);
        let acquire = self.acquire();
        async move { Transaction::begin(acquire.await?, statement).await }
    }

    /// Like [`begin`](Self::begin), with a statement of the caller's.
    ///
    /// # Errors
    ///
    /// As [`begin`](Self::begin), and [`sqlx::Error::BeginFailed`] if the statement did not begin
    /// a transaction.
    ///
    /// # Cancel safety
    ///
    /// As [`begin`](Self::begin).
    #[track_caller]
    pub fn begin_with<S: SqlSafeStr>(
        &self,
        statement: S,
    ) -> impl Future<Output = Result<Transaction<DB>, sqlx::Error>> + Send + use<DB, S> {
        let statement = statement.into_sql_str();
        let acquire = self.acquire();
        async move { Transaction::begin(acquire.await?, Some(statement)).await }
    }

    /// What the pool looks like right now, connections used through the bare sqlx pool included.
    pub fn status(&self) -> Status {
        self.inner.status()
    }

    /// Whether the pool was closed.
    pub fn is_closed(&self) -> bool {
        self.inner.sqlx.is_closed()
    }

    /// The pool's name, which is the metrics' label `pool`.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Closes the pool: waiting and later acquires get [`AcquireError::Closed`], idle connections
    /// are closed, and those in use once they are given back, for which this waits, without a
    /// bound. May be called any number of times.
    ///
    /// # Cancel safety
    ///
    /// The pool is closed from the first poll on. If the future is dropped, connections that come
    /// back are closed still, but nobody has waited for them.
    pub async fn close(&self) {
        self.inner.turn_away();
        // First, so that no task holds a connection for which the next line waits.
        self.inner.stop.cancel();
        self.inner.sqlx.close().await;
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
        self.inner.publish();
    }

    /// Like [`close`](Self::close), but waits no longer than `within` for connections in use.
    ///
    /// # Errors
    ///
    /// [`StillInUse`] names who holds connections still. The pool is closed nevertheless, and what
    /// comes back later is closed.
    ///
    /// # Cancel safety
    ///
    /// As [`close`](Self::close).
    pub async fn close_with_timeout(&self, within: Duration) -> Result<(), StillInUse> {
        match timeout(within, self.close()).await {
            Ok(()) => Ok(()),
            Err(_) => Err(StillInUse {
                pool: Arc::clone(&self.inner.name),
                within,
                in_use: self.status().in_use,
                holders: self.inner.holders.longest(usize::MAX),
            }),
        }
    }
}

impl<DB: Database> Inner<DB> {
    /// Turns waiting and later callers away, and closes the connections that are kept warm.
    pub(crate) fn turn_away(self: &Arc<Self>) {
        self.slots.close();
        self.desk.close();
        for live in self.warm.close() {
            self.put_back(live);
        }
    }

    /// sqlx's count of idle connections can be ahead for an instant, and wrap around below zero
    /// (sqlx #3645).
    pub(crate) fn idle_in_sqlx(&self) -> u32 {
        self.status_with(0).idle
    }

    pub(crate) fn status(&self) -> Status {
        self.status_with(self.warm.len())
    }

    fn status_with(&self, warm: u32) -> Status {
        let idle = self.sqlx.num_idle();
        // A count below zero is none.
        let idle = u32::try_from(idle).unwrap_or(0);
        Status::new(
            self.max,
            self.base,
            self.sqlx.size(),
            idle.saturating_add(warm) as usize,
            self.metrics.waiting(),
        )
    }

    pub(crate) fn publish(&self) {
        self.metrics.publish(|| self.status());
    }
}

impl<DB: Database> Drop for Inner<DB> {
    fn drop(&mut self) {
        for live in self.warm.close() {
            // Without a goodbye, like sqlx's own idle ones.
            drop(live.conn.detach());
        }
        // The idle connections go with the pool.
        self.metrics.publish(Status::default);
    }
}

impl<DB: Database> Clone for Pool<DB> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<DB: Database> Deref for Pool<DB> {
    type Target = sqlx::Pool<DB>;

    /// The bare sqlx pool, for code that asks for it. From the first time on, connections are not
    /// kept warm any more but go back to it, since callers may wait there: each return costs a ping
    /// then. [`status`](Pool::status), [`is_closed`](Pool::is_closed) and the like do without.
    fn deref(&self) -> &Self::Target {
        if self.inner.warm.share() {
            self.inner.look_after.notify_one();
        }
        &self.inner.sqlx
    }
}

impl<DB: Database> fmt::Debug for Pool<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("name", &self.inner.name)
            .field("status", &self.status())
            .field("closed", &self.inner.sqlx.is_closed())
            .finish_non_exhaustive()
    }
}
