//! What the pool does inside sqlx's own hooks, so that it holds for the bare sqlx pool too.

use std::cell::Cell;
use std::future::{self, Future};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_core::future::BoxFuture;
use sqlx::pool::PoolOptions;
use sqlx::{Connection, Database};
use sqlx_core::transaction::TransactionManager;
use tokio::time::{Instant, timeout};

use crate::diagnosis::Diagnosis;
use crate::lifetimes::Lifetimes;
use crate::metrics::Metrics;
use crate::pace::Pace;
use crate::supply::STUCK_AFTER;
use crate::warm::Live;

/// The caller's `after_connect`.
pub(crate) type AfterConnect<DB> = Arc<
    dyn for<'c> Fn(&'c mut <DB as Database>::Connection) -> BoxFuture<'c, Result<(), sqlx::Error>>
        + Send
        + Sync,
>;

/// An acquire of sqlx's pool that tells what it found.
pub(crate) type Attempt<DB> = BoxFuture<'static, Result<Found<DB>, sqlx::Error>>;

pub(crate) struct Found<DB: Database> {
    pub(crate) live: Live<DB>,
    pub(crate) condition: Condition,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    /// Opened by this attempt.
    New,
    /// Was idle for less than the window.
    Fresh,
    /// Was idle for longer, and was not tested.
    Stale,
    /// Is too old to be used again.
    Over,
}

tokio::task_local! {
    static ATTEMPT: Noted;
    /// Set while our own, already bounded return runs.
    static RETURNING: ();
}

/// What the hooks note about an attempt.
struct Noted {
    /// Since when it has been opening a connection, if it does.
    since: Instant,
    condition: Cell<Condition>,
    age: Cell<Duration>,
}

/// Takes the connection that was idle for longest, untested, or opens one. What is to be made of
/// an idle one is left to the caller: sqlx would open another in its place at once.
pub(crate) fn attempt<DB: Database>(pool: &sqlx::Pool<DB>) -> Attempt<DB> {
    let acquire = pool.acquire();
    let noted = Noted {
        since: Instant::now(),
        condition: Cell::new(Condition::Fresh),
        age: Cell::new(Duration::ZERO),
    };
    Box::pin(ATTEMPT.scope(noted, async move {
        let conn = acquire.await?;
        let (condition, age) = ATTEMPT.with(|noted| (noted.condition.get(), noted.age.get()));
        let now = std::time::Instant::now();
        let born = now.checked_sub(age).unwrap_or(now);
        Ok(Found {
            live: Live { conn, born },
            condition,
        })
    }))
}

/// Runs sqlx's return of a connection without the test that bounds the returns of others.
pub(crate) fn returning<F: Future>(give_back: F) -> impl Future<Output = F::Output> {
    RETURNING.scope((), give_back)
}

/// Whether a begin on a guard of sqlx was dropped before its end, ever.
///
/// sqlx-postgres 0.9.0 leaves the transaction open then, and gives the connection to its next user
/// like that (<https://github.com/launchbadge/sqlx/issues/4393>). Our own guards know of themselves
/// that it happened; of sqlx's the hook cannot tell which one it was, so from then on it ends a
/// transaction on all of them, in the round trip of the ping which it takes the place of.
#[derive(Debug, Clone, Default)]
pub(crate) struct DroppedBegins(Arc<AtomicBool>);

impl DroppedBegins {
    pub(crate) fn guard(&self) -> DroppedBegin<'_> {
        DroppedBegin(Some(&self.0))
    }

    fn any(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

pub(crate) struct DroppedBegin<'a>(Option<&'a AtomicBool>);

impl DroppedBegin<'_> {
    pub(crate) fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for DroppedBegin<'_> {
    fn drop(&mut self) {
        if let Some(dropped) = self.0 {
            dropped.store(true, Ordering::Release);
        }
    }
}

/// Ends the transaction that a dropped begin may have left open without the driver's knowledge: a
/// second `BEGIN` does no harm there, makes it known, and so it can be rolled back. Costs one round
/// trip; the rollback goes out with the ping of the return.
pub(crate) async fn end_unknown_transaction<DB: Database>(
    conn: &mut DB::Connection,
    within: Option<Duration>,
) -> Result<(), sqlx::Error> {
    bounded(within, DB::TransactionManager::begin(conn, None)).await?;
    DB::TransactionManager::start_rollback(conn);
    Ok(())
}

/// The knobs of the hooks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Checks {
    /// A connection that was idle for less than this is handed out untested.
    pub(crate) alive_bypass_window: Duration,
    /// The longest a test may take.
    pub(crate) ping_timeout: Duration,
    /// `None` where the database lives in this process, so that no test can find it gone.
    pub(crate) return_timeout: Option<Duration>,
}

