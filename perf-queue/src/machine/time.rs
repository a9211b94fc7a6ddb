use std::time::Duration;

/// Nanoseconds since the queue was built. The machine never reads a clock: it is told the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Time(u64);

impl Time {
    pub(crate) const ZERO: Self = Self(0);

    /// A time `d` after the start; times beyond 584 years are all the same to us.
    pub(crate) fn at(d: Duration) -> Self {
        Self(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX))
    }

    pub(crate) fn plus(self, d: Duration) -> Self {
        self.plus_nanos(Self::at(d).0)
    }

    pub(crate) fn plus_nanos(self, nanos: u64) -> Self {
        Self(self.0.saturating_add(nanos))
    }

    pub(crate) fn minus_nanos(self, nanos: u64) -> Self {
        Self(self.0.saturating_sub(nanos))
    }

    /// The time passed since `earlier`, zero if it lies ahead.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The time passed since the start.
    pub(crate) fn elapsed(self) -> Duration {
        Duration::from_nanos(self.0)
    }
}
