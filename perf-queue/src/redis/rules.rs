//! The rules as Redis keeps them: once as they were given, and once as the scripts use them.

use std::time::Duration;

use redis::Cmd;

use super::remote::micros;
use crate::remote::{Quota, Rules};

/// The rules in one line: quota, nanoseconds of the period and burst, of the queue, then of a key;
/// then the concurrency. A dash for none.
pub(super) fn write(rules: &Rules) -> String {
    let quota = |quota: Option<Quota>| match quota {
        Some(Quota {
            quota,
            period,
            burst,
        }) => format!("{quota}/{}/{burst}", period.as_nanos()),
        None => "-".to_owned(),
    };
    let concurrency = match rules.concurrency_per_key {
        Some(n) => n.to_string(),
        None => "-".to_owned(),
    };
    format!("{} {} {concurrency}", quota(rules.queue), quota(rules.key))
}

pub(super) fn read(line: &str) -> Option<Rules> {
    let mut words = line.split(' ');
    let (queue, key, concurrency) = (words.next()?, words.next()?, words.next()?);
    Some(Rules {
        queue: unless_dash(queue, read_quota)?,
        key: unless_dash(key, read_quota)?,
        concurrency_per_key: unless_dash(concurrency, |n| n.parse().ok())?,
    })
}

fn unless_dash<T>(word: &str, read: impl Fn(&str) -> Option<T>) -> Option<Option<T>> {
    if word == "-" {
        Some(None)
    } else {
        read(word).map(Some)
    }
}

fn read_quota(word: &str) -> Option<Quota> {
    let mut parts = word.split('/');
    let (quota, nanos, burst) = (parts.next()?, parts.next()?, parts.next()?);
    let nanos: u128 = nanos.parse().ok()?;
    let seconds = u64::try_from(nanos / 1_000_000_000).ok()?;
    Some(Quota {
        quota: quota.parse().ok()?,
        period: Duration::new(seconds, (nanos % 1_000_000_000) as u32),
        burst: burst.parse().ok()?,
    })
}

/// The arguments of `lua/set_rules.lua`, but for the last.
pub(super) fn arguments(rules: &Rules, call: &mut Cmd) {
    call.arg(write(rules));
    match rules.concurrency_per_key {
        Some(n) => call.arg(n),
        None => call.arg(""),
    };
    for quota in [rules.queue, rules.key] {
        match quota {
            Some(quota) => numbers(quota, call),
            None => {
                call.arg(&["", "", "", ""]);
            }
        }
    }
}

/// From one slot to the next, how far a slot may be ahead, and the quota and the length of the window.
fn numbers(quota: Quota, call: &mut Cmd) {
    let Numbers {
        step,
        lead,
        quota,
        period,
    } = Numbers::of(quota);
    call.arg(step).arg(lead).arg(quota).arg(period);
}

/// A limit in microseconds.
pub(super) struct Numbers {
    pub(super) step: u64,
    pub(super) lead: u64,
    pub(super) quota: u32,
    pub(super) period: u64,
}

impl Numbers {
    pub(super) fn of(rate: Quota) -> Self {
        let (quota, period) = (rate.quota.max(1), micros(rate.period).max(1));
        let step = period.div_ceil(u64::from(quota));
        Self {
            step,
            lead: step * u64::from(rate.burst.saturating_sub(1)),
            quota,
            period,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_read_as_they_were_written() {
        let quota = |nanos| Quota {
            quota: 30,
            period: Duration::from_nanos(nanos),
            burst: 7,
        };
        for rules in [
            Rules::default(),
            Rules {
                queue: Some(quota(1_000_000_001)),
                key: None,
                concurrency_per_key: Some(1),
            },
            Rules {
                queue: None,
                key: Some(Quota {
                    period: Duration::MAX,
                    ..quota(1)
                }),
                concurrency_per_key: None,
            },
        ] {
            assert_eq!(read(&write(&rules)), Some(rules));
        }
        assert_eq!(read("1/2 - -"), None);
    }
}
