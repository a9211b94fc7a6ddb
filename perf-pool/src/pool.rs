use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use sqlx::{Connection, Database, SqlSafeStr};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::builder::Settings;
use crate::diagnosis::Diagnosis;
use crate::hooks::{AfterConnect, DroppedBegins};
use crate::metrics::Metrics;
use crate::{AcquireError, PoolBuilder, PoolConnection, Status, Transaction, hooks, observer};

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
    pub(crate) return_timeout: Option<Duration>,
    pub(crate) begin_statement: Option<&'static str>,
    /// As many as sqlx has permits, in front of them: so that waiting for another caller and
    /// opening a connection are told apart.
    pub(crate) slots: Arc<Semaphore>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) diagnosis: Arc<Diagnosis>,
    pub(crate) dropped_begins: DroppedBegins,
    pub(crate) after_connect: Option<AfterConnect<DB>>,
    /// Where connections go back when they are dropped outside any runtime.
    pub(crate) runtime: Handle,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
    _stop_on_drop: DropGuard,
}

impl<DB: Database> Pool<DB> {
    /// A pool to configure; [`PoolBuilder::connect`] opens it.
    pub fn builder() -> PoolBuilder<DB> {
        PoolBuilder::new()
    }

    /// Must be called within a runtime.
    pub(crate) fn open(
        settings: Settings<DB>,
        options: <DB::Connection as Connection>::Options,
        metrics: Arc<Metrics>,
    ) -> Self {
        let diagnosis = Arc::new(Diagnosis::default());
        let dropped_begins = DroppedBegins::default();
        let sqlx = hooks::install(
            settings.sqlx,
            settings.checks,
            settings.after_connect.clone(),
            Arc::clone(&metrics),
            Arc::clone(&diagnosis),
            dropped_begins.clone(),
        )
        .connect_lazy_with(options);
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let inner = Arc::new_cyclic(|inner| {
            let observe = observer::observe(inner.clone(), sqlx.close_event());
            let stopped = stop.clone();
            tasks.spawn(async move {
                stopped.run_until_cancelled_owned(observe).await;
            });
            Inner {
                slots: Arc::new(Semaphore::new(
                    usize::try_from(settings.max).unwrap_or(Semaphore::MAX_PERMITS),
                )),
                sqlx,
                name: settings.name,
                base: settings.base,
                max: settings.max,
                acquire_timeout: settings.acquire_timeout,
                connect_timeout: settings.connect_timeout,
                return_timeout: settings.checks.return_timeout,
                begin_statement: settings.begin_statement,
                metrics,
                diagnosis,
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
    /// Cancel safe: a dropped acquire gives everything back that it held. It loses its place
    /// among the waiting, and a connection that was being opened or tested for it.
    pub fn acquire(
        &self,
    ) -> impl Future<Output = Result<PoolConnection<DB>, AcquireError>> + Send + use<DB> {
        Arc::clone(&self.inner).acquire()
    }

    /// Checks a connection out if one is idle, without waiting and without testing it.
    pub fn try_acquire(&self) -> Option<PoolConnection<DB>> {
        let slot = Arc::clone(&self.inner.slots).try_acquire_owned().ok()?;
        let conn = self.inner.sqlx.try_acquire()?;
        Some(PoolConnection::new(
            conn,
            Some(slot),
            Arc::clone(&self.inner),
        ))
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
    pub async fn begin(&self) -> Result<Transaction<DB>, sqlx::Error> {
        let statement = self.inner.begin_statement.map(SqlSafeStr::into_sql_str);
        Transaction::begin(self.acquire().await?, statement).await
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
    pub async fn begin_with(
        &self,
        statement: impl SqlSafeStr,
    ) -> Result<Transaction<DB>, sqlx::Error> {
        let statement = statement.into_sql_str();
        Transaction::begin(self.acquire().await?, Some(statement)).await
    }

    /// What the pool looks like right now, connections used through the bare sqlx pool included.
    pub fn status(&self) -> Status {
        self.inner.status()
    }

    /// The pool's name, which is the metrics' label `pool`.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Closes the pool: waiting and later acquires, and within a second those that are opening a
    /// connection, get [`AcquireError::Closed`], idle connections
    /// are closed, and those in use once they are given back, for which this waits, without a
    /// bound. May be called any number of times.
    ///
    /// # Cancel safety
    ///
    /// The pool is closed from the first poll on. If the future is dropped, connections that come
    /// back are closed still, but nobody has waited for them.
    pub async fn close(&self) {
        self.inner.slots.close();
        self.inner.sqlx.close().await;
        self.inner.stop.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
        self.inner.publish();
    }
}

impl<DB: Database> Inner<DB> {
    pub(crate) fn status(&self) -> Status {
        Status::new(
            self.max,
            self.base,
            self.sqlx.size(),
            self.sqlx.num_idle(),
            self.metrics.waiting(),
        )
    }

    pub(crate) fn publish(&self) {
        self.metrics.publish(|| self.status());
    }
}

impl<DB: Database> Drop for Inner<DB> {
    fn drop(&mut self) {
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

    fn deref(&self) -> &Self::Target {
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
