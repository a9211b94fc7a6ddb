use std::error::Error;
use std::future::{Future, poll_fn};
use std::hash::Hash;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::task::Poll;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::LoadError;
use crate::meters::Meters;
use crate::table::{Finished, Outcome, Table, Ticket};

/// A load in flight: owned by its task, ends exactly once, however the task ends.
pub(crate) struct Load<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    /// Taken when the load ends.
    ticket: Option<Ticket<K, V>>,
    // Weak: a load must not keep a cache alive that nobody has a handle of any more.
    table: Weak<Table<K, V>>,
    meters: Arc<Meters>,
    started: Instant,
    _permit: OwnedSemaphorePermit,
}

impl<K, V> Load<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    pub(crate) fn new(
        ticket: Ticket<K, V>,
        table: &Arc<Table<K, V>>,
        meters: &Arc<Meters>,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        meters.load_started();
        Self {
            ticket: Some(ticket),
            table: Arc::downgrade(table),
            meters: Arc::clone(meters),
            started: Instant::now(),
            _permit: permit,
        }
    }

    pub(crate) async fn run<F, Fut, E>(mut self, loader: F, stop: CancellationToken)
    where
        F: FnOnce(K) -> Fut,
        Fut: Future<Output = Result<V, E>>,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        let Some(key) = self.ticket.as_ref().map(|ticket| ticket.key.clone()) else {
            return;
        };
        let outcome = tokio::select! {
            biased;
            () = stop.cancelled() => Err(LoadError::Closed),
            outcome = caught(loader, key) => outcome,
        };
        self.end(outcome);
    }

    fn end(&mut self, outcome: Outcome<V>) {
        let Some(ticket) = self.ticket.take() else {
            return;
        };
        let error = outcome.as_ref().err().cloned();
        let finished = match self.table.upgrade() {
            Some(table) => table.finish(ticket, outcome),
            None => Finished {
                listed: false,
                heard: false,
            },
        };
        self.meters
            .load_ended(error.as_ref(), finished, self.started.elapsed());
    }
}

impl<K, V> Drop for Load<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    /// The task was dropped before it ended, with its runtime.
    fn drop(&mut self) {
        self.end(Err(LoadError::Closed));
    }
}

/// The loader's result, its panic included, also one before the first await.
async fn caught<K, V, F, Fut, E>(loader: F, key: K) -> Outcome<V>
where
    F: FnOnce(K) -> Fut,
    Fut: Future<Output = Result<V, E>>,
    E: Into<Box<dyn Error + Send + Sync>>,
{
    let mut load = pin!(async move { loader(key).await });
    // Unwind safe: after a panic the future is only dropped.
    let polled = poll_fn(
        |cx| match catch_unwind(AssertUnwindSafe(|| load.as_mut().poll(cx))) {
            Ok(poll) => poll.map(Ok),
            Err(payload) => Poll::Ready(Err(payload)),
        },
    );
    match polled.await {
        Ok(Ok(value)) => Ok(Arc::new(value)),
        Ok(Err(error)) => Err(LoadError::failed(error)),
        Err(payload) => Err(LoadError::panicked(&*payload)),
    }
}
