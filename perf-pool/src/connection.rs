use std::fmt;
use std::ops::{Deref, DerefMut};
use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_core::future::BoxFuture;
use sqlx::{Acquire, Database, SqlSafeStr, SqlStr};
use sqlx_core::transaction::TransactionManager;
use tokio::runtime::{EnterGuard, Handle};
use tokio::time::{Instant, timeout};

use crate::holders::Place;
use crate::pool::Inner;
use crate::slots::Slot;
use crate::warm::Live;
use crate::{Status, hooks};

/// A connection checked out of a [`Pool`](crate::Pool).
///
/// Derefs to the driver's connection, so `query.execute(&mut *conn)` works as with sqlx's own.
/// Dropping it gives it back, in a task that takes no longer than
/// [`return_timeout`](crate::PoolBuilder::return_timeout): what was left open (a transaction, a
/// query whose future was dropped) is ended, the peer is asked for a sign of life, and a
/// connection that does not answer in time is closed. The permit comes back either way. It may
/// be dropped on any thread.
pub struct PoolConnection<DB: Database> {
    /// `None` only while the guard is taken apart.
    live: Option<Live<DB>>,
    slot: Option<Slot>,
    /// Whether the last thing that happened was a success, as far as it can be seen here. What runs
    /// on the driver's own connection cannot.
    settled: bool,
    since: Instant,
    /// Connections in use when it was taken, this one included.
    in_use: u32,
    taken_at: &'static Location<'static>,
    /// Among the holders, until the connection is given up.
    place: Option<Place>,
    /// Set while a transaction begins, so that a begin which is dropped or fails leaves its trace.
    beginning: bool,
    inner: Arc<Inner<DB>>,
}

impl<DB: Database> PoolConnection<DB> {
    pub(crate) fn new(
        live: Live<DB>,
        slot: Slot,
        inner: Arc<Inner<DB>>,
        taken_at: &'static Location<'static>,
    ) -> Self {
        inner.publish();
        let Status { idle, in_use, .. } = inner.status();
        let idle = idle.saturating_add(inner.swept.load(Ordering::Acquire));
        inner.least_idle.fetch_min(idle, Ordering::AcqRel);
        let since = Instant::now();
        Self {
            live: Some(live),
            slot: Some(slot),
            settled: true,
            since,
            in_use,
            taken_at,
            place: Some(inner.holders.add(taken_at, since)),
            beginning: false,
            inner,
        }
    }

    /// Begins a transaction with the pool's
    /// [`begin_statement`](crate::PoolBuilder::begin_statement), by default `BEGIN`. Dropping the
    /// transaction rolls it back.
    ///
    /// # Errors
    ///
    /// The error of the statement.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, a transaction that may have begun is rolled back when the
    /// connection is given back. Until then, what runs on it may run in that transaction.
    ///
    /// Only this method and [`sqlx::Acquire::begin`] see to that. `begin_with` and `transaction`
    /// of [`sqlx::Connection`], reached by dereferencing, are sqlx-postgres 0.9.0 alone, which
    /// leaves the transaction open (sqlx #4393).
    pub async fn begin(&mut self) -> Result<sqlx::Transaction<'_, DB>, sqlx::Error> {
        let statement = self.inner.begin_statement.map(SqlSafeStr::into_sql_str);
        let Self {
            live,
            settled,
            beginning,
            ..
        } = self;
        (*settled, *beginning) = (false, true);
        let begun = sqlx::Transaction::begin(&mut *held(live).conn, statement).await;
        // One that failed may have begun nevertheless: `BEGIN; SELECT 1/0`.
        *beginning = begun.is_err();
        begun
    }

    /// Begins a transaction for a guard that is not sqlx's.
    pub(crate) async fn begin_bare(
        &mut self,
        statement: Option<SqlStr>,
    ) -> Result<(), sqlx::Error> {
        self.beginning = true;
        let begun = DB::TransactionManager::begin(self, statement).await;
        self.beginning = begun.is_err();
        begun
    }

    /// Closes the connection instead of giving it back; the pool may open another one.
    ///
    /// # Errors
    ///
    /// The driver's error from saying goodbye, or that it took longer than
    /// [`return_timeout`](crate::PoolBuilder::return_timeout). The connection is gone nevertheless.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the connection is closed without a goodbye.
    pub async fn close(mut self) -> Result<(), sqlx::Error> {
        let live = self.take();
        self.given_up();
        let within = self.inner.checks.return_timeout;
        let closed = hooks::bounded(within, live.conn.close()).await;
        self.make_room();
        closed
    }

    /// Takes the connection out of the pool for good; the pool may open another one.
    pub fn detach(mut self) -> DB::Connection {
        // sqlx, too, needs a runtime around the drop of its guard.
        let runtime = self.inner.runtime.clone();
        let _context = context(&runtime);
        let conn = self.take().conn.detach();
        self.given_up();
        self.make_room();
        conn
    }

    /// The connection is gone: another one may be opened in its place.
    fn make_room(&mut self) {
        drop(self.slot.take());
        self.inner.publish();
        self.inner.supply();
    }

    /// Hands the connection over to sqlx's own guard, which gives it back by itself.
    pub(crate) fn into_sqlx(mut self) -> sqlx::pool::PoolConnection<DB> {
        self.take().conn
    }

    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    pub(crate) fn terms(&self) -> &crate::driver::Terms<DB> {
        &self.inner.terms
    }

    /// The driver's connection, for a statement whose end is noted by [`settled`](Self::settled).
    pub(crate) fn for_statement(&mut self) -> &mut DB::Connection {
        self.settled = false;
        &mut held(&mut self.live).conn
    }

    /// Notes that what was done last succeeded, and that its answer was read to the end.
    pub(crate) fn settled(&mut self) {
        self.settled = true;
    }

    /// Notes that the caller is done with it.
    fn given_up(&mut self) {
        let held_for = self.since.elapsed();
        self.inner.metrics.used(held_for);
        self.inner.uses.note(held_for);
        self.inner.load.used(held_for, self.in_use, self.inner.max);
        if self.leave() {
            tracing::info!(
                pool = &*self.inner.name,
                taken_at = %self.taken_at,
                ?held_for,
                "a connection that was reported as a possible leak came back"
            );
        }
    }

    /// Leaves the holders. Whether it was reported as a leak.
    fn leave(&mut self) -> bool {
        let place = self.place.take();
        place.is_some_and(|place| self.inner.holders.remove(place))
    }

    #[expect(
        clippy::expect_used,
        reason = "only the consuming methods and drop take it"
    )]
    fn take(&mut self) -> Live<DB> {
        self.live.take().expect(HELD)
    }
}

