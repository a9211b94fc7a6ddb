//! The loads in flight, and the rule by which their values may be kept.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash};

use super::sync::{Mutex, MutexGuard, PoisonError};
use super::versions::{Stamp, Versions};

/// Keys share so many locks.
const STRIPES: usize = 64;

/// The loads in flight by key, one each.
///
/// What a load brings is kept only if it is still listed here when it ends; an invalidation or an
/// insertion of the key takes it off the list. So a value whose load began before them is never
/// kept after them, and nobody who asks after them is handed to that load. Listing, unlisting,
/// keeping and removing happen under the lock of the key's stripe, so they are ordered. An
/// invalidation of everything, or of a tag, takes no lock: it makes stamps old, and who joins or
/// keeps compares.
///
/// The locks are held for a few map operations, never across an await, and never while a loader
/// or a value's destructor runs.
#[derive(Debug)]
pub(crate) struct Flights<K, F, S> {
    stripes: Box<[Mutex<Stripe<K, F, S>>]>,
    hasher: S,
}

#[derive(Debug)]
struct Stripe<K, F, S> {
    flights: HashMap<K, Listed<F>, S>,
    next_id: u64,
}

#[derive(Debug)]
struct Listed<F> {
    id: u64,
    stamp: Stamp,
    flight: F,
}

/// Proof of having started the load of a key; says whether its value may be kept.
#[derive(Debug)]
pub(crate) struct Ticket<K> {
    pub(crate) key: K,
    /// When the load began.
    pub(crate) stamp: Stamp,
    stripe: usize,
    id: u64,
}

/// What came of asking for a load of a key.
#[derive(Debug)]
pub(crate) enum Entered<K, R, F> {
    /// There is an entry after all.
    Found(R),
    /// It is being loaded, by a load that began then.
    Joined(F, Stamp),
    /// The caller is the one to load it.
    Leads(Ticket<K>),
}

impl<K, F, S> Flights<K, F, S>
where
    K: Hash + Eq + Clone,
    S: BuildHasher + Clone,
{
    pub(crate) fn new(hasher: S) -> Self {
        let stripe = || {
            Mutex::new(Stripe {
                flights: HashMap::with_hasher(hasher.clone()),
                next_id: 0,
            })
        };
        Self {
            stripes: (0..STRIPES).map(|_| stripe()).collect(),
            hasher,
        }
    }

    /// Finds the entry by `look`, joins the load in flight by `join`, or lists a new one, `flight`.
    /// `join` says `None` of a load that is over.
    pub(crate) fn enter<R, J>(
        &self,
        key: &K,
        versions: &Versions,
        look: impl FnOnce() -> Option<R>,
        join: impl FnOnce(&F) -> Option<J>,
        flight: impl FnOnce() -> F,
    ) -> Entered<K, R, J> {
        let index = self.index(key);
        let mut stripe = self.stripe(index);
        // A load may have ended between the caller's first look and the lock.
        if let Some(found) = look() {
            return Entered::Found(found);
        }
        if let Some(listed) = stripe.flights.get(key)
            && versions.is_current(listed.stamp)
            && let Some(joined) = join(&listed.flight)
        {
            return Entered::Joined(joined, listed.stamp);
        }
        Entered::Leads(stripe.list(key, index, versions.now(), flight()))
    }

    /// Lists a flight in place of that which is in flight, if one is.
    pub(crate) fn replace(&self, key: &K, versions: &Versions, flight: F) -> Ticket<K> {
        let index = self.index(key);
        self.stripe(index).list(key, index, versions.now(), flight)
    }

    /// Ends a load: if it is still listed, unlists it and runs `keep`. Says whether it was.
    pub(crate) fn finish(&self, ticket: &Ticket<K>, keep: impl FnOnce(K)) -> bool {
        let mut stripe = self.stripe(ticket.stripe);
        if !stripe.lists(ticket) {
            return false;
        }
        if let Some((key, _)) = stripe.flights.remove_entry(&ticket.key) {
            keep(key);
        }
        true
    }

    /// Ends a load that is of no use, which is said under the lock, as joining is. Says whether. One
    /// that is not listed is ended too: nobody can join it any more.
    pub(crate) fn abandon(&self, ticket: &Ticket<K>, is_useless: impl FnOnce() -> bool) -> bool {
        let mut stripe = self.stripe(ticket.stripe);
        if !is_useless() {
            return false;
        }
        if stripe.lists(ticket) {
            stripe.flights.remove(&ticket.key);
        }
        true
    }

    /// Takes the load of a key off the list, if there is one, and runs `then` under the same lock.
    pub(crate) fn supersede<R>(&self, key: &K, then: impl FnOnce() -> R) -> R {
        let mut stripe = self.stripe(self.index(key));
        stripe.flights.remove(key);
        then()
    }

    /// The number of loads listed.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.stripes.iter().map(|s| lock(s).flights.len()).sum()
    }

    fn index(&self, key: &K) -> usize {
        self.hasher.hash_one(key) as usize % self.stripes.len()
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "the index is taken modulo the length, which is not zero"
    )]
    fn stripe(&self, index: usize) -> MutexGuard<'_, Stripe<K, F, S>> {
        lock(&self.stripes[index])
    }
}

impl<K: Hash + Eq + Clone, F, S: BuildHasher> Stripe<K, F, S> {
    fn lists(&self, ticket: &Ticket<K>) -> bool {
        let listed = self.flights.get(&ticket.key);
        listed.is_some_and(|listed| listed.id == ticket.id)
    }

    fn list(&mut self, key: &K, stripe: usize, stamp: Stamp, flight: F) -> Ticket<K> {
        let id = self.next_id;
        self.next_id += 1;
        let listed = Listed { id, stamp, flight };
        self.flights.insert(key.clone(), listed);
        Ticket {
            key: key.clone(),
            stamp,
            stripe,
            id,
        }
    }
}

/// A poisoned lock means that a key's `Hash` or `Eq` panicked between two map operations; the
/// maps are whole then, so the cache goes on.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
