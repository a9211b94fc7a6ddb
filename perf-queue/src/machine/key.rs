use super::list::List;
use super::{Limiter, Pace, Time};

/// Where a key is; always in exactly one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// None of its jobs is due.
    Idle,
    /// In the ring: its first job may run now, as far as the key is concerned.
    Ready,
    /// Waits for its limit, for the end of a penalty or for the retry at its head.
    Timer,
    /// As many of its jobs run as may.
    Parked,
}

/// What the machine knows of a key. Dropped as soon as a new one would behave the same.
#[derive(Debug)]
pub(super) struct Key<K> {
    pub(super) name: K,
    pub(super) list: List,
    pub(super) place: Place,
    pub(super) in_flight: u32,
    /// Jobs of this key that are not due yet and wait outside of its list.
    pub(super) scheduled: u32,
    /// Nothing of this key starts before.
    pub(super) hold: Time,
    /// When the key was last released from `Parked`.
    pub(super) unparked: Time,
    pub(super) limiter: Limiter,
    /// Its own limit, instead of that of the rules.
    pub(super) pace: Option<Box<Pace>>,
    /// The ring has an entry for this key; it can outlive `Place::Ready`.
    pub(super) in_ring: bool,
    /// When the entry in the timers is due that will look at this key, `NEVER` if there is none.
    pub(super) timer: Time,
    /// The timers for dropping have an entry for this key.
    pub(super) fading: bool,
}

impl<K> Key<K> {
    pub(super) fn new(name: K, pace: Option<Pace>) -> Self {
        Self {
            name,
            list: List::EMPTY,
            place: Place::Idle,
            in_flight: 0,
            scheduled: 0,
            hold: Time::ZERO,
            unparked: Time::ZERO,
            limiter: Limiter::default(),
            pace: pace.map(Box::new),
            in_ring: false,
            timer: Time::NEVER,
            fading: false,
        }
    }

    /// Its limit, where the rules say `common` for all keys without one of their own.
    #[inline]
    pub(super) fn pace<'a>(&'a self, common: Option<&'a Pace>) -> Option<&'a Pace> {
        self.pace.as_deref().or(common)
    }

    /// When the limit allows the next job.
    #[inline]
    pub(super) fn next_at(&self, common: Option<&Pace>) -> Time {
        self.pace(common)
            .map_or(Time::ZERO, |pace| self.limiter.next_at(pace))
    }

    /// When the next job may start, its concurrency aside.
    #[inline]
    pub(super) fn open_at(&self, common: Option<&Pace>) -> Time {
        self.hold.max(self.next_at(common))
    }

    #[inline]
    pub(super) fn is_unused(&self) -> bool {
        self.list.is_empty() && self.in_flight == 0 && self.scheduled == 0 && !self.in_ring
    }

    /// When the key, once unused, differs in nothing from a new one. `forgotten` is the last grant
    /// that a new one would have to count with.
    pub(super) fn fresh_at(&self, common: Option<&Pace>, forgotten: Option<Time>) -> Time {
        let Some(pace) = self.pace(common) else {
            return self.hold;
        };
        let forgotten = forgotten.map_or(Time::ZERO, |last| last.plus_nanos(pace.period));
        self.hold.max(forgotten).max(self.limiter.fresh_at(pace))
    }
}
