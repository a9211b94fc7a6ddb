//! The clock of the timings: the processor's cycle counter where it is steady, else the system's.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use quanta::Clock;

/// Between two comparisons of the clock with the system's: long, so that a comparison is exact.
const COMPARED_EVERY: Duration = Duration::from_secs(10);
/// Comparisons that differ by no more than this share agree.
const AGREE: f64 = 1e-4;
/// The time that reading both clocks may take, of which a comparison is wrong at most.
const BOTH: Duration = Duration::from_micros(100);

struct Source {
    clock: Clock,
    /// The bits of the seconds between two successive readings.
    tick: AtomicU64,
    speed: Mutex<Speed>,
}

#[inline]
fn source() -> &'static Source {
    static SOURCE: OnceLock<Source> = OnceLock::new();
    SOURCE.get_or_init(|| {
        const TICKS: u64 = 1 << 40;
        let clock = Clock::new();
        let nanos = clock.delta_as_nanos(0, TICKS);
        let tick = nanos as f64 / TICKS as f64 * 1e-9;
        Source {
            tick: AtomicU64::new(tick.to_bits()),
            speed: Mutex::new(Speed {
                at: (std::time::Instant::now(), clock.raw()),
                tick: None,
            }),
            clock,
        }
    })
}

impl Source {
    #[inline]
    fn tick(&self) -> f64 {
        f64::from_bits(self.tick.load(Relaxed))
    }

    /// Both clocks at one moment, unless the thread was interrupted between.
    fn both(&self) -> Option<(std::time::Instant, u64)> {
        let (raw, now) = (self.clock.raw(), std::time::Instant::now());
        let took = self.clock.raw().saturating_sub(raw) as f64 * self.tick();
        (took <= BOTH.as_secs_f64()).then_some((now, raw))
    }
}

/// How fast the clock is, by the system's.
struct Speed {
    /// Both clocks at the last comparison.
    at: (std::time::Instant, u64),
    /// The tick of the time before it.
    tick: Option<f64>,
}

impl Speed {
    /// The tick since the last comparison, if that of the time before agrees: not after a machine
    /// slept, where one of the clocks may have gone on.
    fn compare(&mut self, (now, raw): (std::time::Instant, u64)) -> Option<f64> {
        let (then, before) = std::mem::replace(&mut self.at, (now, raw));
        let ticks = raw.saturating_sub(before) as f64;
        let tick = Some(now.saturating_duration_since(then).as_secs_f64() / ticks);
        let tick = tick.filter(|tick| tick.is_normal());
        let last = std::mem::replace(&mut self.tick, tick);
        let agree = |tick: &f64| last.is_some_and(|last| (tick / last - 1.0).abs() <= AGREE);
        tick.filter(agree)
    }
}

/// Calibrates the clock, once in a process, so that no request has to wait for it.
pub(crate) fn calibrate() {
    source();
}

/// Compares the clock with the system's, if the last time is some seconds ago, and goes by what two
/// comparisons agree on: the calibration is short, and a virtual machine may move to another
/// processor.
pub(crate) fn compare() {
    let source = source();
    let Ok(mut speed) = source.speed.try_lock() else {
        return;
    };
    if speed.at.0.elapsed() >= COMPARED_EVERY
        && let Some(both) = source.both()
        && let Some(tick) = speed.compare(both)
    {
        source.tick.store(tick.to_bits(), Relaxed);
    }
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

    #[cfg(test)]
    pub(crate) fn plus(self, time: Duration) -> Self {
        Self(self.0 + (time.as_secs_f64() / source().tick()).ceil() as u64)
    }

    /// The time from this moment to `later`; zero where that seems to be before, as cycle counters
    /// of two processors can be a few cycles apart.
    pub(crate) fn until(self, later: Self) -> Duration {
        let seconds = later.0.saturating_sub(self.0) as f64 * source().tick();
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }

    /// The seconds since this moment, or zero, likewise.
    #[inline]
    pub(crate) fn elapsed_seconds(self) -> f64 {
        let source = source();
        let ticks = source.clock.raw().saturating_sub(self.0);
        // No reading is beyond 2^63, and signed numbers are converted in one instruction.
        ticks.cast_signed() as f64 * source.tick()
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
        assert!(elapsed <= until + slack && until <= most + slack);
    }

    #[test]
    fn a_comparison_with_the_systems_clock_finds_the_same_speed() {
        let source = source();
        let both = || loop {
            if let Some(both) = source.both() {
                return both;
            }
        };
        let (at, tick) = (both(), None);
        let mut speed = Speed { at, tick };
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(speed.compare(both()), None);
        let measured = speed.tick.unwrap() / source.tick();
        assert!((measured - 1.0).abs() < 0.01, "{measured}");
    }

    #[test]
    fn a_new_speed_counts_once_two_comparisons_agree_and_a_sleep_does_not() {
        let mut now = (std::time::Instant::now(), 1_000);
        let mut speed = Speed {
            at: now,
            tick: None,
        };
        let mut after = |seconds, ticks| {
            now = (now.0 + Duration::from_secs(seconds), now.1 + ticks);
            let tick = speed.compare(now)?;
            Some((tick * 1e12).round())
        };
        assert_eq!(after(10, 10_000_000_000), None);
        assert_eq!(after(20, 20_000_000_000), Some(1000.0));
        // The counter goes on while the machine sleeps, or stands still.
        assert_eq!(after(10, 9_000_000_000_000), None);
        assert_eq!(after(10, 10_000_000_000), None);
        assert_eq!(after(10, 10_000_000_000), Some(1000.0));
        assert_eq!(after(10, 0), None);
        // Another processor.
        assert_eq!(after(10, 20_000_000_000), None);
        assert_eq!(after(10, 20_000_000_000), Some(500.0));
    }
}
