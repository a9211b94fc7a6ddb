//! What the handles of a queue on a server, and its pump, share.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::Remote;
use super::buffer::Buffer;
use super::repeat::repeat;
use crate::BackendError;
use crate::crew::Crew;
use crate::machine::Time;
use crate::metrics::Meters;
use crate::signals::Signals;

/// What the handles and the pump share.
pub(super) struct Inner<T, R> {
    pub(super) remote: R,
    pub(super) lease: Duration,
    /// A job that was leased more often has taken its processes with it.
    pub(super) max_attempts: u32,
    pub(super) signals: Arc<Signals>,
    pub(super) meters: Arc<Meters>,
    pub(super) state: Mutex<State<T>>,
    /// Something is to be told to the server, or to be asked of it.
    pub(super) news: Notify,
    /// A job was enqueued here.
    pub(super) enqueued: AtomicBool,
    /// Nothing is on lease here any more, and all is told.
    pub(super) quiet: Notify,
    pub(super) stop: AtomicBool,
    pub(super) start: Instant,
}

pub(super) struct State<T> {
    pub(super) buffer: Buffer<T>,
    pub(super) crew: Crew,
    /// What the pump holds while it tells it to the server.
    pub(super) telling: bool,
    pub(super) tally: Tally,
}

#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) enqueued: u64,
    pub(super) completed: u64,
    pub(super) retried: u64,
    pub(super) snoozed: u64,
    pub(super) discarded: u64,
    pub(super) died: u64,
    /// Jobs that workers were done with, whatever the outcome.
    pub(super) ended: u64,
}

impl<T, R: Remote> Inner<T, R> {
    /// Calls the server until it succeeds, or has failed too often for the caller to wait on.
    pub(super) async fn ask<V, F>(&self, call: impl FnMut() -> F) -> Result<V, BackendError>
    where
        F: Future<Output = Result<V, BackendError>>,
    {
        let answer = repeat(call).await;
        answer.map_err(|error| error.at(self.remote.address()))
    }
}

impl<T, R> Inner<T, R> {
    pub(super) fn lock(&self) -> MutexGuard<'_, State<T>> {
        // Nothing of the user's runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn time(&self, at: Instant) -> Time {
        Time::at(at.saturating_duration_since(self.start))
    }

    /// Lets go of the lock, and wakes a worker if there is something for it to do.
    pub(super) fn finish(&self, state: MutexGuard<'_, State<T>>, now: Instant) {
        let next = state.buffer.next_at().map(|at| self.time(at));
        let wake = state.crew.must_wake(next, self.time(now));
        drop(state);
        if wake {
            self.signals.workers.notify_one();
        }
    }
}
