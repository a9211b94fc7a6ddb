//! What the pool does inside sqlx's own hooks, so that it holds for the bare sqlx pool too.

use std::cell::Cell;
use std::future::{self, Future};
use std::sync::Arc;
use std::time::Duration;

use futures_core::future::BoxFuture;
use sqlx::pool::PoolOptions;
use sqlx::{Connection, Database};
use tokio::time::{Instant, timeout};

use crate::diagnosis::Diagnosis;
use crate::metrics::Metrics;

/// The caller's `after_connect`.
pub(crate) type AfterConnect<DB> = Arc<
    dyn for<'c> Fn(&'c mut <DB as Database>::Connection) -> BoxFuture<'c, Result<(), sqlx::Error>>
        + Send
        + Sync,
>;

tokio::task_local! {
    /// Since when the current acquire has been opening a connection.
    static OPENING_SINCE: Cell<Instant>;
    /// Set while our own, already bounded return runs.
    static RETURNING: ();
}

/// Runs sqlx's acquire so that a connection opened within it is timed.
pub(crate) async fn opening<F: Future>(acquire: F) -> F::Output {
    OPENING_SINCE
        .scope(Cell::new(Instant::now()), acquire)
        .await
}

/// Runs sqlx's return of a connection without the test that bounds the returns of others.
pub(crate) async fn returning<F: Future>(give_back: F) -> F::Output {
    RETURNING.scope((), give_back).await
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

pub(crate) fn install<DB: Database>(
    options: PoolOptions<DB>,
    checks: Checks,
    after_connect: Option<AfterConnect<DB>>,
    metrics: Arc<Metrics>,
    diagnosis: Arc<Diagnosis>,
) -> PoolOptions<DB> {
    let options = options
        .test_before_acquire(false)
        .after_connect(move |conn, _| {
            let (hook, metrics) = (after_connect.clone(), Arc::clone(&metrics));
            let diagnosis = Arc::clone(&diagnosis);
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
                // Not set where sqlx refills the base by itself: it does not tell when it began.
                let _ = OPENING_SINCE.try_with(|since| metrics.created(since.get().elapsed()));
                Ok(())
            })
        });
    let Some(return_timeout) = checks.return_timeout else {
        return options;
    };
    options
        .before_acquire(move |conn, meta| {
            if meta.idle_for < checks.alive_bypass_window {
                return Box::pin(future::ready(Ok(true)));
            }
            Box::pin(async move {
                let alive = ping(conn, checks.ping_timeout).await;
                if alive.is_err() {
                    // sqlx goes on to open another one.
                    let _ = OPENING_SINCE.try_with(|since| since.set(Instant::now()));
                }
                alive
            })
        })
        .after_release(move |conn, _| {
            // sqlx tests every returned connection without a bound, so that a peer that is gone
            // silently would keep the permit for good (sqlx #4349). Our own returns have a bound
            // around all of it; those of sqlx's guards get a bounded test first.
            if RETURNING.try_with(|()| ()).is_ok() {
                return Box::pin(future::ready(Ok(true)));
            }
            Box::pin(ping(conn, return_timeout))
        })
}

/// `Err`, not `Ok(false)`, for a connection that fails: sqlx would say goodbye to its peer, without
/// a bound, before dropping it.
async fn ping<C: Connection>(conn: &mut C, within: Duration) -> Result<bool, sqlx::Error> {
    match timeout(within, conn.ping()).await {
        Ok(Ok(())) => Ok(true),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(sqlx::Error::Io(std::io::Error::new(
            std::io::ErrorKind::TimedOut,
            format!("no answer to a ping within {within:?}"),
        ))),
    }
}
