use std::hash::Hash;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::watch;

use crate::LoadError;
use crate::clock::Instant;
use crate::core::flights::Ticket;
use crate::core::versions::{Stamp, Tag};
use crate::deferred;
use crate::meters::Meters;
use crate::table::Table;

/// How a load ended, for everyone who waits for it.
pub(crate) enum Outcome<V> {
    Loaded(Arc<V>, Arc<[Arc<Tag>]>),
    Failed(LoadError),
    /// Whoever looked did not find it: who has a loader may load it.
    Absent,
}

impl<V> Clone for Outcome<V> {
    fn clone(&self) -> Self {
        match self {
            Self::Loaded(value, tags) => Self::Loaded(Arc::clone(value), Arc::clone(tags)),
            Self::Failed(error) => Self::Failed(error.clone()),
            Self::Absent => Self::Absent,
        }
    }
}

/// A load in flight, as it is listed.
pub(crate) struct Flight<V> {
    outcome: watch::Sender<Option<Outcome<V>>>,
    /// When it began.
    pub(crate) began: Instant,
}

impl<V> Flight<V> {
    pub(crate) fn new(began: Instant) -> Self {
        Self {
            outcome: watch::Sender::new(None),
            began,
        }
    }

    /// Joins the load, unless it is over: it is unlisted before it tells how it ended, unless the
    /// key's `Hash` or `Eq` panicked then; such a flight must not be joined for ever after.
    pub(crate) fn join(&self) -> Option<Waiter<V>> {
        let over = self.outcome.borrow().is_some();
        (!over).then(|| Waiter(self.outcome.subscribe()))
    }

    /// Whether somebody waits for it.
    pub(crate) fn is_heard(&self) -> bool {
        self.outcome.receiver_count() > 0
    }
}

impl<V> Clone for Flight<V> {
    fn clone(&self) -> Self {
        Self {
            outcome: self.outcome.clone(),
            began: self.began,
        }
    }
}

/// Waits for a load in flight. May be dropped at any time; the load goes on.
pub(crate) struct Waiter<V>(watch::Receiver<Option<Outcome<V>>>);

impl<V> Waiter<V> {
    pub(crate) async fn outcome(&mut self) -> Outcome<V> {
        match self.0.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(outcome)) => outcome.clone(),
            // The sender is gone without a word: its task was dropped.
            Ok(None) | Err(_) => Outcome::Failed(LoadError::Closed),
        }
    }
}

/// A load in flight, as its task has it: ends exactly once, however the task ends.
pub(crate) struct Landing<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    ticket: Ticket<K>,
    /// When the load began.
    pub(crate) began: Instant,
    flight: Flight<V>,
    // Weak: a load must not keep a cache alive that nobody has a handle of any more.
    table: Weak<Table<K, V>>,
    meters: Arc<Meters>,
    over: bool,
}

impl<K, V> Landing<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    pub(crate) fn new(
        ticket: Ticket<K>,
        flight: Flight<V>,
        table: &Arc<Table<K, V>>,
        meters: &Arc<Meters>,
    ) -> Self {
        Self {
            ticket,
            began: flight.began,
            flight,
            table: Arc::downgrade(table),
            meters: Arc::clone(meters),
            over: false,
        }
    }

    pub(crate) fn key(&self) -> &K {
        &self.ticket.key
    }

    pub(crate) fn stamp(&self) -> Stamp {
        self.ticket.stamp
    }

    pub(crate) fn table(&self) -> Option<Arc<Table<K, V>>> {
        self.table.upgrade()
    }

    /// Returns when nobody has waited for it for a moment.
    pub(crate) async fn unheard(&self) {
        self.flight.outcome.closed().await;
    }

    /// Ends it without a word if nobody waits for it; says whether.
    pub(crate) fn abandon(&mut self) -> bool {
        let abandoned = match self.table.upgrade() {
            Some(table) => table.abandon(&self.ticket),
            None => true,
        };
        self.over |= abandoned;
        abandoned
    }

    /// Ends it: `keep` does what is to be done in the table and counts, knowing whether somebody
    /// waits; then those who wait are told.
    pub(crate) fn end<R>(
        &mut self,
        outcome: Outcome<V>,
        keep: impl FnOnce(Option<&Table<K, V>>, &Ticket<K>, bool) -> R,
    ) -> R {
        self.over = true;
        let table = self.table.upgrade();
        let heard = self.flight.is_heard();
        // If nobody is told, the value dies here.
        let _section = deferred::section();
        let kept = keep(table.as_deref(), &self.ticket, heard);
        if let Outcome::Loaded(value, _) = &outcome {
            deferred::drop_later(Arc::clone(value));
        }
        self.flight.outcome.send_replace(Some(outcome));
        kept
    }
}

impl<K, V> Drop for Landing<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    /// Its task was dropped before it ended, with its runtime.
    fn drop(&mut self) {
        if !self.over {
            let meters = Arc::clone(&self.meters);
            self.end(
                Outcome::Failed(LoadError::Closed),
                |table, ticket, heard| {
                    table.map(|table| table.unlist(ticket));
                    meters.load_failed(&LoadError::Closed, heard, Duration::ZERO);
                },
            );
        }
    }
}
