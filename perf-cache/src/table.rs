use std::hash::Hash;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use foldhash::quality::RandomState;
use tokio::sync::watch;

use crate::LoadError;
use crate::clock::{Clock, Instant, NEVER};
use crate::core::flights::{Entered, Flights, Ticket};
use crate::core::versions::{Stamp, Tag, Versions};
use crate::deferred;
use crate::engine::{Engines, Hold};
use crate::entry::{Entry, More};
use crate::flight::{Flight, Waiter, join};
use crate::policy::{Policy, State, Times};
use crate::remote::{Local, Target};
use crate::value::Previous;

/// Entries stored between two sweeps at least.
const SWEPT_AT_LEAST: u64 = 1_024;

/// The local tier: the entries, the loads in flight, and what is known of their age.
pub(crate) struct Table<K, V> {
    engine: Engines<K, V>,
    flights: Flights<K, Flight<V>, RandomState>,
    versions: Versions,
    policy: Policy,
    clock: Clock,
    /// Until when other processes' invalidations cannot have been missed.
    trusted_until: AtomicU64,
    /// How old an entry may be beyond that.
    untrusted_age: Duration,
    /// Whether anything is ever kept.
    keeps: bool,
    /// Entries stored since the last sweep.
    stored: AtomicU64,
    meters: Arc<crate::meters::Meters>,
}

/// What came of asking for a load.
pub(crate) enum Asked<K, V> {
    /// It is there after all, or has failed a moment ago.
    Found(Result<Arc<V>, LoadError>),
    /// It is being loaded, by a load that began then.
    Joined(Waiter<V>, Stamp),
    /// The caller is the one to load it.
    Leads(Ticket<K>, Flight<V>, Waiter<V>),
}

/// A value to keep.
pub(crate) struct Kept<V> {
    pub(crate) value: Arc<V>,
    pub(crate) tags: Arc<[Arc<Tag>]>,
    pub(crate) etag: Option<Arc<str>>,
    pub(crate) times: Times,
    pub(crate) began: Instant,
}

