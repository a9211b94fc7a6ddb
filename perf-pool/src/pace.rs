use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A value's part in the mean: the last ten or so count.
const WEIGHT: f64 = 0.1;

/// How long something took lately: an exponentially weighted mean.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// In nanoseconds; zero while nothing is known. A value that is lost in a race does no harm.
    mean: AtomicU64,
}

impl Pace {
    pub(crate) fn note(&self, time: Duration) {
        let time = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).max(1);
        let mean = match self.mean.load(Ordering::Relaxed) {
            0 => time,
            mean => (mean as f64 + WEIGHT * (time as f64 - mean as f64)) as u64,
        };
        self.mean.store(mean.max(1), Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> Option<Duration> {
        match self.mean.load(Ordering::Relaxed) {
            0 => None,
            mean => Some(Duration::from_nanos(mean)),
        }
    }
}

/// How many callers are served by those who have `out` connections before a handshake would be
/// over, if each use takes as long as lately, or as the longest of now if that is longer.
pub(crate) fn returns_within(
    handshake: Duration,
    lately: Duration,
    longest: Duration,
    out: usize,
) -> usize {
    let each = lately.max(longest).as_secs_f64();
    let returns = out as f64 * handshake.as_secs_f64() / each;
    // Of zero over zero nothing is known.
    if returns.is_nan() {
        0
    } else {
        returns as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_mean_follows_what_happens() {
        let pace = Pace::default();
        assert_eq!(pace.get(), None);
        pace.note(100 * MS);
        assert_eq!(pace.get(), Some(100 * MS));
        for _ in 0..100 {
            pace.note(MS);
        }
        assert!(pace.get().unwrap() < 2 * MS);
        pace.note(Duration::MAX);
        assert!(pace.get().unwrap() > Duration::from_secs(1));
    }

    #[test]
    fn what_is_held_for_long_serves_nobody_soon() {
        assert_eq!(returns_within(100 * MS, MS, MS, 4), 400);
        assert_eq!(returns_within(5 * MS, 100 * MS, MS, 2), 0);
        assert_eq!(returns_within(5 * MS, MS, 10_000 * MS, 4), 0);
        assert_eq!(returns_within(5 * MS, MS, MS, 0), 0);
        assert_eq!(
            returns_within(Duration::ZERO, Duration::ZERO, Duration::ZERO, 1),
            0
        );
    }
}
