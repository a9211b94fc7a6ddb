use std::time::Duration;

/// Nanoseconds since the queue was built, negative for what was before. The machine never reads a
/// clock: it is told the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Time(i64);

impl Time {
    pub(crate) const ZERO: Self = Self(0);

    /// Earlier than any time that matters.
    pub(crate) const LONG_AGO: Self = Self(i64::MIN);

    /// Later than any time that comes.
    pub(crate) const NEVER: Self = Self(i64::MAX);

    /// A time `d` after the start; times beyond 292 years are all the same to us.
    #[inline]
    pub(crate) fn at(d: Duration) -> Self {
        Self::ZERO.plus(d)
    }

    /// A time `d` before this one, which may lie before the start: jobs may have been enqueued then.
    #[cfg(any(test, feature = "sqlite"))]
    pub(crate) fn before(self, d: Duration) -> Self {
        self.minus_nanos(nanos(d))
    }

    #[inline]
    pub(crate) fn plus(self, d: Duration) -> Self {
        self.plus_nanos(nanos(d))
    }

    #[inline]
    pub(crate) fn plus_nanos(self, nanos: u64) -> Self {
        Self(self.0.saturating_add_unsigned(nanos))
    }

    #[inline]
    pub(crate) fn minus_nanos(self, nanos: u64) -> Self {
        Self(self.0.saturating_sub_unsigned(nanos))
    }

    /// So many nanoseconds after this one, or before.
    #[cfg(feature = "sqlite")]
    pub(crate) const fn offset(self, nanos: i64) -> Self {
        Self(self.0.saturating_add(nanos))
    }

    /// What leads here from `other` by [`offset`](Self::offset).
    #[cfg(feature = "sqlite")]
    pub(crate) const fn offset_from(self, other: Self) -> i64 {
        self.0.saturating_sub(other.0)
    }

    /// The time passed since `earlier`, zero if it lies ahead.
    #[inline]
    pub(crate) fn since(self, earlier: Self) -> Duration {
        let nanos = i128::from(self.0) - i128::from(earlier.0);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
    }

    /// The time passed since the start, zero for what was before.
    #[inline]
    pub(crate) fn elapsed(self) -> Duration {
        self.since(Self::ZERO)
    }
}

#[inline]
fn nanos(d: Duration) -> u64 {
    u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)
}
