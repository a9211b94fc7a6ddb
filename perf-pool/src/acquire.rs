use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use sqlx::Database;
use tokio::sync::{OwnedSemaphorePermit, TryAcquireError};
use tokio::time::{Instant, timeout_at};

use crate::connection::PoolConnection;
use crate::error::{AcquireError, Phase};
use crate::hooks;
use crate::pool::Inner;

/// How long an acquire that has its slot may take before the reason is looked for.
const STUCK_AFTER: Duration = Duration::from_secs(1);

enum Failure {
    Timeout(Phase),
    Closed,
    Connect(sqlx::Error),
}

impl<DB: Database> Inner<DB> {
    /// Waits for a slot, then for a connection. Whatever was obtained is held by a guard before
    /// the next `.await`, so dropping this future anywhere gives everything back.
    pub(crate) async fn acquire(self: Arc<Self>) -> Result<PoolConnection<DB>, AcquireError> {
        let started = Instant::now();
        let deadline = started + self.acquire_timeout;
        let pending = self.metrics.pending();
        let failure = match self.slot(deadline).await {
            Ok(slot) => match self.connection(deadline).await {
                Ok(conn) => {
                    drop(pending);
                    self.metrics.waited(started.elapsed());
                    return Ok(PoolConnection::new(conn, Some(slot), self));
                }
                Err(failure) => failure,
            },
            Err(failure) => failure,
        };
        Err(match failure {
            Failure::Closed => AcquireError::Closed,
            Failure::Connect(error) => AcquireError::Connect(error),
            Failure::Timeout(phase) => self.timed_out(phase, started.elapsed()),
        })
    }

    /// A slot is the right to ask sqlx for a connection, which then needs not wait for one.
    /// Slots are handed out in the order of the callers.
    async fn slot(&self, deadline: Instant) -> Result<OwnedSemaphorePermit, Failure> {
        match Arc::clone(&self.slots).try_acquire_owned() {
            Ok(slot) => return Ok(slot),
            Err(TryAcquireError::Closed) => return Err(Failure::Closed),
            Err(TryAcquireError::NoPermits) => {}
        }
        match timeout_at(deadline, Arc::clone(&self.slots).acquire_owned()).await {
            Ok(Ok(slot)) => Ok(slot),
            Ok(Err(_)) => Err(Failure::Closed),
            Err(_) => Err(Failure::Timeout(Phase::Wait)),
        }
    }

    async fn connection(
        &self,
        deadline: Instant,
    ) -> Result<sqlx::pool::PoolConnection<DB>, Failure> {
        let mut acquire = pin!(hooks::opening(self.sqlx.acquire()));
        let stuck = Instant::now() + STUCK_AFTER.min(self.acquire_timeout / 4);
        let outcome = match timeout_at(stuck.min(deadline), &mut acquire).await {
            Ok(outcome) => outcome,
            Err(_) => {
                self.diagnose();
                // sqlx goes on connecting for a pool that was closed meanwhile.
                let mut closed = self.sqlx.close_event();
                match closed.do_until(timeout_at(deadline, acquire)).await {
                    Ok(Ok(outcome)) => outcome,
                    Ok(Err(_)) => return Err(Failure::Timeout(Phase::Connect)),
                    Err(_) => return Err(Failure::Closed),
                }
            }
        };
        outcome.map_err(|error| match error {
            sqlx::Error::PoolClosed => Failure::Closed,
            sqlx::Error::PoolTimedOut => Failure::Timeout(Phase::Connect),
            error => Failure::Connect(error),
        })
    }

    fn timed_out(&self, phase: Phase, waited: Duration) -> AcquireError {
        self.metrics.timed_out();
        let status = self.status();
        let last_connect_error = self.diagnosis.last_error();
        AcquireError::Timeout {
            // Connections held through the bare sqlx pool take no slot, so a caller can have its
            // slot and still wait for one of those.
            phase: match phase {
                Phase::Connect if status.in_use == status.max && last_connect_error.is_none() => {
                    Phase::Wait
                }
                phase => phase,
            },
            waited,
            status,
            last_connect_error,
        }
    }

    /// Finds out beside the stuck acquire why no connection comes. Ends within `connect_timeout`.
    fn diagnose(&self) {
        let probe = Arc::clone(&self.diagnosis).probe::<DB>(
            self.sqlx.connect_options(),
            self.after_connect.clone(),
            self.connect_timeout,
        );
        let stopped = self.stop.clone();
        self.tasks.spawn(async move {
            stopped.run_until_cancelled_owned(probe).await;
        });
    }
}
