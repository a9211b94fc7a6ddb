use std::time::Duration;

use sqlx::Database;
use tokio::time::Instant;

use crate::{Pool, Status, hooks};

/// Whether a pool can serve; see [`Pool::health_check`].
#[derive(Debug)]
#[non_exhaustive]
pub struct Health {
    /// Why not, if it cannot. An [`AcquireError`](crate::AcquireError) is found by
    /// [`in_sqlx`](crate::AcquireError::in_sqlx).
    pub error: Option<sqlx::Error>,
    /// How long it took to get a connection.
    pub acquire: Duration,
    /// How long the server took to answer a ping; zero if none was sent.
    pub ping: Duration,
    /// The pool after the check.
    pub status: Status,
}

impl Health {
    /// Whether a connection was had and the server answered on it.
    pub fn is_healthy(&self) -> bool {
        self.error.is_none()
    }
}

impl<DB: Database> Pool<DB> {
    /// Checks a connection out like any caller, and pings the server on it: takes no longer than
    /// `acquire_timeout` and `ping_timeout`. For a readiness check; one that asks often should
    /// cache the answer, because it uses a connection.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe, as [`acquire`](Self::acquire).
    #[track_caller]
    pub fn health_check(&self) -> impl Future<Output = Health> + Send + use<DB> {
        let (pool, acquire) = (self.clone(), self.acquire());
        async move {
            let started = Instant::now();
            let acquired = acquire.await;
            let acquire = started.elapsed();
            let (error, ping) = match acquired {
                Ok(mut conn) => {
                    let conn: &mut DB::Connection = &mut conn;
                    let within = pool.inner().checks.ping_timeout;
                    let started = Instant::now();
                    let error = hooks::ping(conn, within).await.err();
                    (error, started.elapsed())
                }
                Err(error) => (Some(error.into()), Duration::ZERO),
            };
            Health {
                error,
                acquire,
                ping,
                status: pool.status(),
            }
        }
    }
}
