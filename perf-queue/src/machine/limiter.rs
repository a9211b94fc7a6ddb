use super::Time;
use super::grants::{Before, Grants};

/// How late a slot may be used and still count as used on time, so that the next slots keep
/// their places and the lateness of timers and workers does not add up. Above any timer's usual
/// lateness (tokio's: 1 to 3 ms), and small beside the second or minute that limits are given in.
const CATCH_UP_NANOS: u64 = 50_000_000;

/// A checked [`Rate`](crate::Rate).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pace {
    pub(super) quota: usize,
    pub(super) period: u64,
    /// From one slot to the next: rounded down, since the log keeps the windows exact, and rounded
    /// up some of the rate would stay unused.
    interval: u64,
    /// How far ahead of its slot a grant may go: the burst.
    lead: u64,
}

impl Pace {
    pub(crate) fn new(quota: u32, period: u64, burst: u32) -> Self {
        let interval = period / u64::from(quota.max(1));
        Self {
            quota: quota.max(1) as usize,
            period,
            interval,
            lead: interval * u64::from(burst.saturating_sub(1)),
        }
    }

    /// For who keeps it elsewhere.
    #[cfg(feature = "sqlite")]
    pub(super) const fn parts(&self) -> [u64; 3] {
        [self.quota as u64, self.period, self.lead]
    }

    /// What gave these [`parts`](Self::parts).
    #[cfg(feature = "sqlite")]
    pub(super) fn from_parts([quota, period, lead]: [u64; 3]) -> Self {
        let quota = quota.clamp(1, u32::MAX.into());
        Self {
            quota: quota as usize,
            period,
            interval: period / quota,
            lead,
        }
    }

    /// How far apart grants are, and by how much a later one may have come before its turn, or an
    /// earlier one after it.
    pub(super) const fn spacing(&self) -> (u64, u64) {
        (self.interval, self.lead + CATCH_UP_NANOS)
    }
}

// The machine is made in the user's crate, for the user's types; what it calls for each job has to be
// marked to be inlined there.

/// The grants of one limit. Two rules decide when the next may be:
///
/// - *window*, exact: not before the grant `quota` places back has left the period. This alone
///   makes the limit hold in every window.
/// - *pace*: slots spaced evenly over the period, so that the window is not emptied in one rush.
#[derive(Debug, Clone, Default)]
pub(crate) struct Limiter {
    slot: Time,
    /// The last `quota` grants.
    grants: Grants,
}

impl Limiter {
    /// The earliest instant of the next grant.
    #[inline]
    pub(crate) fn next_at(&self, pace: &Pace) -> Time {
        let paced = self.slot.minus_nanos(pace.lead);
        match self.grants.back(pace.quota) {
            Some(first) => paced.max(first.plus_nanos(pace.period)),
            None => paced,
        }
    }

    /// Notes a grant at `now` of a job that could have gone at `wanted`, were it not for this limit.
    #[inline]
    pub(crate) fn grant(&mut self, pace: &Pace, now: Time, wanted: Time) {
        let slot = self.slot.max(wanted.min(now));
        let on_time = !self.grants.is_none() && slot.plus_nanos(CATCH_UP_NANOS) >= now;
        self.slot = if on_time { slot } else { now }.plus_nanos(pace.interval);
        self.grants.push(pace.quota, now);
    }

    /// When this limiter will be as good as a new one, so that it need not be kept.
    pub(crate) fn fresh_at(&self, pace: &Pace) -> Time {
        match self.grants.newest() {
            Some(last) => last.plus_nanos(pace.period).max(self.slot),
            None => Time::ZERO,
        }
    }

