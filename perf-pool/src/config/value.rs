use std::time::Duration;

use crate::Profile;
#[cfg(feature = "postgres")]
use crate::{BudgetCheck, Pooler, PoolerStatements};

/// How a setting is written.
pub(super) trait Value: Sized {
    /// What to write, for who wrote something else.
    const EXPECTED: &'static str;

    fn parse(text: &str) -> Option<Self>;
}

impl Value for u32 {
    const EXPECTED: &'static str = "a whole number, such as 50";

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Value for usize {
    const EXPECTED: &'static str = u32::EXPECTED;

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Value for f64 {
    const EXPECTED: &'static str = "a number, such as 0.1";

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Value for String {
    const EXPECTED: &'static str = "a text";

    fn parse(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }
}

impl Value for Duration {
    const EXPECTED: &'static str = "a duration with its unit, such as 500ms, 30s or 1h 30m";

    fn parse(text: &str) -> Option<Self> {
        humantime::parse_duration(text).ok()
    }
}

impl Value for Option<Duration> {
    const EXPECTED: &'static str =
        "a duration with its unit, such as 500ms, 30s or 1h 30m, or none to switch it off";

    fn parse(text: &str) -> Option<Self> {
        match text {
            "none" => Some(None),
            text => Duration::parse(text).map(Some),
        }
    }
}

impl Value for Profile {
    const EXPECTED: &'static str = "low, moderate or high";

    fn parse(text: &str) -> Option<Self> {
        match text {
            "low" => Some(Self::Low),
            "moderate" => Some(Self::Moderate),
            "high" => Some(Self::High),
            _ => None,
        }
    }
}

#[cfg(feature = "postgres")]
impl Value for Pooler {
    const EXPECTED: &'static str = "direct, pgbouncer-session or pgbouncer-transaction";

    fn parse(text: &str) -> Option<Self> {
        match text {
            "direct" => Some(Self::Direct),
            "pgbouncer-session" => Some(Self::PgBouncerSession),
            "pgbouncer-transaction" => Some(Self::PgBouncerTransaction),
            _ => None,
        }
    }
}

#[cfg(feature = "postgres")]
impl Value for PoolerStatements {
    const EXPECTED: &'static str = "prepared or raw-sql";

    fn parse(text: &str) -> Option<Self> {
        match text {
            "prepared" => Some(Self::Prepared),
            "raw-sql" => Some(Self::RawSql),
            _ => None,
        }
    }
}

#[cfg(feature = "postgres")]
impl Value for BudgetCheck {
    const EXPECTED: &'static str = "off, warn or error";

    fn parse(text: &str) -> Option<Self> {
        match text {
            "off" => Some(Self::Off),
            "warn" => Some(Self::Warn),
            "error" => Some(Self::Error),
            _ => None,
        }
    }
}
