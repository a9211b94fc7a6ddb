use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use foldhash::quality::RandomState;
use tokio::time::Instant;

use crate::deferred;
use crate::meters::Meters;

/// How long moka keeps an entry after it expired. moka only reclaims the memory, on the real
/// clock; that an entry is expired is decided here, on tokio's clock, which a test may pause.
const RECLAIM_AFTER: Duration = Duration::from_secs(1);

/// The longest time to live that moka is told; it refuses more than 1,000 years.
const RECLAIM_AT_MOST: Duration = Duration::from_secs(100 * 365 * 24 * 3_600);

/// The entries in memory.
///
/// An entry is visible while it is younger than its own time to live and while its epoch is the
/// store's: `next_epoch` hides all older entries at once, and moka reclaims them at leisure. (Its
/// own `invalidate_all` is no substitute: it goes by timestamps, so an entry of the same
/// nanosecond survives, and of two calls at once the older may have the last word.)
///
/// moka is only ever called inside a section of `deferred`.
pub(crate) struct Store<K, V> {
    // Not std's SipHash: seeded as well, and a twentieth of the time of a hit cheaper.
    entries: moka::sync::Cache<K, Entry<V>, RandomState>,
    epoch: AtomicU64,
    lifetime: Lifetime,
    keeps: bool,
    meters: Arc<Meters>,
}

/// Small and cheap to clone, for moka clones it on every hit: one reference count, no box around.
struct Entry<V> {
    /// Taken by whoever has asked for it.
    value: Option<Arc<V>>,
    /// `deferred::drop_later`, for a value that is still here when the entry dies. A pointer, as a
    /// call would need bounds here, and so on every type up to the public one.
    drop_later: fn(Arc<V>),
    expires: Option<Instant>,
    epoch: u64,
}

impl<V> Clone for Entry<V> {
    fn clone(&self) -> Self {
        Self {
            value: self.value.clone(),
            drop_later: self.drop_later,
            expires: self.expires,
            epoch: self.epoch,
        }
    }
}

impl<V> Drop for Entry<V> {
    fn drop(&mut self) {
        if let Some(value) = self.value.take() {
            (self.drop_later)(value);
        }
    }
}

impl<K, V> Store<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    pub(crate) fn new(capacity: u64, lifetime: Lifetime, meters: Arc<Meters>) -> Self {
        let listener = Arc::clone(&meters);
        let mut entries = moka::sync::Cache::builder()
            .max_capacity(capacity)
            .eviction_listener(move |_, _, cause| listener.removed(cause));
        if let Some(ttl) = lifetime.ttl {
            let reclaim = ttl.saturating_add(RECLAIM_AFTER).min(RECLAIM_AT_MOST);
            entries = entries.time_to_live(reclaim);
        }
        Self {
            entries: entries.build_with_hasher(RandomState::default()),
            epoch: AtomicU64::new(0),
            keeps: capacity > 0 && lifetime.ttl != Some(Duration::ZERO),
            lifetime,
            meters,
        }
    }

    /// The hot path: adds no lock and no allocation to moka's own.
    pub(crate) fn get(&self, key: &K) -> Option<Arc<V>> {
        let _section = deferred::section();
        let mut entry = self.entries.get(key)?;
        let visible = entry.epoch == self.epoch()
            && entry.expires.is_none_or(|expires| Instant::now() < expires);
        if visible { entry.value.take() } else { None }
    }

    /// As [`get`](Self::get), for a key that was just missed: does not count as a use of the
    /// key for the eviction policy unless something is there.
    pub(crate) fn get_again(&self, key: &K) -> Option<Arc<V>> {
        let _section = deferred::section();
        if self.entries.contains_key(key) {
            self.get(key)
        } else {
            None
        }
    }

    /// Stores the value as one of `epoch`, whichever epoch it is now.
    pub(crate) fn put(&self, key: K, value: Arc<V>, epoch: u64) {
        let _section = deferred::section();
        let entry = Entry {
            value: Some(value),
            drop_later: deferred::drop_later,
            expires: self.lifetime.expiry(Instant::now()),
            epoch,
        };
        if self.keeps {
            self.entries.insert(key, entry);
            // Not before: the key's `Hash` or `Eq` may have panicked.
            self.meters.stored();
        }
    }

    pub(crate) fn remove(&self, key: &K) {
        let _section = deferred::section();
        self.entries.invalidate(key);
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Hides every entry there is.
    pub(crate) fn next_epoch(&self) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
    }

    /// Lets moka reclaim the memory of entries of older epochs. It goes by its own clock, so it
    /// may also take an entry that was put a moment ago; that is a miss, never a stale value.
    pub(crate) fn reclaim(&self) {
        let _section = deferred::section();
        self.entries.invalidate_all();
    }

    /// Lets moka do its outstanding evictions now, so that the counts are up to date.
    pub(crate) fn settle(&self) {
        let _section = deferred::section();
        self.entries.run_pending_tasks();
    }

    #[cfg(test)]
    pub(crate) fn engine_count(&self) -> u64 {
        self.settle();
        self.entries.entry_count()
    }
}

