use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sqlx::{ConnectOptions, Connection, Database};
use tokio::time::timeout;

use crate::hooks::AfterConnect;

/// Why connections cannot be opened, for the acquire that times out over it.
///
/// sqlx retries refused and turned-away connections until the acquire's time is up and keeps the
/// reason to itself, so a stuck acquire has one attempt made beside it.
#[derive(Debug, Default)]
pub(crate) struct Diagnosis {
    last: Mutex<Option<Arc<sqlx::Error>>>,
    failing: AtomicBool,
    probing: AtomicBool,
    /// When a connection came about last.
    succeeded: Mutex<Option<Instant>>,
}

impl Diagnosis {
    pub(crate) fn failed(&self, error: sqlx::Error) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(error));
        self.failing.store(true, Ordering::Release);
    }

    /// Notes that an attempt was given up, unless its reason is known, or the server took a
    /// connection meanwhile: then it waited for one that users of the bare sqlx pool hold.
    pub(crate) fn gave_up(&self, began: Instant, within: Duration) {
        if !self.failing.load(Ordering::Acquire) && !self.succeeded_since(began) {
            self.failed(none_within(within));
        }
    }

    /// Whether the server took a connection at or after this time.
    pub(crate) fn succeeded_since(&self, then: Instant) -> bool {
        let succeeded = self
            .succeeded
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        succeeded.is_some_and(|at| at >= then)
    }

    pub(crate) fn succeeded(&self) {
        *self
            .succeeded
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        if self.failing.swap(false, Ordering::AcqRel) {
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    pub(crate) fn last_error(&self) -> Option<Arc<sqlx::Error>> {
        if !self.failing.load(Ordering::Acquire) {
            return None;
        }
        self.last
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Tries to connect once, the caller's hook included, unless another caller's attempt is on
    /// its way.
    pub(crate) async fn probe<DB: Database>(
        self: Arc<Self>,
        options: Arc<<DB::Connection as Connection>::Options>,
        hook: Option<AfterConnect<DB>>,
        within: Duration,
    ) {
        if self.probing.swap(true, Ordering::AcqRel) {
            return;
        }
        let _done = Probing(&self.probing);
        let ready = async {
            let mut conn: DB::Connection = options.connect().await?;
            if let Some(hook) = hook {
                hook(&mut conn).await?;
            }
            Ok(conn)
        };
        match timeout(within, ready).await {
            Ok(Ok(conn)) => {
                self.succeeded();
                let _ = timeout(within, conn.close()).await;
            }
            Ok(Err(error)) => self.failed(error),
            Err(_) => self.failed(none_within(within)),
        }
    }
}

fn none_within(time: Duration) -> sqlx::Error {
    sqlx::Error::Io(io::Error::new(
        io::ErrorKind::TimedOut,
        format!("no connection within {time:?}"),
    ))
}

struct Probing<'a>(&'a AtomicBool);

impl Drop for Probing<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_success_clears_the_last_error() {
        let diagnosis = Diagnosis::default();
        assert!(diagnosis.last_error().is_none());
        diagnosis.failed(sqlx::Error::WorkerCrashed);
        assert!(diagnosis.last_error().is_some());
        diagnosis.succeeded();
        assert!(diagnosis.last_error().is_none());
    }

    #[cfg(feature = "sqlite")]
    #[tokio::test]
    async fn an_attempt_fails_with_the_hook_and_succeeds_with_it() {
        use sqlx::Sqlite;
        use sqlx::sqlite::SqliteConnectOptions;

        let diagnosis = Arc::new(Diagnosis::default());
        let within = Duration::from_secs(10);
        let attempt = |hook| {
            let options = Arc::new(SqliteConnectOptions::new().in_memory(true));
            Arc::clone(&diagnosis).probe::<Sqlite>(options, hook, within)
        };
        let failing: AfterConnect<Sqlite> =
            Arc::new(|_| Box::pin(async { Err(sqlx::Error::RowNotFound) }));
        attempt(Some(failing)).await;
        let reason = diagnosis.last_error().unwrap();
        assert!(matches!(*reason, sqlx::Error::RowNotFound));
        attempt(None).await;
        assert!(diagnosis.last_error().is_none());
    }
}
