use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};

/// How often, and after which waits, a batch is tried again that failed for a reason that passes:
/// a deadlock, a serialization failure, a busy or starting database, a lost connection.
///
/// The wait before attempt `n + 1` is drawn evenly between zero and `min_delay * 2^(n - 1)`, at
/// most `max_delay` ("full jitter": writers that failed together do not come back together).
///
/// A batch that may be retried is written so that the outcome of a lost COMMIT can be found out:
/// on Postgres by the transaction's id, on any database by
/// [`commit_marker`](crate::BulkInsert::commit_marker). Where it cannot, the batch is not retried
/// and the error is [`BatchError::CommitUnknown`](crate::BatchError::CommitUnknown).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    attempts: u32,
    min_delay: Duration,
    max_delay: Duration,
    resolve_timeout: Duration,
}

impl Retry {
    /// Tries up to `retries` more times. 0 tries nothing again, but finds out what became of a lost
    /// COMMIT.
    #[must_use]
    pub const fn transient(retries: u32) -> Self {
        Self {
            attempts: retries,
            min_delay: Duration::from_millis(20),
            max_delay: Duration::from_secs(2),
            resolve_timeout: Duration::from_secs(10),
        }
    }

    /// The most the first wait can last. Defaults to 20 ms, several times what a deadlock's other
    /// transaction needs to end.
    #[must_use]
    pub const fn min_delay(mut self, delay: Duration) -> Self {
        self.min_delay = delay;
        self
    }

    /// The most any wait can last. Defaults to 2 s.
    #[must_use]
    pub const fn max_delay(mut self, delay: Duration) -> Self {
        self.max_delay = delay;
        self
    }

    /// How long the outcome of a lost COMMIT is asked for, reconnecting included. Defaults to 10 s.
    #[must_use]
    pub const fn resolve_timeout(mut self, timeout: Duration) -> Self {
        self.resolve_timeout = timeout;
        self
    }

    pub(crate) fn resolve_within(&self) -> Duration {
        self.resolve_timeout
    }

    /// The waits before the retries.
    pub(crate) fn delays(&self) -> impl Iterator<Item = Duration> + Send + use<> {
        ExponentialBuilder::new()
            .with_min_delay(self.min_delay)
            .with_max_delay(self.max_delay)
            .with_max_times(self.attempts as usize)
            .build()
            .map(|ceiling| ceiling.mul_f64(fastrand::f64()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_spread_below_a_doubling_ceiling() {
        let retry = Retry::transient(6)
            .min_delay(Duration::from_millis(10))
            .max_delay(Duration::from_millis(50));
        let ceilings = [10, 20, 40, 50, 50, 50].map(Duration::from_millis);
        let mut longest = [Duration::ZERO; 6];
        for _ in 0..500 {
            let waits: Vec<Duration> = retry.delays().collect();
            assert_eq!(waits.len(), 6);
            for (at, wait) in waits.into_iter().enumerate() {
                assert!(wait <= ceilings[at], "{wait:?} before retry {at}");
                longest[at] = longest[at].max(wait);
            }
        }
        for (longest, ceiling) in longest.into_iter().zip(ceilings) {
            assert!(longest > ceiling.mul_f64(0.9), "{longest:?} of {ceiling:?}");
        }
    }

    #[test]
    fn no_retries_have_no_waits() {
        assert_eq!(Retry::transient(0).delays().count(), 0);
    }
}
