//! What the local tier keeps, and lets go of.

use std::hash::Hash;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Kept, Table};
use crate::LoadError;
use crate::clock::{Instant, NEVER};
use crate::core::flights::Ticket;
use crate::core::versions::Stamp;
use crate::deferred;
use crate::engine::Hold;
use crate::entry::{Entry, More};
use crate::flight::Flight;
use crate::policy::Times;
use crate::remote::{Local, Target};

/// Entries stored between two sweeps at least.
const SWEPT_AT_LEAST: u64 = 1_024;

impl<K, V> Table<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    /// Ends a load that brought a value. Says whether it was listed, and so kept.
    ///
    /// If the key's `Hash` or `Eq` panics, the value is not kept.
    pub(crate) fn keep(&self, ticket: &Ticket<K>, kept: Kept<V>) -> bool {
        let _section = deferred::section();
        let keep = |key| self.put(key, kept, ticket.stamp);
        // Unwind safe: the maps are whole whenever a key's code runs.
        let listed = catch_unwind(AssertUnwindSafe(|| self.flights.finish(ticket, keep)));
        listed.unwrap_or(false)
    }

    /// Ends a load that failed. What is there is served for a while without another try; else, if
    /// failures are remembered, this one is. Says whether it was listed.
    pub(crate) fn keep_failure(&self, ticket: &Ticket<K>, error: &LoadError) -> bool {
        let _section = deferred::section();
        let keep = |key: K| {
            let now = self.clock.now();
            let there = self.engine.peek(&key);
            if let Some(mut entry) = there.and_then(|there| self.of_use(there, now)) {
                if now < entry.fresh_until && now < entry.plain_until {
                    return;
                }
                let mut more = More::copy(entry.more.as_ref());
                more.retry_at = now
                    .after(self.policy.retry_failed_after)
                    .min(entry.useful_until);
                // So that what was refreshed ahead of its end is not tried again with each hit.
                entry.plain_until = entry.plain_until.max(more.retry_at).min(entry.fresh_until);
                entry.more = Some(Arc::new(more));
                self.insert_entry(key, entry);
            } else if !self.policy.negative_ttl.is_zero() && !matches!(error, LoadError::Closed) {
                let mut entry = Entry::new(None, now, ticket.stamp);
                let failure = Some(error.clone());
                entry.more = Some(Arc::new(More {
                    failure,
                    ..More::default()
                }));
                let own = Some(self.policy.negative_ttl);
                let times = Times {
                    own,
                    ..Times::default()
                };
                self.policy.set_times(&mut entry, now, times);
                self.insert_entry(key, entry);
            }
        };
        let listed = catch_unwind(AssertUnwindSafe(|| self.flights.finish(ticket, keep)));
        listed.unwrap_or(false)
    }

    /// Ends a load without anything to keep.
    pub(crate) fn unlist(&self, ticket: &Ticket<K>) -> bool {
        let _section = deferred::section();
        let listed = catch_unwind(AssertUnwindSafe(|| self.flights.finish(ticket, |_| ())));
        listed.unwrap_or(false)
    }

    /// Ends a load if nobody waits for it; says whether. `None`: the key's `Hash` or `Eq` panicked.
    pub(crate) fn abandon(&self, ticket: &Ticket<K>, flight: &Flight<V>) -> Option<bool> {
        let _section = deferred::section();
        let abandon = || self.flights.abandon(ticket, || !flight.is_heard());
        catch_unwind(AssertUnwindSafe(abandon)).ok()
    }

    /// Lists an insertion that the shared tier is about to be told of; it is kept as the value of a
    /// load is, unless something overtakes it.
    pub(crate) fn begin_insert(&self, key: &K, began: Instant) -> (Ticket<K>, Flight<V>) {
        let _section = deferred::section();
        let flight = Flight::new(began);
        let ticket = self.flights.replace(key, &self.versions, flight.clone());
        (ticket, flight)
    }

    pub(crate) fn insert(&self, key: K, kept: Kept<V>) {
        let _section = deferred::section();
        self.flights.supersede(&key.clone(), || {
            self.put(key, kept, self.versions.now());
        });
    }

    fn put(&self, key: K, kept: Kept<V>, stamp: Stamp) {
        if !self.keeps {
            return;
        }
        let now = self.clock.now();
        let mut entry = Entry::new(Some(kept.value), kept.began, stamp);
        let used = (self.policy.time_to_idle).map(|_| AtomicU64::new(now.0));
        if !kept.tags.is_empty() || kept.etag.is_some() || used.is_some() {
            entry.more = Some(Arc::new(More {
                tags: kept.tags,
                etag: kept.etag,
                used,
                ..More::default()
            }));
        }
        self.policy.set_times(&mut entry, now, kept.times);
        if entry.useful_until > now && self.policy.is_kept(kept.times) {
            self.insert_entry(key, entry);
        } else {
            self.engine.remove(&key);
        }
    }

    fn insert_entry(&self, key: K, entry: Entry<V>) {
        if self.keeps {
            let end = self.end(&entry);
            self.engine.insert(key, entry);
            // After it is there: a sweep that begins in between sees it, or this.
            self.ends(end);
            self.stored.fetch_add(1, Ordering::Relaxed);
            // Not before: the key's `Hash` or `Eq` may have panicked.
            self.meters.stored();
        }
    }

    pub(crate) fn invalidate(&self, key: &K) {
        let _section = deferred::section();
        (self.flights).supersede(key, || self.engine.remove(key));
    }

    /// Makes the entry one that only failing loaders fall back on.
    pub(crate) fn expire(&self, key: &K) {
        let _section = deferred::section();
        self.flights.supersede(key, || {
            let (now, there) = (self.clock.now(), self.engine.peek(key));
            let Some(mut entry) = there.and_then(|there| self.of_use(there, now)) else {
                return self.engine.remove(key);
            };
            let mut more = More::copy(entry.more.as_ref());
            more.expired = true;
            more.retry_at = Instant::default();
            entry.more = Some(Arc::new(more));
            entry.fresh_until = entry.fresh_until.min(now);
            entry.plain_until = entry.fresh_until;
            entry.useful_until = entry.fresh_until.after(self.policy.stale_if_error);
            if entry.useful_until > now {
                self.insert_entry(key.clone(), entry);
            } else {
                self.engine.remove(key);
            }
        });
    }

    pub(crate) fn invalidate_tag(&self, tag: &str) {
        self.versions.invalidate_tag(tag);
    }

    /// Hides every entry there is, and lets the engine reclaim them.
    pub(crate) fn invalidate_all(&self) {
        self.versions.invalidate_all();
        let _section = deferred::section();
        self.engine.clear();
    }

    /// Lets the engine do what is outstanding.
    pub(crate) fn settle(&self) {
        let _section = deferred::section();
        self.engine.settle();
    }

    /// From when on an entry is of no use unless it is used until then.
    fn end(&self, entry: &Entry<V>) -> Instant {
        let idle = self.policy.time_to_idle.zip(entry.last_used());
        let idle = idle.map(|(after, used)| used.after(after));
        idle.map_or(entry.useful_until, |idle| idle.min(entry.useful_until))
    }

    /// There is an entry that ends then.
    fn ends(&self, end: Instant) {
        // Hardly ever: one that is stored later ends later.
        if end.0 < self.ends_from.load(Ordering::Acquire) {
            self.ends_from.fetch_min(end.0, Ordering::AcqRel);
        }
    }

    /// Whether a sweep is due: entries can have ended, and so much was stored since that was last looked
    /// at that going over all entries comes to a few for each that was stored.
    pub(crate) fn is_sweep_due(&self) -> bool {
        let stored = self.stored.load(Ordering::Relaxed);
        let due = SWEPT_AT_LEAST.max(self.meters.entries() / 2);
        let free = |_| {
            self.stored
                .compare_exchange(stored, 0, Ordering::Relaxed, Ordering::Relaxed)
        };
        Some(stored)
            .filter(|stored| *stored >= due)
            .map(free)
            .is_some_and(|won| won.is_ok() && self.can_have_ended())
    }

    fn can_have_ended(&self) -> bool {
        let from = Instant(self.ends_from.load(Ordering::Acquire));
        from != NEVER && from <= self.clock.now()
    }

    /// Forgets what is of no use; to be called where it may take a while.
    pub(crate) fn sweep(&self) {
        let _section = deferred::section();
        // What is stored meanwhile lowers it, so that it is not missed.
        let mut next = Ends {
            from: &self.ends_from,
            next: self.ends_from.swap(NEVER.0, Ordering::AcqRel),
        };
        let end = |entry: &Entry<V>| self.end(entry);
        next.next = self.engine.sweep(self.clock.now(), &end).0;
    }
}

/// When the next entry ends, to be noted when a sweep is over; if that panics, as it was.
struct Ends<'a> {
    from: &'a AtomicU64,
    next: u64,
}

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.from.fetch_min(self.next, Ordering::AcqRel);
    }
}

impl<K, V> Local<K> for Table<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    fn invalidated(&self, target: Target<'_, K>) {
        match target {
            Target::Key(key) => self.invalidate(key),
            Target::Expire(key) => self.expire(key),
            Target::Tag(tag) => self.invalidate_tag(tag),
            Target::All => self.invalidate_all(),
        }
    }

    fn trusted_until(&self, until: tokio::time::Instant) {
        let until = self.clock.at(until);
        self.trusted_until.fetch_max(until.0, Ordering::AcqRel);
    }

    fn gap(&self) {
        self.invalidate_all();
    }
}