impl<K, V> Table<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    pub(crate) fn new(
        engine: Engines<K, V>,
        keeps: bool,
        policy: Policy,
        clock: Clock,
        untrusted_age: Option<Duration>,
        meters: Arc<crate::meters::Meters>,
    ) -> Self {
        Self {
            engine,
            flights: Flights::new(RandomState::default()),
            versions: Versions::new(),
            policy,
            clock,
            trusted_until: AtomicU64::new(untrusted_age.map_or(NEVER.0, |_| 0)),
            untrusted_age: untrusted_age.unwrap_or_default(),
            keeps,
            stored: AtomicU64::new(0),
            meters,
        }
    }

    pub(crate) fn now(&self) -> Instant {
        self.clock.now()
    }

    pub(crate) fn versions(&self) -> &Versions {
        &self.versions
    }

    /// The hot path: adds no lock and no allocation to the engine's own.
    #[inline]
    pub(crate) fn get(&self, key: &K) -> State<V> {
        let _section = deferred::section();
        let Some(mut entry) = self.engine.get(key) else {
            return State::Useless;
        };
        // The clock is read only where it matters: that costs as much as an engine's own hit.
        let trusted_until = Instant(self.trusted_until.load(Ordering::Acquire));
        let timeless = entry.plain_until == NEVER && trusted_until == NEVER;
        let now = match timeless {
            true => Instant::default(),
            false => self.clock.now(),
        };
        if entry.more.is_none()
            && now < entry.plain_until
            && self.versions.is_current(entry.stamp)
            && (now < trusted_until || now < entry.began.after(self.untrusted_age))
            && let Some(value) = entry.value.take()
        {
            return State::Fresh(value);
        }
        let now = match timeless {
            true => self.clock.now(),
            false => now,
        };
        self.state(entry, now)
    }

    fn is_trusted(&self, entry: &Entry<V>, now: Instant) -> bool {
        now.0 < self.trusted_until.load(Ordering::Acquire)
            || now < entry.began.after(self.untrusted_age)
    }

    fn state(&self, entry: Entry<V>, now: Instant) -> State<V> {
        if !self.versions.are_current(entry.stamp, entry.tags()) {
            return State::Useless;
        }
        if self.is_trusted(&entry, now) {
            return self.policy.state(entry, now);
        }
        // It may have been invalidated, or not: good for failing loaders, if for anything.
        match self.policy.state(entry, now) {
            State::Fresh(value)
            | State::Refresh { value, .. }
            | State::Retained(value)
            | State::Fallback(value)
                if !self.policy.stale_if_error.is_zero() =>
            {
                State::Fallback(value)
            }
            _ => State::Useless,
        }
    }

    /// As [`get`](Self::get), for a key that was just missed: does not count as a use of the
    /// key for the eviction policy unless something is there.
    fn get_again(&self, key: &K) -> Option<Result<Arc<V>, LoadError>> {
        if !self.engine.contains(key) {
            return None;
        }
        match self.get(key) {
            State::Fresh(value) | State::Refresh { value, .. } | State::Retained(value) => {
                Some(Ok(value))
            }
            State::Failed(error) => Some(Err(error)),
            State::Fallback(_) | State::Useless => None,
        }
    }

    /// Finds the entry, joins the load in flight, or lists a new one.
    pub(crate) fn ask(&self, key: &K) -> Asked<K, V> {
        let (flight, receiver) = watch::channel(None);
        drop(receiver);
        let _section = deferred::section();
        let listed = flight.clone();
        let waiter = join(&flight);
        let look = || self.get_again(key);
        match self
            .flights
            .enter(key, &self.versions, look, join, || listed)
        {
            Entered::Found(found) => Asked::Found(found),
            Entered::Joined(waiter, stamp) => Asked::Joined(waiter, stamp),
            Entered::Leads(ticket) => match waiter {
                Some(waiter) => Asked::Leads(ticket, flight, waiter),
                // A flight that was just made is not over.
                None => Asked::Found(Err(LoadError::Closed)),
            },
        }
    }

    /// Lists a load behind an entry that is still served, unless there is one already, or it
    /// has just ended.
    pub(crate) fn ask_behind(&self, key: &K) -> Option<(Ticket<K>, Flight<V>)> {
        let (flight, _) = watch::channel(None);
        let listed = flight.clone();
        let _section = deferred::section();
        let is_renewed = || {
            let entry = self.engine.get(key)?;
            let now = self.clock.now();
            let retained = entry.more.as_ref().is_some_and(|more| now < more.retry_at);
            (retained || now < entry.plain_until).then_some(())
        };
        let joined = |flight: &Flight<V>| join(flight).map(drop);
        match self
            .flights
            .enter(key, &self.versions, is_renewed, joined, || listed)
        {
            Entered::Found(()) | Entered::Joined((), _) => None,
            Entered::Leads(ticket) => Some((ticket, flight)),
        }
    }

    /// The value that a load is to replace.
    pub(crate) fn previous(&self, key: &K) -> Option<Previous<V>> {
        let _section = deferred::section();
        let (entry, now) = (self.engine.get(key)?, self.clock.now());
        let mut entry = self.of_use(entry, now)?;
        Some(Previous {
            tags: entry.tags().iter().map(|t| Arc::clone(t.name())).collect(),
            etag: entry.more.as_ref().and_then(|more| more.etag.clone()),
            value: entry.value.take()?,
        })
    }

    fn of_use(&self, entry: Entry<V>, now: Instant) -> Option<Entry<V>> {
        let of_use = entry.value.is_some()
            && now < entry.useful_until
            && self.versions.are_current(entry.stamp, entry.tags());
        of_use.then_some(entry)
    }

    /// Whether keeping this value would renew the entry that there is, and not only for a moment.
    pub(crate) fn would_renew(&self, key: &K, times: Times) -> bool {
        let _section = deferred::section();
        let now = self.clock.now();
        let mut entry: Entry<V> = Entry::new(None, now, self.versions.now());
        self.policy.set_times(&mut entry, now, times);
        let until = self.engine.get(key).map(|there| there.fresh_until);
        now < entry.plain_until && until.is_none_or(|until| until < entry.fresh_until)
    }

    /// The tags of these names.
    pub(crate) fn tags(&self, names: &[Arc<str>]) -> Arc<[Arc<Tag>]> {
        names.iter().map(|name| self.versions.tag(name)).collect()
    }

    /// Whether nothing has invalidated a value that was loaded from `stamp` on.
    pub(crate) fn are_current(&self, stamp: Stamp, tags: &[Arc<Tag>]) -> bool {
        self.versions.are_current(stamp, tags)
    }

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
            let there = self.engine.get(&key);
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

    /// Ends a load if nobody waits for it.
    pub(crate) fn abandon(&self, ticket: &Ticket<K>) -> bool {
        let _section = deferred::section();
        let unheard = |flight: &Flight<V>| flight.receiver_count() == 0;
        let abandon = || self.flights.finish_if(ticket, unheard, |_| ());
        catch_unwind(AssertUnwindSafe(abandon)).unwrap_or(false)
    }

    pub(crate) fn insert(&self, key: K, kept: Kept<V>) {
        let _section = deferred::section();
        self.flights.supersede(&key.clone(), || {
            self.put(key, kept, self.versions.now());
        });
    }

    fn put(&self, key: K, kept: Kept<V>, stamp: Stamp) {
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
        if entry.useful_until > now {
            self.insert_entry(key, entry);
        } else {
            self.engine.remove(&key);
        }
    }

    fn insert_entry(&self, key: K, entry: Entry<V>) {
        if self.keeps {
            self.engine.insert(key, entry);
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
            let (now, there) = (self.clock.now(), self.engine.get(key));
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

    /// Whether so much was stored since the last sweep that one is due. It goes over all entries,
    /// so that comes to a few entries for each that is stored.
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
            .is_some_and(|won| won.is_ok())
    }

    /// Forgets what is of no use; to be called where it may take a while.
    pub(crate) fn sweep(&self) {
        let _section = deferred::section();
        self.engine.sweep(self.clock.now());
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

impl<K, V> Drop for Table<K, V> {
    fn drop(&mut self) {
        self.meters.forget_entries();
    }
}

#[cfg(test)]
mod tests;
