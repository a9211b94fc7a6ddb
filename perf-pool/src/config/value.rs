//! How settings are written.

use std::marker::PhantomData;
use std::str::FromStr;
use std::time::Duration;

use crate::Profile;
#[cfg(feature = "postgres")]
use crate::{BudgetCheck, Pooler, PoolerStatements};

/// A way to write a value.
pub(super) trait Notation {
    type Value;

    /// What to write, for who wrote something else.
    const EXPECTED: &'static str;

    fn parse(text: &str) -> Option<Self::Value>;
}

pub(super) struct Text;

impl Notation for Text {
    type Value = String;
    const EXPECTED: &'static str = "a text";

    fn parse(text: &str) -> Option<String> {
        Some(text.to_owned())
    }
}

/// A number of things, of which there must be one.
pub(super) struct Count;

impl Notation for Count {
    type Value = u32;
    const EXPECTED: &'static str = "a whole number above 0, such as 50";

    fn parse(text: &str) -> Option<u32> {
        CountOrZero::parse(text).filter(|&count| count > 0)
    }
}

/// A number of things that there need not be.
pub(super) struct CountOrZero<N = u32>(PhantomData<N>);

impl<N: FromStr> Notation for CountOrZero<N> {
    type Value = N;
    const EXPECTED: &'static str = "a whole number, such as 50";

    fn parse(text: &str) -> Option<N> {
        text.parse().ok()
    }
}

/// A part of a whole.
pub(super) struct Part;

impl Notation for Part {
    type Value = f64;
    const EXPECTED: &'static str = "a number from 0 to 1, such as 0.1";

    fn parse(text: &str) -> Option<f64> {
        let part = text.parse().ok()?;
        (0.0..=1.0).contains(&part).then_some(part)
    }
}

/// A time that must pass.
pub(super) struct Span;

impl Notation for Span {
    type Value = Duration;
    const EXPECTED: &'static str = "a duration above 0 with its unit, such as 500ms, 30s or 1h 30m";

    fn parse(text: &str) -> Option<Duration> {
        SpanOrZero::parse(text).filter(|span| !span.is_zero())
    }
}

/// A time that need not pass.
pub(super) struct SpanOrZero;

impl Notation for SpanOrZero {
    type Value = Duration;
    const EXPECTED: &'static str = "a duration with its unit, such as 500ms, 30s or 1h 30m";

    fn parse(text: &str) -> Option<Duration> {
        humantime::parse_duration(text).ok()
    }
}

/// A time after which something happens, if it does at all.
pub(super) struct SpanOrNone;

impl Notation for SpanOrNone {
    type Value = Option<Duration>;
    const EXPECTED: &'static str = "a duration above 0 with its unit, such as 500ms, 30s or \
                                    1h 30m, or none to switch it off";

    fn parse(text: &str) -> Option<Option<Duration>> {
        match text {
            "none" => Some(None),
            text => Span::parse(text).map(Some),
        }
    }
}

/// One of a few words.
macro_rules! words {
    ($type:ident, $expected:literal, $($word:literal => $variant:ident,)*) => {
        impl Notation for $type {
            type Value = Self;
            const EXPECTED: &'static str = $expected;

            fn parse(text: &str) -> Option<Self> {
                match text {
                    $($word => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

words! {
    Profile, "low, moderate or high",
    "low" => Low,
    "moderate" => Moderate,
    "high" => High,
}

#[cfg(feature = "postgres")]
words! {
    Pooler, "direct, pgbouncer-session or pgbouncer-transaction",
    "direct" => Direct,
    "pgbouncer-session" => PgBouncerSession,
    "pgbouncer-transaction" => PgBouncerTransaction,
}

#[cfg(feature = "postgres")]
words! {
    PoolerStatements, "prepared or raw-sql",
    "prepared" => Prepared,
    "raw-sql" => RawSql,
}

#[cfg(feature = "postgres")]
words! {
    BudgetCheck, "off, warn or error",
    "off" => Off,
    "warn" => Warn,
    "error" => Error,
}
