use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, Hash};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::quality::RandomState;
use tokio::sync::watch;

use crate::LoadError;
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
/// or a value's destructor of ours runs.
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

/// Proof of having started the load of a key; says where its value may go.
pub(crate) struct Ticket<K, V> {
    pub(crate) key: K,
    id: u64,
    /// The epoch in which the load began, for the entry that it may become.
    epoch: u64,
    outcome: Sender<V>,
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
        let mut stripe = self.stripe(key);
        // A load may have ended between the caller's first look and the lock.
        if let Some(value) = self.store.get_again(key) {
            return Entered::Found(value);
        }
        if let Some(flight) = stripe.flights.get(key) {
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
            id,
            epoch: self.store.epoch(),
            outcome: sender,
        };
        let outcome = receiver.clone();
        stripe.flights.insert(key.clone(), Flight { id, outcome });
        Entered::Leads(ticket, Waiter(receiver), permit)
    }

    /// Ends the load: stores its value, unless the load was superseded, and tells those who
    /// wait.
    pub(crate) fn finish(&self, ticket: Ticket<K, V>, outcome: Outcome<V>) -> Finished {
        let mut stripe = self.stripe(&ticket.key);
        let listed = match stripe.flights.entry(ticket.key) {
            Entry::Occupied(flight) if flight.get().id == ticket.id => {
                let (key, _) = flight.remove_entry();
                if let Ok(value) = &outcome {
                    self.store.put(key, Arc::clone(value), ticket.epoch);
                }
                true
            }
            Entry::Occupied(_) | Entry::Vacant(_) => false,
        };
        drop(stripe);
        let heard = ticket.outcome.receiver_count() > 0;
        ticket.outcome.send_replace(Some(outcome));
        Finished { listed, heard }
    }

    pub(crate) fn insert(&self, key: K, value: Arc<V>) {
        let mut stripe = self.stripe(&key);
        stripe.flights.remove(&key);
        self.store.put(key, value, self.store.epoch());
    }

    pub(crate) fn invalidate(&self, key: &K) {
        let mut stripe = self.stripe(key);
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

    #[expect(
        clippy::indexing_slicing,
        reason = "the index is taken modulo the length, which is not zero"
    )]
    fn stripe(&self, key: &K) -> MutexGuard<'_, Stripe<K, V>> {
        let index = self.hasher.hash_one(key) as usize % self.stripes.len();
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
