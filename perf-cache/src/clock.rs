use std::time::Duration;

/// Nanoseconds since the cache was built, by tokio's monotonic clock, which a test may pause. Eight
/// bytes, and compared in one instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Instant(pub(crate) u64);

/// The end of time, in 584 years.
pub(crate) const NEVER: Instant = Instant(u64::MAX);

impl Instant {
    pub(crate) fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanos(duration)))
    }

    pub(crate) fn before(self, duration: Duration) -> Self {
        if self == NEVER {
            return NEVER;
        }
        Self(self.0.saturating_sub(nanos(duration)))
    }

    pub(crate) fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The clock of a cache.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock(tokio::time::Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(tokio::time::Instant::now())
    }

    #[inline]
    pub(crate) fn now(self) -> Instant {
        self.at(tokio::time::Instant::now())
    }

    #[inline]
    pub(crate) fn at(self, instant: tokio::time::Instant) -> Instant {
        let since = instant.saturating_duration_since(self.0);
        // Not `as_nanos`: that is 128 bits wide, and this is on the path of every hit.
        Instant(since.as_secs() * 1_000_000_000 + u64::from(since.subsec_nanos()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_saturate() {
        assert_eq!(Instant(5).after(Duration::MAX), NEVER);
        assert_eq!(NEVER.before(Duration::from_secs(1)), NEVER);
        assert_eq!(Instant(5).before(Duration::from_secs(1)), Instant(0));
        assert_eq!(Instant(5).since(Instant(9)), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn the_clock_is_tokios() {
        let clock = Clock::start();
        tokio::time::advance(Duration::from_millis(1_500)).await;
        assert_eq!(clock.now(), Instant(1_500_000_000));
    }
}