impl Checks {
    pub(crate) fn condition(
        &self,
        lifetimes: &Lifetimes,
        age: Duration,
        idle_for: Duration,
    ) -> Condition {
        if lifetimes.are_over(age) {
            Condition::Over
        } else if self.return_timeout.is_none() || idle_for < self.alive_bypass_window {
            Condition::Fresh
        } else {
            Condition::Stale
        }
    }
}

/// What the hooks work with.
pub(crate) struct Hooks<DB: Database> {
    pub(crate) checks: Checks,
    pub(crate) after_connect: Option<AfterConnect<DB>>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) diagnosis: Arc<Diagnosis>,
    pub(crate) dropped_begins: DroppedBegins,
    pub(crate) lifetimes: Arc<Lifetimes>,
    pub(crate) handshakes: Arc<Pace>,
}

impl<DB: Database> Hooks<DB> {
    pub(crate) fn install(self, options: PoolOptions<DB>) -> PoolOptions<DB> {
        let Self {
            checks,
            after_connect,
            metrics,
            diagnosis,
            dropped_begins,
            lifetimes,
            handshakes,
        } = self;
        let options = options
            .test_before_acquire(false)
            .after_connect(move |conn, _| {
                let (hook, metrics) = (after_connect.clone(), Arc::clone(&metrics));
                let (diagnosis, handshakes) = (Arc::clone(&diagnosis), Arc::clone(&handshakes));
                Box::pin(async move {
                    if let Some(hook) = hook
                        && let Err(error) = hook(conn).await
                    {
                        // sqlx logs what it gets and tries again; the caller's own error is kept for
                        // the acquire that times out over it.
                        let shown = error.to_string();
                        diagnosis.failed(error);
                        return Err(sqlx::Error::Configuration(shown.into()));
                    }
                    diagnosis.succeeded();
                    // Not set where it is the bare sqlx pool that opens one.
                    let _ = ATTEMPT.try_with(|noted| {
                        noted.condition.set(Condition::New);
                        let took = noted.since.elapsed();
                        metrics.created(took);
                        // What took longer waited for a server that was away.
                        if took < STUCK_AFTER {
                            handshakes.note(took);
                        }
                    });
                    Ok(())
                })
            });
        let return_timeout = checks.return_timeout;
        let ages = Arc::clone(&lifetimes);
        let options = options.after_release(move |conn, meta| {
            // `Ok(false)` closes the connection with a goodbye.
            let keep = !ages.are_over(meta.age);
            // sqlx tests every returned connection without a bound, so that a peer that is gone
            // silently would keep the permit for good (sqlx #4349). Our own returns have a bound
            // around all of it; those of sqlx's guards get a bounded test first.
            if RETURNING.try_with(|()| ()).is_ok() {
                return Box::pin(future::ready(Ok(keep)));
            }
            if dropped_begins.any() {
                return Box::pin(async move {
                    end_unknown_transaction::<DB>(conn, return_timeout).await?;
                    Ok(keep)
                });
            }
            match return_timeout {
                Some(within) => Box::pin(async move {
                    ping(conn, within).await?;
                    Ok(keep)
                }),
                None => Box::pin(future::ready(Ok(keep))),
            }
        });
        options.before_acquire(move |conn, meta| {
            let condition = checks.condition(&lifetimes, meta.age, meta.idle_for);
            if ATTEMPT
                .try_with(|noted| noted.condition.set(condition))
                .is_ok()
            {
                return Box::pin(future::ready(Ok(true)));
            }
            match condition {
                Condition::Over => Box::pin(future::ready(Ok(false))),
                Condition::Stale => Box::pin(async move {
                    ping(conn, checks.ping_timeout).await?;
                    Ok(true)
                }),
                Condition::New | Condition::Fresh => Box::pin(future::ready(Ok(true))),
            }
        })
    }
}

/// `Err`, not `Ok(false)`, for a connection that fails: sqlx would say goodbye to its peer, without
/// a bound, before dropping it.
pub(crate) async fn ping<C: Connection>(conn: &mut C, within: Duration) -> Result<(), sqlx::Error> {
    bounded(Some(within), conn.ping()).await
}

pub(crate) async fn bounded<T>(
    within: Option<Duration>,
    answer: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    let Some(within) = within else {
        return answer.await;
    };
    timeout(within, answer).await.unwrap_or_else(|_| {
        Err(sqlx::Error::Io(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("no answer within {within:?}"),
        )))
    })
}
