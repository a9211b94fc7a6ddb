mod coarse;

use std::time::Duration;

use coarse::Coarse;

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

/// Longer than any process runs. A moment this far ahead can still be counted, a `Duration::MAX` ahead
/// it cannot.
const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 3_600);

/// Some time after a moment of tokio's clock, or as good as never.
pub(crate) fn later(moment: tokio::time::Instant, by: Duration) -> tokio::time::Instant {
    moment + by.min(FAR)
}

/// The clock of a cache.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    start: tokio::time::Instant,
    coarse: Option<Coarse>,
}

impl Clock {
    pub(crate) fn start() -> Self {
        let coarse = match PAUSABLE {
            // It would go on while tokio's clock stands still, and not see it jump.
            true => None,
            false => Coarse::start(),
        };
        Self {
            start: tokio::time::Instant::now(),
            coarse,
        }
    }

    /// The one of builds in which tokio's cannot be paused, where tests are not.
    #[cfg(test)]
    pub(crate) fn start_unpausable() -> Self {
        Self {
            coarse: Coarse::start(),
            ..Self::start()
        }
    }

    #[inline]
    pub(crate) fn now(self) -> Instant {
        self.at(tokio::time::Instant::now())
    }

    /// Whether it is earlier than `deadline`, by a clock that costs a quarter of `now`. It knows
    /// only when the deadline is far enough: `false` may also mean that it has to be looked up.
    #[inline]
    pub(crate) fn is_surely_before(self, deadline: Instant) -> bool {
        deadline == NEVER || (self.coarse).is_some_and(|coarse| coarse.is_surely_before(deadline))
    }

    #[inline]
    pub(crate) fn at(self, instant: tokio::time::Instant) -> Instant {
        let since = instant.saturating_duration_since(self.start);
        // Not `as_nanos`: that is 128 bits wide, and this is on the path of every hit.
        Instant(since.as_secs() * 1_000_000_000 + u64::from(since.subsec_nanos()))
    }
}

/// Whether tokio was built with its feature `test-util`, so that its clock can be paused.
///
/// Features of a dependency cannot be asked for. But tokio has a function `pause` only with this
/// one, and a name that an import of everything does not bring is looked for further out.
const PAUSABLE: bool = {
    #[allow(unused_imports, reason = "without the feature nothing of it is used")]
    use tokio::time::*;
    self::answer(pause)
};

/// Instead of tokio's, of another type.
#[allow(dead_code, reason = "with the feature tokio's is found")]
const fn pause() -> No {
    No
}

struct No;

trait Answer {
    const ANSWER: bool;
}

impl Answer for No {
    const ANSWER: bool = false;
}

/// What tokio's returns.
impl Answer for () {
    const ANSWER: bool = true;
}

const fn answer<A: Answer>(_: fn() -> A) -> bool {
    A::ANSWER
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

    #[test]
    fn a_moment_that_never_comes_can_be_counted() {
        let clock = Clock::start();
        let never = later(tokio::time::Instant::now(), Duration::MAX);
        assert!(clock.at(never) > clock.now().after(FAR / 2) && clock.at(never) < NEVER);
    }

    #[tokio::test(start_paused = true)]
    async fn the_clock_is_tokios() {
        let clock = Clock::start();
        assert!(PAUSABLE && clock.coarse.is_none());
        tokio::time::advance(Duration::from_millis(1_500)).await;
        assert_eq!(clock.now(), Instant(1_500_000_000));
        assert!(!clock.is_surely_before(Instant(NEVER.0 - 1)));
        assert!(clock.is_surely_before(NEVER));
    }
}
