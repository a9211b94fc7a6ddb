use std::fmt;
use std::sync::Arc;
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

    #[cfg(any(feature = "sqlite", feature = "postgres", feature = "redis"))]
    pub(crate) const fn parts(self) -> (u32, Duration, u32) {
        (self.quota, self.period, self.burst)
    }

    /// Checks the rate given for `option`.
    pub(crate) fn pace(self, option: &'static str) -> Result<Pace, BuildError> {
        let reason = if self.quota == 0 {
            "the quota is 0, so no job could ever start: give at least 1"
        } else if self.quota > MAX_QUOTA {
            "the quota is above 1000000: give the same rate over a shorter period"
        } else if self.period.is_zero() {
            "the period is zero: give at least a nanosecond"
        } else if self.burst == 0 || self.burst > self.quota {
            "the burst must be from 1 to the quota"
        } else {
            return Ok(self.nearest());
        };
        Err(BuildError::Rate {
            option,
            rate: self,
            reason,
        })
    }

    /// The nearest valid rate.
    fn valid(self) -> Self {
        let quota = self.quota.clamp(1, MAX_QUOTA);
        Self {
            quota,
            period: self.period.max(Duration::from_nanos(1)),
            burst: self.burst.clamp(1, quota),
        }
    }

    fn nearest(self) -> Pace {
        let Self {
            quota,
            period,
            burst,
        } = self.valid();
        let nanos = u64::try_from(period.as_nanos()).unwrap_or(u64::MAX);
        Pace::new(quota, nanos, burst)
    }
}

/// How many jobs of each key may start: the same [`Rate`] for all keys, or one by a closure over the
/// job, from which it can tell what kind of key it is.
///
/// ```
/// use perf_queue::{Rate, RatePerKey};
///
/// struct Send { chat: i64 }
///
/// let a: RatePerKey<Send> = Rate::per_second(1).into();
/// let b = RatePerKey::from(|m: &Send| match m.chat {
///     ..0 => Rate::per_minute(20),                            // groups
///     _ => Rate::per_second(1),                               // users
/// });
/// # let _ = (a, b);
/// ```
///
/// The closure is called once a job, at the enqueue, in the thread that enqueues. It should give
/// the same rate for all jobs of a key: if it does not, the rate of the job that was enqueued last
/// counts, and the key waits for one of its periods first, unless it was idle for one of the old. A rate
/// that is not valid becomes the
/// nearest that is: a quota of 0 is one of 1, a burst above the quota is the quota, a period of
/// zero is a nanosecond.
///
/// On a server the rate goes there along with the job, and is kept with the key for all processes.
/// [`set_rate_limit_per_key`](crate::Queue::set_rate_limit_per_key) replaces it for the jobs that are
/// there; the next one that is enqueued brings its own again.
pub struct RatePerKey<T>(Kind<T>);

enum Kind<T> {
    Same(Rate),
    By(Arc<RateOf<T>>),
}

type RateOf<T> = dyn Fn(&T) -> Rate + Send + Sync;

impl<T> From<Rate> for RatePerKey<T> {
    fn from(rate: Rate) -> Self {
        Self(Kind::Same(rate))
    }
}

impl<T, F> From<F> for RatePerKey<T>
where
    F: Fn(&T) -> Rate + Send + Sync + 'static,
{
    fn from(rate: F) -> Self {
        Self(Kind::By(Arc::new(rate)))
    }
}

impl<T> RatePerKey<T> {
    /// The rate of all keys, where it is one.
    pub(crate) fn same(&self) -> Option<Rate> {
        match &self.0 {
            Kind::Same(rate) => Some(*rate),
            Kind::By(_) => None,
        }
    }

    /// The limit of the job's key, where that is not the common one.
    pub(crate) fn own(&self, job: &T) -> Option<Pace> {
        match &self.0 {
            Kind::Same(_) => None,
            Kind::By(rate) => Some(rate(job).nearest()),
        }
    }

    /// The same, for a server.
    #[cfg(any(feature = "postgres", feature = "redis"))]
    pub(crate) fn quota(&self, job: &T) -> Option<crate::remote::Quota> {
        match &self.0 {
            Kind::Same(_) => None,
            Kind::By(rate) => Some(rate(job).valid().into()),
        }
    }
}

impl<T> Clone for RatePerKey<T> {
    fn clone(&self) -> Self {
        Self(match &self.0 {
            Kind::Same(rate) => Kind::Same(*rate),
            Kind::By(rate) => Kind::By(Arc::clone(rate)),
        })
    }
}

impl<T> fmt::Debug for RatePerKey<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Same(rate) => rate.fmt(f),
            Kind::By(_) => f.write_str("by job"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Job {
        chat: i64,
    }

    fn per_key(rate: impl Into<RatePerKey<Job>>) -> RatePerKey<Job> {
        rate.into()
    }

    #[test]
    fn one_rate_is_that_of_all_keys() {
        let rate = per_key(Rate::per_second(7));
        assert_eq!(rate.same(), Some(Rate::per_second(7)));
        assert_eq!(rate.own(&Job { chat: 1 }), None);
    }

    #[test]
    fn a_closure_gives_each_key_its_own() {
        let rate = per_key(|job: &Job| match job.chat {
            ..0 => Rate::per_minute(20),
            _ => Rate::per_second(1),
        });
        assert_eq!(rate.same(), None);
        let own = |chat| rate.own(&Job { chat });
        assert_eq!(own(-1), Some(Pace::new(20, 60_000_000_000, 1)));
        assert_eq!(own(1), Some(Pace::new(1, 1_000_000_000, 1)));
    }

    #[test]
    fn an_invalid_rate_of_a_closure_becomes_the_nearest_valid_one() {
        let rate = per_key(|_: &Job| Rate::new(0, Duration::ZERO).burst(0));
        assert_eq!(rate.own(&Job { chat: 0 }), Some(Pace::new(1, 1, 1)));
        let rate = per_key(|_: &Job| Rate::new(u32::MAX, Duration::MAX).burst(u32::MAX));
        let nearest = Pace::new(MAX_QUOTA, u64::MAX, MAX_QUOTA);
        assert_eq!(rate.own(&Job { chat: 0 }), Some(nearest));
    }
}
