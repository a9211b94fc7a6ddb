use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::CheckKind;
use super::check::Outcome;

/// The outcome of some checks.
#[derive(Debug, Serialize)]
pub(in crate::monitor) struct Report {
    status: Status,
    service: String,
    uptime_seconds: f64,
    checks: BTreeMap<String, CheckReport>,
}

/// The outcome of one check.
#[derive(Debug, Serialize)]
struct CheckReport {
    status: Status,
    kind: &'static str,
    /// How long it took.
    seconds: f64,
    /// How long ago it ended.
    age_seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    Ok,
    Unhealthy,
}

impl Status {
    fn of(healthy: bool) -> Self {
        if healthy { Self::Ok } else { Self::Unhealthy }
    }
}

impl Report {
    pub(super) fn new(
        service: &str,
        uptime: Duration,
        checks: BTreeMap<String, (CheckKind, Outcome)>,
    ) -> Self {
        let report = |(kind, outcome): (CheckKind, Outcome)| CheckReport {
            status: Status::of(outcome.error.is_none()),
            kind: kind.name(),
            seconds: outcome.took.as_secs_f64(),
            age_seconds: outcome.ended.elapsed().as_secs_f64(),
            error: outcome.error,
        };
        let checks = checks.into_iter();
        let checks: BTreeMap<_, _> = checks.map(|(name, it)| (name, report(it))).collect();
        Self {
            status: Status::of(checks.values().all(|check| check.status == Status::Ok)),
            service: service.to_owned(),
            uptime_seconds: uptime.as_secs_f64(),
            checks,
        }
    }

    pub(in crate::monitor) fn healthy(&self) -> bool {
        self.status == Status::Ok
    }

    /// Leaves the texts of the errors out, which may show what the public should not see.
    pub(in crate::monitor) fn without_errors(mut self) -> Self {
        for check in self.checks.values_mut() {
            check.error = None;
        }
        self
    }
}
