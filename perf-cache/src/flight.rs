use std::future::poll_fn;
use std::hash::Hash;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::Notify;

use crate::LoadError;
use crate::clock::Instant;
use crate::core::flights::Ticket;
use crate::core::versions::Stamp;
use crate::deferred;
use crate::entry::TagList;
use crate::load::Env;
use crate::table::Table;

/// How a load ended, for everyone who waits for it.
pub(crate) enum Outcome<V> {
    Loaded(Arc<V>, TagList),
    Failed(LoadError),
    /// Whoever looked did not find it: who has a loader may load it.
    Absent,
}

impl<V> Clone for Outcome<V> {
    fn clone(&self) -> Self {
        match self {
            Self::Loaded(value, tags) => Self::Loaded(Arc::clone(value), tags.clone()),
            Self::Failed(error) => Self::Failed(error.clone()),
            Self::Absent => Self::Absent,
        }
    }
}

/// A load in flight, as it is listed.
pub(crate) struct Flight<V> {
    shared: Arc<Shared<V>>,
    /// When it began.
    pub(crate) began: Instant,
}

/// What the load and those who wait for it have in common. Not a channel of tokio's, which are made
/// for many messages: a read of the shared tier makes one of these, and is a few microseconds.
struct Shared<V> {
    outcome: OnceLock<Outcome<V>>,
    /// Who made the flight, and in most cases is the only one that waits for it.
    first: Mutex<Option<Waker>>,
    /// Those who joined.
    told: Notify,
    waiters: AtomicUsize,
    unheard: Notify,
}

impl<V> Flight<V> {
    pub(crate) fn new(began: Instant) -> Self {
        let shared = Shared {
            outcome: OnceLock::new(),
            first: Mutex::new(None),
            told: Notify::new(),
            waiters: AtomicUsize::new(0),
            unheard: Notify::new(),
        };
        Self {
            shared: Arc::new(shared),
            began,
        }
    }

    /// Waits for a flight that was just made. Once: this waiter is woken apart from those who join.
    pub(crate) fn first(&self) -> Waiter<V> {
        self.shared.waiters.fetch_add(1, Ordering::SeqCst);
        Waiter {
            shared: Arc::clone(&self.shared),
            is_first: true,
        }
    }

    /// Joins the load, unless it is over: it is unlisted before it tells how it ended, unless the
    /// key's `Hash` or `Eq` panicked then; such a flight must not be joined for ever after.
    pub(crate) fn join(&self) -> Option<Waiter<V>> {
        let over = self.shared.outcome.get().is_some();
        (!over).then(|| {
            self.shared.waiters.fetch_add(1, Ordering::SeqCst);
            Waiter {
                shared: Arc::clone(&self.shared),
                is_first: false,
            }
        })
    }

    /// Whether somebody waits for it.
    pub(crate) fn is_heard(&self) -> bool {
        self.shared.waiters.load(Ordering::SeqCst) > 0
    }

    /// Returns when nobody has waited for it for a moment.
    async fn unheard(&self) {
        loop {
            // Before the look, so that it sees who goes away after it.
            let unheard = self.shared.unheard.notified();
            if !self.is_heard() {
                return;
            }
            unheard.await;
        }
    }

    /// The first one counts.
    fn tell(&self, outcome: Outcome<V>) {
        if self.shared.outcome.set(outcome).is_ok() {
            // Whoever looks at the outcome under this lock, and does not see it, has left its waker.
            let first = self.shared.first().take();
            if let Some(first) = first {
                first.wake();
            }
            self.shared.told.notify_waiters();
        }
    }
}

impl<V> Clone for Flight<V> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            began: self.began,
        }
    }
}

/// Waits for a load in flight. May be dropped at any time; the load goes on.
pub(crate) struct Waiter<V> {
    shared: Arc<Shared<V>>,
    is_first: bool,
}

impl<V> Waiter<V> {
    pub(crate) async fn outcome(&mut self) -> Outcome<V> {
        if self.is_first {
            return poll_fn(|cx| self.poll_first(cx)).await;
        }
        loop {
            // Before the look, so that it sees what is told after it.
            let told = self.shared.told.notified();
            if let Some(outcome) = self.shared.outcome.get() {
                return outcome.clone();
            }
            told.await;
        }
    }

