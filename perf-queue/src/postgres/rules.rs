use std::time::Duration;

use serde_json::{Value, json};

use crate::remote::{Quota, Rules};

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

/// The rules exactly as they were given, to be read by all processes.
pub(super) fn to_text(rules: &Rules) -> String {
    let quota = |quota: Option<Quota>| {
        quota.map(|q| {
            json!([
                q.quota,
                q.period.as_secs(),
                q.period.subsec_nanos(),
                q.burst
            ])
        })
    };
    json!([
        quota(rules.queue),
        quota(rules.key),
        rules.concurrency_per_key
    ])
    .to_string()
}

pub(super) fn from_text(text: &str) -> Option<Rules> {
    let value: Value = serde_json::from_str(text).ok()?;
    let quota = |value: &Value| -> Option<Option<Quota>> {
        if value.is_null() {
            return Some(None);
        }
        let int = |i| value.get(i).and_then(Value::as_u64);
        Some(Some(Quota {
            quota: u32::try_from(int(0)?).ok()?,
            period: Duration::new(int(1)?, u32::try_from(int(2)?).ok()?),
            burst: u32::try_from(int(3)?).ok()?,
        }))
    };
    let concurrency = value.get(2)?;
    Some(Rules {
        queue: quota(value.get(0)?)?,
        key: quota(value.get(1)?)?,
        concurrency_per_key: match concurrency {
            Value::Null => None,
            other => Some(u32::try_from(other.as_u64()?).ok()?),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_kept_to_the_nanosecond() {
        let quota = Quota {
            quota: 3,
            period: Duration::new(u64::MAX / 2, 7),
            burst: 2,
        };
        for rules in [
            Rules::default(),
            Rules {
                queue: Some(quota),
                key: None,
                concurrency_per_key: Some(4),
            },
            Rules {
                queue: None,
                key: Some(quota),
                concurrency_per_key: None,
            },
        ] {
            assert_eq!(from_text(&to_text(&rules)), Some(rules));
        }
    }

    #[test]
    fn a_time_is_never_rounded_to_less() {
        assert_eq!(micros_up(Duration::from_nanos(1_001)), 2);
        assert_eq!(micros_up(Duration::from_nanos(1_000)), 1);
        assert_eq!(micros_up(Duration::MAX), FOREVER);
    }
}
