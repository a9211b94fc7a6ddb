use std::ops::Range;
use std::time::Duration;

use crate::BuildError;

/// When a failed job is tried again, and how often.
///
/// The wait before attempt `n + 1` is drawn evenly between zero and `min * 2^(n - 1)`, at most
/// `max` ("full jitter": it spreads jobs that failed together better than any narrower range).
/// Defaults to `exponential(1 s..5 min)` with 10 attempts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    max_attempts: u32,
}

impl Backoff {
    /// Waits of up to `range.start` after the first failure, doubling with each failure up to
    /// `range.end`.
    #[must_use]
    pub const fn exponential(range: Range<Duration>) -> Self {
        Self {
            min: range.start,
            max: range.end,
            max_attempts: 10,
        }
    }

    /// How many attempts a job has in all; after the last it goes to the dead letters. 1 means
    /// that nothing is tried again. Defaults to 10.
    #[must_use]
    pub const fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = attempts;
        self
    }

    /// How many attempts a job has in all.
    #[cfg(any(feature = "sqlite", feature = "postgres", feature = "redis"))]
    pub(crate) const fn attempts(&self) -> u32 {
        self.max_attempts
    }

    pub(crate) fn check(&self) -> Result<(), BuildError> {
        let reason = if self.max_attempts == 0 {
            "max_attempts is 0: give at least 1"
        } else if self.min > self.max {
            "the range ends before it starts"
        } else {
            return Ok(());
        };
        Err(BuildError::Backoff { reason })
    }

    /// The wait after the failed attempt number `attempt`, or `None` if it was the last.
    pub(crate) fn delay(&self, attempt: u32) -> Option<Duration> {
        if attempt >= self.max_attempts {
            return None;
        }
        let ceiling = nanos(self.ceiling(attempt));
        Some(Duration::from_nanos(fastrand::u64(0..=ceiling)))
    }

    fn ceiling(&self, attempt: u32) -> Duration {
        let doublings = attempt.saturating_sub(1).min(63);
        let ceiling = u128::from(nanos(self.min)) << doublings;
        Duration::from_nanos(u64::try_from(ceiling).unwrap_or(u64::MAX)).min(self.max)
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::exponential(Duration::from_secs(1)..Duration::from_secs(300))
    }
}

fn nanos(d: Duration) -> u64 {
    u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ceiling_doubles_from_min_to_max() {
        let b = Backoff::exponential(Duration::from_secs(1)..Duration::from_secs(10));
        let secs: Vec<u64> = (1..=6).map(|n| b.ceiling(n).as_secs()).collect();
        assert_eq!(secs, [1, 2, 4, 8, 10, 10]);
        assert_eq!(b.ceiling(u32::MAX).as_secs(), 10);
    }

    #[test]
    fn waits_are_spread_below_the_ceiling() {
        let b = Backoff::exponential(Duration::from_secs(1)..Duration::from_secs(10));
        let waits: Vec<Duration> = (0..1_000).filter_map(|_| b.delay(3)).collect();
        assert_eq!(waits.len(), 1_000);
        assert!(waits.iter().all(|w| *w <= Duration::from_secs(4)));
        let low = waits
            .iter()
            .filter(|w| **w < Duration::from_secs(2))
            .count();
        assert!((350..650).contains(&low), "{low} of 1000 in the lower half");
    }

    #[test]
    fn the_last_attempt_has_no_wait() {
        let b = Backoff::default().max_attempts(3);
        assert!(b.delay(2).is_some());
        assert!(b.delay(3).is_none());
    }
}
