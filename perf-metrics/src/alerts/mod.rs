//! Rules for Prometheus, made from the budgets and thresholds of a service.

mod cache;
mod errors;
mod latency;
mod options;
mod plan;
mod promql;
mod resources;
mod rule;
mod service;
mod unanswered;
mod yaml;

use crate::Monitor;

use rule::Group;

pub use options::AlertOptions;

pub(crate) use cache::hit_ratio;
pub(crate) use latency::over_budget;
pub(crate) use plan::Plan;

/// What the tests of the rules take the rules to be named.
const RULES_FILE: &str = "rules.yml";

impl Monitor {
    /// A file of rules for Prometheus, in YAML: alerts made from the
    /// [budgets](crate::MonitorBuilder::budget) and
    /// [thresholds](crate::MonitorBuilder::thresholds), and the recording rules beneath them.
    ///
    /// Each alert has the label `severity`, `warning` or `critical`, and the annotations `summary`,
    /// `description` and `runbook`. None of those on requests and reads fires without traffic, or for
    /// a single request; but one caller that waits in vain for a connection is enough for
    /// `PoolTimeouts`.
    pub fn alert_rules(&self) -> String {
        let plan = Plan::of(self);
        yaml::rules(&plan, &groups(&plan))
    }

    /// The unit tests of exactly these [rules](Self::alert_rules), for `promtool test rules`: each
    /// alert fires in one and is silent in others. They look for the rules in `rules.yml` beside
    /// them.
    pub fn alert_tests(&self) -> String {
        let plan = Plan::of(self);
        yaml::tests(&plan, &groups(&plan))
    }
}

fn groups(plan: &Plan<'_>) -> Vec<Group> {
    vec![
        errors::group(plan),
        latency::group(plan),
        unanswered::group(plan),
        service::group(plan),
        resources::pool(plan),
        resources::queue(plan),
        cache::group(plan),
    ]
}
