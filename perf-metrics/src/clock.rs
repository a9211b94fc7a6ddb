//! The clock of the timings: the processor's cycle counter where it is steady, else the system's.

use std::sync::OnceLock;
use std::time::Duration;

use quanta::Clock;

fn clock() -> &'static Clock {
    static CLOCK: OnceLock<Clock> = OnceLock::new();
    CLOCK.get_or_init(Clock::new)
}

/// Calibrates the clock, once in a process, so that no request has to wait for it.
pub(crate) fn calibrate() {
    clock();
}

/// A moment, as the clock's raw reading.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Instant(u64);

impl Instant {
    pub(crate) fn now() -> Self {
        Self(clock().raw())
    }

    /// The time since this moment; zero where the clock seems to have gone back, as cycle counters
    /// of two processors can be a few cycles apart.
    pub(crate) fn elapsed(self) -> Duration {
        let clock = clock();
        Duration::from_nanos(clock.delta_as_nanos(self.0, clock.raw()))
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
        let elapsed = start.elapsed();
        let most = outer.elapsed();
        let slack = Duration::from_millis(1);
        assert!(
            least <= elapsed + slack && elapsed <= most + slack,
            "{least:?} {elapsed:?} {most:?}"
        );
    }
}
