use std::collections::HashMap;
use std::hash::{BuildHasher, Hash};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::quality::RandomState;
use tokio::sync::watch;

use crate::LoadError;
use crate::deferred;
use crate::store::Store;

/// What a load hands to everyone who waits for it.
pub(crate) type Outcome<V> = Result<Arc<V>, LoadError>;
type Sender<V> = watch::Sender<Option<Outcome<V>>>;
type Receiver<V> = watch::Receiver<Option<Outcome<V>>>;

const STRIPES: usize = 64;

/// The entries and the loads in flight, and the rule that keeps stale values out.
///
/// A load in flight is listed under its key. What it loads is stored only if it is still listed
/// when it ends, and `invalidate`, `invalidate_all` and `insert` take it off the list: a value
/// whose load began before them is never stored after them, and nobody who asks after them is
/// handed to that load. Listing, unlisting, storing and removing happen under the lock of the
/// key's stripe, so they are ordered; reading an entry takes no lock.
///
/// The lock is held for a few map operations, never across an await, and never while a loader
/// or a value's destructor runs.
pub(crate) struct Table<K, V> {
    store: Store<K, V>,
    stripes: Box<[Mutex<Stripe<K, V>>]>,
    hasher: RandomState,
}

struct Stripe<K, V> {
    flights: HashMap<K, Flight<V>>,
    next_id: u64,
}

struct Flight<V> {
    id: u64,
    outcome: Receiver<V>,
}

impl<V> Flight<V> {
    /// A load is taken off the list before its sender goes, unless the key's `Hash` or `Eq`
    /// panicked then; such a flight must not be joined for ever after.
    fn is_over(&self) -> bool {
        self.outcome.has_changed().is_err()
    }
}

/// Proof of having started the load of a key; says where its value may go.
pub(crate) struct Ticket<K, V> {
    pub(crate) key: K,
    /// The index of the key's stripe.
    stripe: usize,
    id: u64,
    /// The epoch in which the load began, for the entry that it may become.
    epoch: u64,
    outcome: Sender<V>,
}

impl<K, V> Ticket<K, V> {
    /// Tells those who wait how the load ended; to be called once it is
    /// [finished](Table::finish).
    pub(crate) fn tell(&self, outcome: Outcome<V>) {
        self.outcome.send_replace(Some(outcome));
    }
}

/// The result of asking for a missing key.
pub(crate) enum Entered<K, V, P> {
    /// It had been stored in the meantime.
    Found(Arc<V>),
    /// A load is in flight.
    Joined(Waiter<V>),
    /// The caller is the one to load it, with this permit.
    Leads(Ticket<K, V>, Waiter<V>, P),
    /// It is to be loaded, but there was no permit.
    NoPermit,
}

/// What became of a load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Finished {
    /// It was still listed: nothing had superseded it.
    pub(crate) listed: bool,
    /// Somebody waited for it.
    pub(crate) heard: bool,
}

/// Waits for a load in flight. May be dropped at any time; the load goes on.
pub(crate) struct Waiter<V>(Receiver<V>);

impl<V> Waiter<V> {
    pub(crate) async fn outcome(mut self) -> Outcome<V> {
        match self.0.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(outcome)) => outcome.clone(),
            // The sender is gone without a word: its task was dropped.
            Ok(None) | Err(_) => Err(LoadError::Closed),
        }
    }
}

impl<K, V> Table<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    pub(crate) fn new(store: Store<K, V>) -> Self {
        let stripe = || {
            Mutex::new(Stripe {
                flights: HashMap::new(),
                next_id: 0,
            })
        };
        Self {
            store,
            stripes: (0..STRIPES).map(|_| stripe()).collect(),
            hasher: RandomState::default(),
        }
    }

    pub(crate) fn get(&self, key: &K) -> Option<Arc<V>> {
        self.store.get(key)
    }

    /// Finds the entry, joins the load in flight, or starts one if `permit` gives leave.
    pub(crate) fn enter<P>(&self, key: &K, permit: impl FnOnce() -> Option<P>) -> Entered<K, V, P> {
        let index = self.index(key);
        let _section = deferred::section();
        let mut stripe = self.stripe(index);
        // A load may have ended between the caller's first look and the lock.
        if let Some(value) = self.store.get_again(key) {
            return Entered::Found(value);
        }
        if let Some(flight) = stripe.flights.get(key).filter(|f| !f.is_over()) {
            return Entered::Joined(Waiter(flight.outcome.clone()));
        }
        let Some(permit) = permit() else {
            return Entered::NoPermit;
        };
        let (sender, receiver) = watch::channel(None);
        let id = stripe.next_id;
        stripe.next_id += 1;
        let ticket = Ticket {
            key: key.clone(),
            stripe: index,
            id,
            epoch: self.store.epoch(),
            outcome: sender,
        };
        let outcome = receiver.clone();
        stripe.flights.insert(key.clone(), Flight { id, outcome });
        Entered::Leads(ticket, Waiter(receiver), permit)
    }

    /// Ends the load: stores its value, unless the load was superseded.
    ///
    /// If the key's `Hash` or `Eq` panics, the value is not stored, and those who wait are still to
    /// be told.
    pub(crate) fn finish(&self, ticket: &Ticket<K, V>, outcome: &Outcome<V>) -> Finished {
        // Unwind safe: see `lock` and `Flight::is_over`.
        let listed = catch_unwind(AssertUnwindSafe(|| self.settle_flight(ticket, outcome)));
        Finished {
            listed: listed.unwrap_or(false),
            heard: ticket.outcome.receiver_count() > 0,
        }
    }

    /// Whether the load was still listed.
    fn settle_flight(&self, ticket: &Ticket<K, V>, outcome: &Outcome<V>) -> bool {
        let key = &ticket.key;
        let _section = deferred::section();
        let mut stripe = self.stripe(ticket.stripe);
        if stripe.flights.get(key).is_none_or(|f| f.id != ticket.id) {
            return false;
        }
        if let (Some((key, _)), Ok(value)) = (stripe.flights.remove_entry(key), outcome) {
            self.store.put(key, Arc::clone(value), ticket.epoch);
        }
        true
    }

    pub(crate) fn insert(&self, key: K, value: Arc<V>) {
        let index = self.index(&key);
        let _section = deferred::section();
        let mut stripe = self.stripe(index);
        stripe.flights.remove(&key);
        self.store.put(key, value, self.store.epoch());
    }

    pub(crate) fn invalidate(&self, key: &K) {
        let index = self.index(key);
        let _section = deferred::section();
        let mut stripe = self.stripe(index);
        stripe.flights.remove(key);
        self.store.remove(key);
    }

    pub(crate) fn invalidate_all(&self) {
        // The epoch first. A load that ends between the two steps stores a value of the epoch in
        // which it began, which is hidden; one that begins between them is unlisted for nothing.
        self.store.next_epoch();
        for stripe in &self.stripes {
            lock(stripe).flights.clear();
        }
        self.store.reclaim();
    }

    /// Lets the engine do its outstanding evictions now.
    pub(crate) fn settle(&self) {
        self.store.settle();
    }

    fn index(&self, key: &K) -> usize {
        self.hasher.hash_one(key) as usize % self.stripes.len()
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "the index is taken modulo the length, which is not zero"
    )]
    fn stripe(&self, index: usize) -> MutexGuard<'_, Stripe<K, V>> {
        lock(&self.stripes[index])
    }
}

/// A poisoned lock means that a key's `Hash` or `Eq` panicked between two map operations; the
/// maps are whole then, so the cache goes on.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