impl<K, V> Drop for Store<K, V> {
    fn drop(&mut self) {
        self.meters.forget_entries();
    }
}

/// How long an entry lives.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lifetime {
    pub(crate) ttl: Option<Duration>,
    /// The part of `ttl` that chance may take away: entries stored together do not expire
    /// together. It only ever shortens, so that `ttl` stays the promise.
    pub(crate) jitter: f64,
}

impl Lifetime {
    /// When an entry stored at `now` expires; `None` for never.
    fn expiry(&self, now: Instant) -> Option<Instant> {
        let ttl = self.ttl?;
        let ttl = if self.jitter > 0.0 {
            ttl.saturating_sub(ttl.mul_f64(self.jitter * fastrand::f64()))
        } else {
            ttl
        };
        now.checked_add(ttl)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(100);

    fn store(capacity: u64, ttl: Option<Duration>, jitter: f64) -> Store<u32, u32> {
        Store::new(
            capacity,
            Lifetime { ttl, jitter },
            Arc::new(Meters::new("test".into())),
        )
    }

    #[tokio::test(start_paused = true)]
    async fn an_entry_lives_as_long_as_its_time_to_live() {
        let store = store(10, Some(TTL), 0.0);
        store.put(1, Arc::new(10), 0);
        tokio::time::advance(TTL - Duration::from_millis(1)).await;
        assert_eq!(store.get(&1).as_deref(), Some(&10));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(store.get(&1), None);
    }

    #[tokio::test(start_paused = true)]
    async fn jitter_spreads_expiry_over_its_share_of_the_time_to_live_and_never_beyond() {
        let store = store(2_000, Some(TTL), 0.1);
        for key in 0..1_000 {
            store.put(key, Arc::new(key), 0);
        }
        let mut alive = Vec::new();
        tokio::time::advance(TTL.mul_f64(0.9) - Duration::from_millis(1)).await;
        for _ in 0..=10 {
            alive.push((0..1_000).filter(|key| store.get(key).is_some()).count());
            tokio::time::advance(TTL.mul_f64(0.01)).await;
        }
        assert_eq!(alive[0], 1_000, "none goes before ttl * (1 - jitter)");
        assert!(
            (400..600).contains(&alive[5]),
            "half goes by the middle: {alive:?}"
        );
        assert!(alive.windows(2).all(|w| w[1] < w[0]), "evenly: {alive:?}");
        assert_eq!((0..1_000).filter(|k| store.get(k).is_some()).count(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_time_to_live_an_entry_stays() {
        for ttl in [None, Some(Duration::MAX)] {
            let store = store(10, ttl, 0.1);
            store.put(1, Arc::new(10), 0);
            tokio::time::advance(Duration::from_secs(3_600 * 24 * 365)).await;
            assert_eq!(store.get(&1).as_deref(), Some(&10));
        }
    }

    #[test]
    fn an_entry_of_an_older_epoch_is_hidden_also_if_it_is_stored_afterwards() {
        let store = store(10, None, 0.0);
        store.put(1, Arc::new(10), store.epoch());
        let before = store.epoch();
        store.next_epoch();
        assert_eq!(store.get(&1), None);
        store.put(2, Arc::new(20), before);
        assert_eq!(store.get(&2), None);
        store.put(3, Arc::new(30), store.epoch());
        assert_eq!(store.get(&3).as_deref(), Some(&30));
    }

    #[test]
    fn nothing_is_kept_with_a_zero_time_to_live_or_a_zero_capacity() {
        for store in [store(10, Some(Duration::ZERO), 0.0), store(0, None, 0.0)] {
            store.put(1, Arc::new(10), 0);
            assert_eq!(store.get(&1), None);
            assert_eq!(store.meters.stats().entries, 0);
        }
    }

    #[test]
    fn the_entry_count_is_the_engines() {
        let store = store(50, None, 0.0);
        for round in 0..20 {
            for key in 0..200 {
                store.put(key, Arc::new(round), store.epoch());
                if key % 7 == 0 {
                    store.remove(&(key / 2));
                }
            }
            if round % 5 == 0 {
                store.next_epoch();
                store.reclaim();
            }
            assert_eq!(store.engine_count(), store.meters.stats().entries);
        }
        assert!(store.meters.stats().entries <= 50);
        assert!(store.meters.stats().evictions > 0);
    }
}
