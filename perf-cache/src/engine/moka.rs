use std::hash::Hash;
use std::sync::Arc;

use foldhash::quality::RandomState;
use moka::notification::RemovalCause;

use super::{Hold, Setup, weight};
use crate::clock::{Instant, NEVER};
use crate::deferred;
use crate::entry::Entry;
use crate::meters::Meters;

/// Entries that expire are not moka's business: it would go by the real clock, not by tokio's,
/// which a test may pause, and would add a third to the time of a hit.
pub(crate) struct Moka<K, V> {
    // Not std's SipHash: seeded as well, and a twentieth of the time of a hit cheaper.
    entries: moka::sync::Cache<K, Entry<V>, RandomState>,
    meters: Arc<Meters>,
}

impl<K, V> Moka<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    pub(super) fn new(setup: Setup<K, V>) -> Self {
        let meters = Arc::clone(&setup.meters);
        let mut entries = moka::sync::Cache::builder()
            .max_capacity(setup.capacity)
            .eviction_listener(move |_, _, cause| {
                if cause == RemovalCause::Size {
                    meters.evicted();
                }
                meters.removed();
            });
        if let Some(weigher) = setup.weigher {
            entries = entries.weigher(move |key, entry| weight(&weigher, key, entry));
        }
        Self {
            entries: entries.build_with_hasher(RandomState::default()),
            meters: setup.meters,
        }
    }
}

impl<K, V> Hold<K, V> for Moka<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    #[inline]
    fn get(&self, key: &K) -> Option<Entry<V>> {
        // Now and then a hit does what is outstanding, evictions among it.
        let _section = deferred::section();
        self.entries.get(key)
    }

    fn contains(&self, key: &K) -> bool {
        self.entries.contains_key(key)
    }

    fn insert(&self, key: K, entry: Entry<V>) {
        self.entries.insert(key, entry);
    }

    fn remove(&self, key: &K) {
        self.entries.invalidate(key);
    }

    fn clear(&self) {
        self.entries.invalidate_all();
    }

    fn settle(&self) {
        self.entries.run_pending_tasks();
    }

    fn sweep(&self, now: Instant, end: &dyn Fn(&Entry<V>) -> Instant) -> Instant {
        let mut next = NEVER;
        for (key, entry) in &self.entries {
            let end = end(&entry);
            if end <= now {
                // Whoever stores a new one between these two lines will load it again.
                self.entries.invalidate(&*key);
                self.meters.expired();
            } else {
                next = next.min(end);
            }
        }
        self.entries.run_pending_tasks();
        next
    }
}
