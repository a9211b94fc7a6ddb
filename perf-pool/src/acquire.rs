use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use sqlx::Database;
use tokio::sync::TryAcquireError;
use tokio::time::{Instant, timeout_at};

use crate::Status;
use crate::connection::PoolConnection;
use crate::error::{AcquireError, Phase};
use crate::pool::Inner;
use crate::slots::Slot;
use crate::supply::Look;
use crate::warm::Live;

/// How many holders a timeout names.
const NAMED: usize = 3;

enum Failure {
    Timeout(Phase),
    Closed,
    Connect(sqlx::Error),
}

impl<DB: Database> Inner<DB> {
    /// Waits for a slot, then for a connection. Whatever was obtained is held by a guard before
    /// the next `.await`, so dropping this future anywhere gives everything back.
    pub(crate) async fn acquire(
        self: Arc<Self>,
        taken_at: &'static Location<'static>,
    ) -> Result<PoolConnection<DB>, AcquireError> {
        let started = Instant::now();
        let deadline = started + self.acquire_timeout;
        let pending = self.metrics.pending();
        let failure = match self.slot(deadline, taken_at).await {
            Ok(slot) => match self.connection(deadline).await {
                Ok((live, connecting)) => {
                    drop(pending);
                    let waited = started.elapsed();
                    self.metrics.waited(waited);
                    self.load
                        .acquired(waited.saturating_sub(connecting), connecting);
                    return Ok(PoolConnection::new(live, slot, self, taken_at));
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

    /// A slot is the right to hold a connection. Slots are handed out in the order of the callers.
    async fn slot(
        &self,
        deadline: Instant,
        taken_at: &'static Location<'static>,
    ) -> Result<Slot, Failure> {
        match self.slots.try_take() {
            Ok(slot) => return Ok(slot),
            Err(TryAcquireError::Closed) => return Err(Failure::Closed),
            Err(TryAcquireError::NoPermits) => {}
        }
        if let Some(held) = self.holders.to_warn_of() {
            tracing::warn!(
                pool = &*self.name,
                %taken_at,
                holds = %held,
                "a task waits for a connection while it holds one, and the pool is full: if enough \
                 tasks do, they wait for each other; pass the connection on instead"
            );
        }
        match timeout_at(deadline, self.slots.take()).await {
            Ok(Ok(slot)) => Ok(slot),
            Ok(Err(_)) => Err(Failure::Closed),
            Err(_) => Err(Failure::Timeout(Phase::Wait)),
        }
    }

    /// A connection, and how long it took if none was ready.
    async fn connection(
        self: &Arc<Self>,
        deadline: Instant,
    ) -> Result<(Live<DB>, Duration), Failure> {
        let mut look = Look::Nothing;
        if self.desk.is_empty() {
            look = self.look();
        }
        // What is tested for this caller is supply enough for now.
        let mut supplied = matches!(look, Look::Stale(_));
        let answer = match look {
            Look::Fresh(live) => return Ok((live, Duration::ZERO)),
            Look::Failed(error) => return Err(error.into()),
            Look::Stale(live) => {
                let answer = self.desk.queue();
                self.test(live);
                answer
            }
            Look::Opening(attempt) => {
                let answer = self.desk.queue();
                self.adopt(attempt);
                answer
            }
            Look::Nothing => self.desk.queue(),
        };
        let asked = Instant::now();
        let mut answer = answer;
        let answered = loop {
            if !std::mem::take(&mut supplied) {
                self.supply();
            }
            let again = Instant::now() + self.patience();
            match timeout_at(again.min(deadline), &mut answer).await {
                Err(_) if again < deadline => {}
                answered => break answered,
            }
        };
        match answered {
            Ok(Ok(Ok(ready))) => match ready.take() {
                Some(live) => Ok((live, asked.elapsed())),
                None => Err(Failure::Closed),
            },
            Ok(Ok(Err(error))) => Err(error.into()),
            Ok(Err(_)) => Err(Failure::Closed),
            Err(_) => Err(Failure::Timeout(match self.desk.under_way() {
                (0, 1..) => Phase::Validate,
                _ => Phase::Connect,
            })),
        }
    }

    fn timed_out(&self, phase: Phase, waited: Duration) -> AcquireError {
        self.metrics.timed_out();
        self.load.timed_out();
        let status = self.status();
        let last_connect_error = self.diagnosis.last_error();
        let answers = |since| self.diagnosis.succeeded_since(since);
        // Connections held through the bare sqlx pool take no slot, so a caller can have its slot
        // and still wait for one of those.
        let elsewhere = phase == Phase::Connect
            && last_connect_error.is_none()
            && (self.is_held_elsewhere(&status)
                || (status.in_use == status.max
                    && std::time::Instant::now()
                        .checked_sub(waited)
                        .is_some_and(answers)));
        AcquireError::Timeout {
            phase: if elsewhere { Phase::Wait } else { phase },
            waited,
            status,
            last_connect_error,
            holders: self.holders.longest(NAMED),
        }
    }

    /// Whether all connections are in use, some of them by users of the bare sqlx pool.
    pub(crate) fn is_held_elsewhere(&self, status: &Status) -> bool {
        let (opening, testing) = self.desk.under_way();
        let ours = self.slots.taken().saturating_sub(self.desk.len());
        let known = ours + (opening + testing) as usize;
        status.in_use == status.max && status.in_use as usize > known
    }

    /// Finds out beside a stuck attempt why no connection comes, if that is not clear already. Ends
    /// within `connect_timeout`.
    pub(crate) fn diagnose(&self) {
        if self.is_held_elsewhere(&self.status()) {
            return;
        }
        self.spawn(Arc::clone(&self.diagnosis).probe::<DB>(
            self.sqlx.connect_options(),
            self.after_connect.clone(),
            self.connect_timeout,
        ));
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::PoolClosed => Self::Closed,
            error => Self::Connect(error),
        }
    }
}
