//! A clock that costs a quarter of the exact one, and is a little behind it.

#[cfg(target_os = "linux")]
pub(super) use linux::Coarse;
#[cfg(not(target_os = "linux"))]
pub(super) use none::Coarse;

#[cfg(target_os = "linux")]
mod linux {
    use std::time::Duration;

    use rustix::time::{ClockId, Timespec, clock_getres, clock_gettime};

    use crate::clock::{Instant, nanos};

    /// How far behind it is taken to be. A kernel ticks every 1 to 10 ms; the rest is for a
    /// processor that is late to tick, as those of busy virtual machines are.
    pub(super) const BEHIND: Duration = Duration::from_millis(200);

    /// `CLOCK_MONOTONIC_COARSE`: where the exact clock was at the kernel's last tick, without a
    /// look at the processor's counter, which is what takes the time.
    #[derive(Debug, Clone, Copy)]
    pub(in crate::clock) struct Coarse {
        /// What is added to its nanoseconds since boot, `BEHIND` and the start in one.
        ahead: i64,
    }

    impl Coarse {
        /// Goes along with an exact clock that is started right after; `None` if the kernel's
        /// ticks are too far apart.
        pub(in crate::clock) fn start() -> Option<Self> {
            let tick = since_boot(clock_getres(ClockId::MonotonicCoarse));
            let behind = nanos(BEHIND).cast_signed();
            (tick <= behind / 10).then(|| Self {
                ahead: behind - since_boot(clock_gettime(ClockId::Monotonic)),
            })
        }

        #[inline]
        pub(in crate::clock) fn is_surely_before(self, deadline: Instant) -> bool {
            let now = since_boot(clock_gettime(ClockId::MonotonicCoarse)) + self.ahead;
            // Not negative, though it may be a tick before the start: `BEHIND` is longer.
            now.cast_unsigned() < deadline.0
        }
    }

    #[inline]
    fn since_boot(time: Timespec) -> i64 {
        time.tv_sec * 1_000_000_000 + time.tv_nsec
    }
}

/// The exact clock is not asked for where there is another.
#[cfg(not(target_os = "linux"))]
mod none {
    use crate::clock::Instant;

    #[derive(Debug, Clone, Copy)]
    pub(in crate::clock) enum Coarse {}

    impl Coarse {
        pub(in crate::clock) fn start() -> Option<Self> {
            None
        }

        pub(in crate::clock) fn is_surely_before(self, _: Instant) -> bool {
            match self {}
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::time::Duration;

    use super::linux::BEHIND;
    use crate::clock::Clock;

    #[test]
    fn what_is_surely_not_over_is_not_over_and_what_ends_soon_is_never_sure() {
        let clock = Clock::start_unpausable();
        let began = std::time::Instant::now();
        // Over many ticks of the kernel.
        while began.elapsed() < Duration::from_millis(100) {
            let soon = clock.now().after(BEHIND.mul_f32(0.5));
            assert!(!clock.is_surely_before(soon.before(BEHIND)));
            let sure = clock.is_surely_before(soon);
            // The exact clock is read later, so what it says is only the stronger.
            assert!(!sure || clock.now() < soon);
            let far = clock.now().after(BEHIND + Duration::from_secs(1));
            assert!(clock.is_surely_before(far));
        }
    }
}
