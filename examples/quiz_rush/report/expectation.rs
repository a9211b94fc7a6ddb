use std::fmt;

use serde::Serialize;

use super::Measured;
use crate::api::{CALLS_PER_SECOND, messages_of};
use crate::args::{Build, Size};
use crate::figure::whole;

/// What the build after is expected to reach, and what it reached.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Expectation {
    /// What is expected.
    pub(crate) expected: String,
    /// What was measured.
    pub(crate) measured: String,
    /// Whether it is met.
    pub(crate) met: bool,
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.met { "met" } else { "MISSED" };
        write!(f, "{word}: {}: {}", self.expected, self.measured)
    }
}

/// The expectations of the builds that ran; none for a rush of another size than the full one,
/// whose lag and saves are bound by other things.
pub(crate) fn expectations(measured: &[Measured], size: Size) -> Vec<Expectation> {
    if size != Size::FULL {
        return Vec::new();
    }
    let find = |build| measured.iter().find(|m: &&Measured| m.build == build);
    let mut all = Vec::new();
    if let Some(after) = find(Build::After) {
        let allowed = messages_of(size) as f64 / f64::from(CALLS_PER_SECOND);
        let lag = after.lag_seconds.map_or(f64::INFINITY, |q| q.max);
        all.push(Expectation {
            expected: format!(
                "lag max after within 10% of the {allowed:.2} s that {CALLS_PER_SECOND} messages/s allow"
            ),
            measured: format!("{lag:.2} s"),
            met: lag <= 1.1 * allowed,
        });
        all.push(Expectation {
            expected: "no message refused after".to_owned(),
            measured: after.refused_429.to_string(),
            met: after.refused_429 == 0,
        });
        let save = after.quiet_save_seconds.unwrap_or(f64::INFINITY);
        all.push(Expectation {
            expected: format!(
                "{} answers saved in under 20 ms when alone",
                whole(f64::from(size.answers))
            ),
            measured: format!("{:.1} ms", 1e3 * save),
            met: save < 0.020,
        });
    }
    if let (Some(before), Some(after)) = (find(Build::Before), find(Build::After)) {
        let fewer = before.commits as f64 / after.commits as f64;
        let allowed = f64::from(size.answers);
        all.push(Expectation {
            expected: format!("at least {} times fewer commits", whole(allowed)),
            measured: format!(
                "{} against {}",
                whole(after.commits as f64),
                whole(before.commits as f64)
            ),
            met: fewer >= allowed,
        });
    }
    all
}