const HELD: &str = "a guard holds its connection until it is consumed";

#[expect(
    clippy::expect_used,
    reason = "only the consuming methods and drop take it"
)]
fn held<DB: Database>(live: &mut Option<Live<DB>>) -> &mut Live<DB> {
    live.as_mut().expect(HELD)
}

/// Enters `runtime` outside any.
pub(crate) fn context(runtime: &Handle) -> Option<EnterGuard<'_>> {
    Handle::try_current().is_err().then(|| runtime.enter())
}

impl<DB: Database> Deref for PoolConnection<DB> {
    type Target = DB::Connection;

    #[expect(
        clippy::expect_used,
        reason = "only the consuming methods and drop take it"
    )]
    fn deref(&self) -> &Self::Target {
        &self.live.as_ref().expect(HELD).conn
    }
}

impl<DB: Database> DerefMut for PoolConnection<DB> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        self.for_statement()
    }
}

impl<DB: Database> AsRef<DB::Connection> for PoolConnection<DB> {
    fn as_ref(&self) -> &DB::Connection {
        self
    }
}

impl<DB: Database> AsMut<DB::Connection> for PoolConnection<DB> {
    fn as_mut(&mut self) -> &mut DB::Connection {
        self
    }
}

impl<DB: Database> fmt::Debug for PoolConnection<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolConnection")
            .field("pool", &self.inner.name)
            .field("used_for", &self.since.elapsed())
            .finish_non_exhaustive()
    }
}

impl<'c, DB: Database> Acquire<'c> for &'c mut PoolConnection<DB> {
    type Database = DB;
    type Connection = &'c mut DB::Connection;

    fn acquire(self) -> BoxFuture<'c, Result<Self::Connection, sqlx::Error>> {
        Box::pin(std::future::ready(Ok(&mut **self)))
    }

    fn begin(self) -> BoxFuture<'c, Result<sqlx::Transaction<'c, DB>, sqlx::Error>> {
        Box::pin(PoolConnection::begin(self))
    }
}

impl<DB: Database> Drop for PoolConnection<DB> {
    fn drop(&mut self) {
        let Some(live) = self.live.take() else {
            self.leave();
            return;
        };
        self.given_up();
        let (inner, slot) = (Arc::clone(&self.inner), self.slot.take());
        let mut live = match self.settled && !self.beginning {
            true => match inner.keep(live) {
                Ok(()) => {
                    // After the connection is back, so that the next caller finds it.
                    drop(slot);
                    inner.publish();
                    return;
                }
                Err(live) => live,
            },
            false => live,
        };
        let _context = context(&self.inner.runtime);
        if self.beginning {
            tokio::spawn(settle(live.conn, slot, inner));
        } else {
            tokio::spawn(give_back(returning(&mut live.conn), slot, inner));
        }
    }
}

/// Boxed, because it is a large future that would be moved several times.
pub(crate) fn returning<DB: Database>(
    conn: &mut sqlx::pool::PoolConnection<DB>,
) -> BoxFuture<'static, ()> {
    Box::pin(hooks::returning(conn.return_to_pool()))
}

/// Ends what was left open, tests the connection and puts it back, within `return_timeout`; a
/// connection that takes longer is dropped, and its permit released, with the future.
pub(crate) async fn give_back<DB: Database>(
    returning: BoxFuture<'static, ()>,
    slot: Option<Slot>,
    inner: Arc<Inner<DB>>,
) {
    match inner.checks.return_timeout {
        Some(within) => {
            if timeout(within, returning).await.is_err() {
                tracing::warn!(
                    pool = &*inner.name,
                    ?within,
                    "gave a connection up that was not ready for its next use, or not replaced, \
                     in time"
                );
            }
        }
        None => returning.await,
    }
    // After the connection is back, so that the next caller finds it.
    drop(slot);
    inner.publish();
    inner.supply();
}

/// Gives a connection back on which a begin failed or was dropped half-way.
async fn settle<DB: Database>(
    mut conn: sqlx::pool::PoolConnection<DB>,
    slot: Option<Slot>,
    inner: Arc<Inner<DB>>,
) {
    match hooks::end_unknown_transaction::<DB>(&mut conn, inner.checks.return_timeout).await {
        Ok(()) => {
            let returning = returning(&mut conn);
            drop(conn);
            give_back(returning, slot, inner).await;
        }
        Err(error) => {
            tracing::warn!(pool = &*inner.name, %error, "closed a connection on which a begin failed or was dropped");
            drop(conn.detach());
            drop(slot);
            inner.publish();
            inner.supply();
        }
    }
}
