use std::time::Duration;

use crate::BuildError;
use crate::machine::Pace;

/// The largest quota of a [`Rate`]: the instants of that many grants are kept, 8 bytes each.
const MAX_QUOTA: u32 = 1_000_000;

/// How many jobs may start in a period: at most `quota` in **every** half-open window of the
/// length of the period, wherever that window begins.
///
/// Within it, starts are evenly paced unless [`burst`](Self::burst) allows more at once. Checked
/// when the queue is built: quota from 1 to 1,000,000, period above zero, burst from 1 to the quota.
///
/// ```
/// use perf_queue::Rate;
/// use std::time::Duration;
///
/// let a = Rate::per_second(200);                              // one every 5 ms
/// let b = Rate::new(20, Duration::from_secs(60)).burst(20);   // 20 at once, then wait
/// # let _ = (a, b);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    quota: u32,
    period: Duration,
    burst: u32,
}

impl Rate {
    /// `quota` jobs in any `period`, evenly paced.
    ///
    /// A late start cannot be made up for without breaking the limit in some window, and tokio's
    /// timer has a resolution of 1 ms: with a period below 200 ms, expect less than 98% of the rate.
    #[must_use]
    pub const fn new(quota: u32, period: Duration) -> Self {
        Self {
            quota,
            period,
            burst: 1,
        }
    }

    /// `quota` jobs in any second.
    #[must_use]
    pub const fn per_second(quota: u32) -> Self {
        Self::new(quota, Duration::from_secs(1))
    }

    /// `quota` jobs in any minute.
    #[must_use]
    pub const fn per_minute(quota: u32) -> Self {
        Self::new(quota, Duration::from_secs(60))
    }

    /// Lets up to `jobs` start at once, still within the quota of every window. Defaults to 1,
    /// which spaces the starts evenly.
    #[must_use]
    pub const fn burst(mut self, jobs: u32) -> Self {
        self.burst = jobs;
        self
    }

    #[cfg(any(feature = "postgres", feature = "redis"))]
    pub(crate) const fn parts(self) -> (u32, Duration, u32) {
        (self.quota, self.period, self.burst)
    }

    /// Checks the rate given for `option`.
    pub(crate) fn pace(self, option: &'static str) -> Result<Pace, BuildError> {
        let nanos = u64::try_from(self.period.as_nanos()).unwrap_or(u64::MAX);
        let reason = if self.quota == 0 {
            "the quota is 0, so no job could ever start: give at least 1"
        } else if self.quota > MAX_QUOTA {
            "the quota is above 1000000: give the same rate over a shorter period"
        } else if nanos == 0 {
            "the period is zero: give at least a nanosecond"
        } else if self.burst == 0 || self.burst > self.quota {
            "the burst must be from 1 to the quota"
        } else {
            return Ok(Pace::new(self.quota, nanos, self.burst));
        };
        Err(BuildError::Rate {
            option,
            rate: self,
            reason,
        })
    }
}
