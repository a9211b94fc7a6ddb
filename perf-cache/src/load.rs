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
use crate::deferred;
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
        let Some(ticket) = &self.ticket else {
            return;
        };
        let outcome = tokio::select! {
            biased;
            () = stop.cancelled() => Err(LoadError::Closed),
            outcome = caught(loader, &ticket.key) => outcome,
        };
        self.end(outcome);
    }

    fn end(&mut self, outcome: Outcome<V>) {
        let Some(ticket) = self.ticket.take() else {
            return;
        };
        let finished = match self.table.upgrade() {
            Some(table) => table.finish(&ticket, &outcome),
            None => Finished {
                listed: false,
                heard: false,
            },
        };
        let took = self.started.elapsed();
        self.meters
            .load_ended(outcome.as_ref().err(), finished, took);
        // Last: who is told finds the load in the counts; and if nobody is, the value dies here.
        let _section = deferred::section();
        if let Ok(value) = &outcome {
            deferred::drop_later(Arc::clone(value));
        }
        ticket.tell(outcome);
        drop(ticket);
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

/// The loader's result; its panic too, wherever in the loader or in its future's life.
async fn caught<K, V, F, Fut, E>(loader: F, key: &K) -> Outcome<V>
where
    K: Clone,
    F: FnOnce(K) -> Fut,
    Fut: Future<Output = Result<V, E>>,
    E: Into<Box<dyn Error + Send + Sync>>,
{
    let mut load = pin!(Some(async move {
        let loaded = loader(key.clone()).await;
        loaded.map(Arc::new).map_err(LoadError::failed)
    }));
    // Unwind safe: after a panic the future is only dropped.
    let polled = poll_fn(|cx| {
        let poll = catch_unwind(AssertUnwindSafe(|| match load.as_mut().as_pin_mut() {
            Some(load) => load.poll(cx),
            None => Poll::Ready(Err(LoadError::Closed)),
        }));
        poll.map_or_else(|payload| Poll::Ready(Err(payload)), |poll| poll.map(Ok))
    })
    .await;
    let dropped = catch_unwind(AssertUnwindSafe(|| load.set(None)));
    match (polled, dropped) {
        (Ok(outcome), Ok(())) => outcome,
        (Err(payload), _) | (_, Err(payload)) => Err(LoadError::panicked(&*payload)),
    }
}
