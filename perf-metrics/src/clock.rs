//! The clock of the timings: the processor's cycle counter where it is steady, else the system's.

use std::sync::OnceLock;
use std::time::Duration;

use quanta::Clock;

#[inline]
fn clock() -> &'static Clock {
    static CLOCK: OnceLock<Clock> = OnceLock::new();
    CLOCK.get_or_init(Clock::new)
}

/// Calibrates the clock, once in a process, so that no request has to wait for it.
pub(crate) fn calibrate() {
    clock();
}

/// A moment, as the clock's raw reading; never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Instant(u64);

impl Instant {
    #[inline]
    pub(crate) fn now() -> Self {
        Self(clock().raw().max(1))
    }

    /// The reading, from which [`from_raw`](Self::from_raw) makes the same moment.
    #[inline]
    pub(crate) fn raw(self) -> u64 {
        self.0
    }

    #[inline]
    pub(crate) fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    /// The nanoseconds from this moment to `later`; zero where that seems to be before, as cycle
    /// counters of two processors can be a few cycles apart.
    #[inline]
    pub(crate) fn nanos_until(self, later: Self) -> u64 {
        clock().delta_as_nanos(self.0, later.0)
    }

    /// The time from this moment to `later`, or zero.
    pub(crate) fn until(self, later: Self) -> Duration {
        Duration::from_nanos(self.nanos_until(later))
    }

    /// The nanoseconds since this moment.
    #[inline]
    pub(crate) fn elapsed_nanos(self) -> u64 {
        self.nanos_until(Self::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_runs_as_fast_as_the_systems() {
        calibrate();
        let (outer, start) = (std::time::Instant::now(), Instant::now());
        let inner = std::time::Instant::now();
        std::thread::sleep(Duration::from_millis(20));
        let least = inner.elapsed();
        let elapsed = Duration::from_nanos(start.elapsed_nanos());
        let most = outer.elapsed();
        let slack = Duration::from_millis(1);
        assert!(
            least <= elapsed + slack && elapsed <= most + slack,
            "{least:?} {elapsed:?} {most:?}"
        );
    }
}
