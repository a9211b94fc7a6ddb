mod keep;

use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::LoadError;
use crate::clock::{Clock, Instant, NEVER};
use crate::core::flights::{Entered, Flights, Ticket};
use crate::core::versions::{Stamp, Tag, Versions};
use crate::deferred;
use crate::engine::{Engines, Hold};
use crate::entry::{Entry, TagList};
use crate::flight::{Flight, Waiter};
use crate::policy::{Policy, State, Times};
use crate::value::Previous;
use foldhash::quality::RandomState;

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
    /// Entries stored since it was last looked whether a sweep is due.
    stored: AtomicU64,
    /// Before this moment no entry can have ended, so there is nothing to sweep.
    ends_from: AtomicU64,
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
    pub(crate) tags: TagList,
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
            ends_from: AtomicU64::new(NEVER.0),
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
        if !self.keeps {
            return State::Useless;
        }
        // Looked at where it is: moving it would take longer than all the rest.
        let mut found = self.engine.get(key);
        let Some(entry) = &mut found else {
            return State::Useless;
        };
        let trusted_until = Instant(self.trusted_until.load(Ordering::Acquire));
        // Where other processes' invalidations count, by the exact clock: that is a promise.
        if entry.more.is_none()
            && self.versions.is_current(entry.stamp)
            && trusted_until == NEVER
            && self.clock.is_surely_before(entry.plain_until)
            && let Some(value) = entry.value.take()
        {
            // Nothing is left in it.
            std::mem::forget(found);
            return State::Fresh(value);
        }
        let now = self.clock.now();
        if entry.more.is_none()
            && self.versions.is_current(entry.stamp)
            && now < entry.plain_until
            && (now < trusted_until || now < entry.began.after(self.untrusted_age))
            && let Some(value) = entry.value.take()
        {
            return State::Fresh(value);
        }
        found.map_or(State::Useless, |entry| self.state(entry, now))
    }

    /// Whether what began to be loaded then may be served, as far as other processes are concerned.
    fn is_trusted(&self, began: Instant, now: Instant) -> bool {
        now.0 < self.trusted_until.load(Ordering::Acquire) || now < began.after(self.untrusted_age)
    }

    fn state(&self, entry: Entry<V>, now: Instant) -> State<V> {
        if !self.versions.are_current(entry.stamp, entry.tags()) {
            return State::Useless;
        }
        if self.is_trusted(entry.began, now) {
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
        if !self.keeps || !self.engine.contains(key) {
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
        let flight = Flight::new(self.clock.now());
        let _section = deferred::section();
        let listed = flight.clone();
        let waiter = flight.first();
        let look = || self.get_again(key);
        let join = |flight: &Flight<V>| match self.is_trusted(flight.began, self.clock.now()) {
            true => flight.join(),
            // Another process may have invalidated the key since it began.
            false => None,
        };
        match self
            .flights
            .enter(key, &self.versions, look, join, || listed)
        {
            Entered::Found(found) => Asked::Found(found),
            Entered::Joined(waiter, stamp) => Asked::Joined(waiter, stamp),
            Entered::Leads(ticket) => Asked::Leads(ticket, flight, waiter),
        }
    }

    /// Lists a load behind an entry that is still served, unless there is one already, or it
    /// has just ended.
    pub(crate) fn ask_behind(&self, key: &K) -> Option<(Ticket<K>, Flight<V>)> {
        let flight = Flight::new(self.clock.now());
        let listed = flight.clone();
        let _section = deferred::section();
        let is_renewed = || {
            let entry = self.engine.peek(key)?;
            let now = self.clock.now();
            let retained = entry.more.as_ref().is_some_and(|more| now < more.retry_at);
            (retained || now < entry.plain_until).then_some(())
        };
        let joined = |flight: &Flight<V>| flight.join().map(drop);
        match self
            .flights
            .enter(key, &self.versions, is_renewed, joined, || listed)
        {
            Entered::Found(()) | Entered::Joined((), _) => None,
            Entered::Leads(ticket) => Some((ticket, flight)),
        }
    }

    /// How many loads are listed.
    #[cfg(all(test, feature = "redis"))]
    pub(crate) fn loads(&self) -> usize {
        self.flights.len()
    }

    /// The value that a load is to replace.
    pub(crate) fn previous(&self, key: &K) -> Option<Previous<V>> {
        let _section = deferred::section();
        let (entry, now) = (self.engine.peek(key)?, self.clock.now());
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
        let until = self.engine.peek(key).map(|there| there.fresh_until);
        now < entry.plain_until && until.is_none_or(|until| until < entry.fresh_until)
    }

    /// The tags of these names.
    pub(crate) fn tags(&self, names: &[Arc<str>]) -> TagList {
        names.iter().map(|name| self.versions.tag(name)).collect()
    }

    /// Whether nothing has invalidated a value that was loaded from `stamp` on.
    pub(crate) fn are_current(&self, stamp: Stamp, tags: &[Arc<Tag>]) -> bool {
        self.versions.are_current(stamp, tags)
    }
}

impl<K, V> Drop for Table<K, V> {
    fn drop(&mut self) {
        self.meters.forget_entries();
    }
}

#[cfg(test)]
mod tests;