    /// The limit was `old` for all grants after `since`, and is `new` from now on. Past grants
    /// count: as they were noted, or as late as those that are not known any more can have been,
    /// so that the new quota holds in every window that ends after now. `forgotten` are those that
    /// this limiter never knew of.
    pub(super) fn change(
        &mut self,
        [old, new]: [Option<&Pace>; 2],
        since: Time,
        forgotten: Option<Before>,
    ) {
        let Some(new) = new else {
            *self = Self::default();
            return;
        };
        match old {
            Some(old) => {
                self.grants.widen(old, since, forgotten);
                let slot = self.slot.minus_nanos(old.interval);
                if let Some(last) = self.grants.newest() {
                    // Slots taken ahead at the old pace do not bind at the new.
                    self.slot = slot.min(last.plus_nanos(new.lead)).plus_nanos(new.interval);
                }
            }
            None => {
                if let Some(before) = forgotten {
                    self.grants.assume(before);
                }
            }
        }
    }

    /// One that has made these grants, the oldest first.
    #[cfg(feature = "sqlite")]
    pub(super) fn restored(pace: &Pace, slot: Time, grants: impl Iterator<Item = Time>) -> Self {
        let mut limiter = Self {
            slot,
            grants: Grants::default(),
        };
        grants.for_each(|at| limiter.grants.push(pace.quota, at));
        limiter
    }

    /// The grants that count, the newest first, each as late as it can have been.
    #[cfg(feature = "sqlite")]
    pub(super) fn latest(&self, pace: &Pace) -> impl Iterator<Item = Time> {
        (1..=pace.quota).map_while(|n| self.grants.back(n))
    }

    #[cfg(feature = "sqlite")]
    pub(super) fn newest(&self) -> Option<Time> {
        self.grants.newest()
    }

    #[cfg(feature = "sqlite")]
    pub(super) const fn slot(&self) -> Time {
        self.slot
    }

    /// Starts with grants that are not known.
    pub(super) fn assume(&mut self, before: Before) {
        self.grants.assume(before);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const MS: u64 = 1_000_000;

    fn ms(n: u64) -> Time {
        Time::at(Duration::from_millis(n))
    }

    fn pace(quota: u32, burst: u32) -> Pace {
        Pace::new(quota, 1_000 * MS, burst)
    }

    #[test]
    fn without_burst_grants_are_evenly_spaced() {
        let (p, mut l) = (pace(200, 1), Limiter::default());
        let mut now = ms(0);
        for i in 0..600 {
            now = now.max(l.next_at(&p));
            assert_eq!(now, ms(5 * i));
            l.grant(&p, now, ms(0));
        }
    }

    #[test]
    fn a_late_grant_does_not_move_the_slots_after_it() {
        let (p, mut l) = (pace(200, 1), Limiter::default());
        l.grant(&p, ms(0), ms(0));
        l.grant(&p, ms(17), ms(0)); // due at 5
        assert_eq!(l.next_at(&p), ms(10));
        l.grant(&p, ms(17), ms(0));
        l.grant(&p, ms(17), ms(0)); // due at 15
        assert_eq!(l.next_at(&p), ms(20));
    }

    #[test]
    fn a_slot_missed_by_more_than_the_tolerance_is_given_up() {
        let (p, mut l) = (pace(200, 1), Limiter::default());
        l.grant(&p, ms(0), ms(0));
        l.grant(&p, ms(56), ms(0)); // due at 5
        assert_eq!(l.next_at(&p), ms(61));
    }

    #[test]
    fn a_slot_that_nobody_wanted_is_not_caught_up() {
        let (p, mut l) = (pace(200, 1), Limiter::default());
        l.grant(&p, ms(0), ms(0));
        l.grant(&p, ms(40), ms(40));
        assert_eq!(l.next_at(&p), ms(45));
    }

    #[test]
    fn a_burst_goes_at_once_and_the_window_still_holds() {
        let (p, mut l) = (pace(10, 10), Limiter::default());
        for _ in 0..10 {
            assert!(l.next_at(&p) <= ms(0));
            l.grant(&p, ms(0), ms(0));
        }
        assert_eq!(l.next_at(&p), ms(1_000));
        assert_eq!(l.fresh_at(&p), ms(1_000));
    }
}
