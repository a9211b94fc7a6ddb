use std::cell::Cell;
use std::hash::Hash;
use std::sync::Arc;

use foldhash::quality::RandomState;
use quick_cache::sync::Cache;
use quick_cache::{Lifecycle, Weighter};

use super::{Hold, Setup, Weigher, weight};
use crate::clock::{Instant, NEVER};
use crate::entry::Entry;
use crate::meters::Meters;

/// More are not expected, so that a huge capacity does not reserve memory.
const EXPECTED_AT_MOST: u64 = 1_000_000;

pub(crate) struct Quick<K, V> {
    entries: Cache<K, Entry<V>, Weights<K, V>, RandomState, Counted>,
    meters: Arc<Meters>,
}

impl<K, V> Quick<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    pub(super) fn new(setup: Setup<K, V>) -> Self {
        let entries = Cache::with(
            usize::try_from(setup.capacity.min(EXPECTED_AT_MOST)).unwrap_or(usize::MAX),
            setup.capacity,
            Weights(setup.weigher),
            RandomState::default(),
            Counted(Arc::clone(&setup.meters)),
        );
        let meters = setup.meters;
        Self { entries, meters }
    }
}

impl<K, V> Hold<K, V> for Quick<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    #[inline]
    fn get(&self, key: &K) -> Option<Entry<V>> {
        self.entries.get(key)
    }

    fn contains(&self, key: &K) -> bool {
        self.entries.contains_key(key)
    }

    // One lookup instead of two, and no use.
    fn peek(&self, key: &K) -> Option<Entry<V>> {
        self.entries.peek(key)
    }

    fn insert(&self, key: K, entry: Entry<V>) {
        self.entries.insert(key, entry);
    }

    fn remove(&self, key: &K) {
        if self.entries.remove(key).is_some() {
            self.meters.removed();
        }
    }

    fn clear(&self) {
        // Not its `clear`, which does not say how many there were.
        self.entries.retain(|_, _| {
            self.meters.removed();
            false
        });
    }

    fn settle(&self) {}

    fn sweep(&self, now: Instant, end: &dyn Fn(&Entry<V>) -> Instant) -> Instant {
        let next = Cell::new(NEVER);
        self.entries.retain(|_, entry| {
            let end = end(entry);
            let over = end <= now;
            if over {
                self.meters.removed();
                self.meters.expired();
            } else {
                next.set(next.get().min(end));
            }
            !over
        });
        next.get()
    }
}

struct Weights<K, V>(Option<Weigher<K, V>>);

impl<K, V> Clone for Weights<K, V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K, V> Weighter<K, Entry<V>> for Weights<K, V> {
    fn weight(&self, key: &K, entry: &Entry<V>) -> u64 {
        match &self.0 {
            Some(weigher) => u64::from(weight(weigher, key, entry)),
            None => 1,
        }
    }
}

#[derive(Clone)]
struct Counted(Arc<Meters>);

impl<K, V> Lifecycle<K, V> for Counted {
    type RequestState = Replaced;

    fn before_evict(&self, _: &mut Replaced, _: &K, _: &mut V) {
        self.0.evicted();
    }

    // Also called for what is replaced, and what is too heavy to be let in.
    fn on_evict(&self, _: &mut Replaced, _: K, _: V) {
        self.0.removed();
    }
}

/// There is nothing to remember of a request.
#[derive(Default)]
struct Replaced;
