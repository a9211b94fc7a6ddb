use std::time::Duration;

use crate::remote::Quota;

/// Far from what could overflow in sums of times, in microseconds: 285 years.
const FOREVER: i64 = i64::MAX / 1_024;

pub(super) fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).map_or(FOREVER, |micros| micros.min(FOREVER))
}

/// Rounded up, so that what must take this long does.
pub(super) fn micros_up(time: Duration) -> i64 {
    micros(time.saturating_add(Duration::from_nanos(999)))
}

pub(super) fn duration(micros: i64) -> Duration {
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

/// A quota as the functions of the schema count.
pub(super) struct Columns {
    pub(super) quota: Option<i32>,
    pub(super) period: Option<i64>,
    pub(super) burst: Option<i32>,
}

impl Columns {
    pub(super) fn of(quota: Option<&Quota>) -> Self {
        let int = |n: u32| i32::try_from(n.max(1)).unwrap_or(i32::MAX);
        Self {
            quota: quota.map(|q| int(q.quota)),
            period: quota.map(|q| micros_up(q.period)),
            burst: quota.map(|q| int(q.burst)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_never_rounded_to_less() {
        assert_eq!(micros_up(Duration::from_nanos(1_001)), 2);
        assert_eq!(micros_up(Duration::from_nanos(1_000)), 1);
        assert_eq!(micros_up(Duration::MAX), FOREVER);
    }
}