    fn poll_first(&self, cx: &Context<'_>) -> Poll<Outcome<V>> {
        if let Some(outcome) = self.shared.outcome.get() {
            return Poll::Ready(outcome.clone());
        }
        let mut first = self.shared.first();
        // It may have been told meanwhile.
        if let Some(outcome) = self.shared.outcome.get() {
            return Poll::Ready(outcome.clone());
        }
        let mut old = None;
        if !first.as_ref().is_some_and(|it| it.will_wake(cx.waker())) {
            old = first.replace(cx.waker().clone());
        }
        // The end of a task is not for this lock.
        drop(first);
        drop(old);
        Poll::Pending
    }
}

impl<V> Shared<V> {
    fn first(&self) -> MutexGuard<'_, Option<Waker>> {
        self.first.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<V> Drop for Waiter<V> {
    fn drop(&mut self) {
        if self.is_first {
            // The task of a caller that has given up is not kept for as long as the load takes.
            let waker = self.shared.first().take();
            drop(waker);
        }
        if self.shared.waiters.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.shared.unheard.notify_waiters();
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
    env: Env<K, V>,
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
        env: &Env<K, V>,
    ) -> Self {
        Self {
            ticket,
            began: flight.began,
            flight,
            table: Arc::downgrade(table),
            env: env.clone(),
            over: false,
        }
    }

    pub(crate) fn key(&self) -> &K {
        &self.ticket.key
    }

    pub(crate) fn env(&self) -> &Env<K, V> {
        &self.env
    }

    pub(crate) fn stamp(&self) -> Stamp {
        self.ticket.stamp
    }

    pub(crate) fn table(&self) -> Option<Arc<Table<K, V>>> {
        self.table.upgrade()
    }

    pub(crate) fn weak_table(&self) -> Weak<Table<K, V>> {
        Weak::clone(&self.table)
    }

    /// Returns when nobody has waited for it for a moment.
    pub(crate) async fn unheard(&self) {
        self.flight.unheard().await;
    }

    /// Ends it without a word if nobody waits for it; says whether it is to go on no longer.
    pub(crate) fn abandon(&mut self) -> bool {
        let abandoned = match self.table.upgrade() {
            Some(table) if !self.over => table.abandon(&self.ticket, &self.flight),
            _ => Some(true),
        };
        self.over |= abandoned == Some(true);
        // After a panic it may still be listed, and joined: who drops it tells those who do.
        abandoned.unwrap_or(true)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over
    }

    /// Ends it: `keep` does what is to be done in the table and counts, knowing whether somebody
    /// waits; then those who wait are told.
    pub(crate) fn end<R>(
        &mut self,
        outcome: Outcome<V>,
        keep: impl FnOnce(Option<&Table<K, V>>, &Ticket<K>, bool) -> R,
    ) -> R {
        let table = self.table.upgrade();
        self.end_in(table.as_deref(), outcome, keep)
    }

    /// The same, by who has the table at hand.
    pub(crate) fn end_in<R>(
        &mut self,
        table: Option<&Table<K, V>>,
        outcome: Outcome<V>,
        keep: impl FnOnce(Option<&Table<K, V>>, &Ticket<K>, bool) -> R,
    ) -> R {
        self.over = true;
        let heard = self.flight.is_heard();
        let told = Told {
            flight: &self.flight,
            outcome: Some(outcome),
        };
        // If nobody is told, the value dies here, where all is done.
        let value = match &told.outcome {
            Some(Outcome::Loaded(value, _)) => Some(Arc::clone(value)),
            _ => None,
        };
        let section = deferred::section();
        let kept = keep(table, &self.ticket, heard);
        drop(told);
        drop(section);
        value.into_iter().for_each(deferred::drop_later);
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
            let env = self.env.clone();
            self.end(
                Outcome::Failed(LoadError::Closed),
                |table, ticket, heard| {
                    table.map(|table| table.unlist(ticket));
                    env.meters
                        .load_failed(&LoadError::Closed, heard, Duration::ZERO);
                },
            );
        }
    }
}

/// What those who wait are to be told, whatever becomes of who was to tell them.
struct Told<'a, V> {
    flight: &'a Flight<V>,
    outcome: Option<Outcome<V>>,
}

impl<V> Drop for Told<'_, V> {
    fn drop(&mut self) {
        if let Some(outcome) = self.outcome.take() {
            self.flight.tell(outcome);
        }
    }
}

#[cfg(test)]
mod tests;
