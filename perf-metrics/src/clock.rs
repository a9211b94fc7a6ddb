//! The clock of the timings: the processor's cycle counter where it is steady, else the system's.

use std::sync::OnceLock;
use std::time::Duration;

use quanta::Clock;

struct Source {
    clock: Clock,
    /// The seconds between two successive readings.
    tick: f64,
}

#[inline]
fn source() -> &'static Source {
    static SOURCE: OnceLock<Source> = OnceLock::new();
    SOURCE.get_or_init(|| {
        const TICKS: u64 = 1 << 40;
        let clock = Clock::new();
        let nanos = clock.delta_as_nanos(0, TICKS);
        Source {
            clock,
            tick: nanos as f64 / TICKS as f64 * 1e-9,
        }
    })
}

/// Calibrates the clock, once in a process, so that no request has to wait for it.
pub(crate) fn calibrate() {
    source();
}

/// A moment, as the clock's raw reading; never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Instant(u64);

impl Instant {
    #[inline]
    pub(crate) fn now() -> Self {
        Self(source().clock.raw().max(1))
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

    /// The time from this moment to `later`; zero where that seems to be before, as cycle counters
    /// of two processors can be a few cycles apart.
    pub(crate) fn until(self, later: Self) -> Duration {
        Duration::from_nanos(source().clock.delta_as_nanos(self.0, later.0))
    }

    /// The seconds since this moment, or zero, likewise.
    #[inline]
    pub(crate) fn elapsed_seconds(self) -> f64 {
        let source = source();
        let ticks = source.clock.raw().saturating_sub(self.0);
        // No reading is beyond 2^63, and signed numbers are converted in one instruction.
        ticks.cast_signed() as f64 * source.tick
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
        let elapsed = Duration::from_secs_f64(start.elapsed_seconds());
        let until = start.until(Instant::now());
        let most = outer.elapsed();
        let slack = Duration::from_millis(1);
        assert!(
            least <= elapsed + slack && elapsed <= most + slack,
            "{least:?} {elapsed:?} {most:?}"
        );
        assert!(elapsed <= until + slack && until <= elapsed + 10 * slack);
    }
}
