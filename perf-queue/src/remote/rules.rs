//! The rules of a queue that is being built, and as text.

#[cfg(any(feature = "sqlite", feature = "postgres"))]
use std::time::Duration;

#[cfg(any(feature = "sqlite", feature = "postgres"))]
use serde_json::{Value, json};

use super::{Quota, Rules};
use crate::backend::{Limits, Parts};
use crate::{Rate, Scope};

impl From<Rate> for Quota {
    fn from(rate: Rate) -> Self {
        let (quota, period, burst) = rate.parts();
        Self {
            quota,
            period,
            burst,
        }
    }
}

impl From<Limits> for Rules {
    fn from(limits: Limits) -> Self {
        Self {
            queue: limits.queue.map(Quota::from),
            key: limits.key.map(Quota::from),
            concurrency_per_key: limits.concurrency_per_key,
        }
    }
}

impl<T, K> Parts<T, K> {
    /// What is to be set when the queue is built: a builder that names no limit leaves those that are
    /// stored with the queue.
    pub(crate) fn rules(&self) -> Option<Rules> {
        let rules = Rules::from(self.limits);
        (rules != Rules::default()).then_some(rules)
    }
}

impl Rules {
    /// With one limit alone.
    pub(crate) fn of(scope: Scope, rate: Option<Quota>) -> Self {
        let mut rules = Self::default();
        rules.limit(scope, rate);
        rules
    }

    pub(crate) const fn limit(&mut self, scope: Scope, rate: Option<Quota>) {
        match scope {
            Scope::Queue => self.queue = rate,
            Scope::Key => self.key = rate,
        }
    }

    /// Takes over from a builder what differs from the last one.
    #[cfg(feature = "sqlite")]
    pub(crate) fn build(&mut self, new: Self, last: Self) {
        if new.queue != last.queue {
            self.queue = new.queue;
        }
        if new.key != last.key {
            self.key = new.key;
        }
        if new.concurrency_per_key != last.concurrency_per_key {
            self.concurrency_per_key = new.concurrency_per_key;
        }
    }
}

#[cfg(any(feature = "sqlite", feature = "postgres"))]
impl Rules {
    /// The rules exactly as they were given, to be read by all processes.
    pub(crate) fn to_text(self) -> String {
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
        json!([quota(self.queue), quota(self.key), self.concurrency_per_key]).to_string()
    }

    pub(crate) fn from_text(text: &str) -> Option<Self> {
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
        Some(Self {
            queue: quota(value.get(0)?)?,
            key: quota(value.get(1)?)?,
            concurrency_per_key: match concurrency {
                Value::Null => None,
                other => Some(u32::try_from(other.as_u64()?).ok()?),
            },
        })
    }
}

impl From<Rules> for Limits {
    fn from(rules: Rules) -> Self {
        let rate = |quota: Quota| Rate::new(quota.quota, quota.period).burst(quota.burst);
        Self {
            queue: rules.queue.map(rate),
            key: rules.key.map(rate),
            concurrency_per_key: rules.concurrency_per_key,
        }
    }
}

#[cfg(all(test, any(feature = "sqlite", feature = "postgres")))]
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
            assert_eq!(Rules::from_text(&rules.to_text()), Some(rules));
        }
    }
}
