use super::jobs::List;
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
    /// The ring has an entry for this key; it can outlive `Place::Ready`.
    pub(super) in_ring: bool,
    /// The entry in the timers that will look at this key.
    pub(super) timer: Option<Time>,
    /// The timers for dropping have an entry for this key.
    pub(super) fading: bool,
}

impl<K> Key<K> {
    pub(super) fn new(name: K) -> Self {
        Self {
            name,
            list: List::EMPTY,
            place: Place::Idle,
            in_flight: 0,
            scheduled: 0,
            hold: Time::ZERO,
            unparked: Time::ZERO,
            limiter: Limiter::default(),
            in_ring: false,
            timer: None,
            fading: false,
        }
    }

    /// When the next job may start, its concurrency aside.
    pub(super) fn open_at(&self, pace: Option<&Pace>) -> Time {
        pace.map_or(self.hold, |pace| self.hold.max(self.limiter.next_at(pace)))
    }

    pub(super) fn is_unused(&self) -> bool {
        self.list.len == 0 && self.in_flight == 0 && self.scheduled == 0 && !self.in_ring
    }

    /// When the key, once unused, differs in nothing from a new one.
    pub(super) fn fresh_at(&self, pace: Option<&Pace>) -> Time {
        pace.map_or(self.hold, |pace| self.hold.max(self.limiter.fresh_at(pace)))
    }
}
