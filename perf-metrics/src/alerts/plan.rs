use std::time::Duration;

use super::promql::{duration, literally, quote};
use crate::Monitor;
use crate::budget::{Budget, Objectives};
use crate::timing::{METHOD, METHODS, ROUTE};

/// The labels of one method of a route.
pub(super) const BY_ROUTE: &str = "job, http_request_method, http_route";

/// What all rules of a service are made from.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) objectives: &'a Objectives,
    pub(crate) job: &'a str,
}

impl<'a> Plan<'a> {
    pub(crate) fn of(monitor: &'a Monitor) -> Self {
        let objectives = monitor.objectives();
        let job = objectives.alerts.job.as_deref();
        Self {
            objectives,
            job: job.unwrap_or(monitor.service()),
        }
    }

    /// `time`, scaled, to take a rate over; not less than four scrapes, as one may be lost and two
    /// are needed.
    pub(super) fn window(&self, time: Duration) -> Duration {
        self.scaled(time)
            .max(4 * self.objectives.alerts.scrape_interval)
    }

    /// `time`, scaled.
    pub(super) fn scaled(&self, time: Duration) -> Duration {
        let ms = time.as_millis() as f64 * self.objectives.alerts.time_scale;
        Duration::from_millis(ms.round() as u64)
    }

    /// The five minutes over which most rates are taken.
    pub(crate) fn short(&self) -> Duration {
        self.window(Duration::from_secs(300))
    }

    /// A selector of this job's series.
    pub(crate) fn select(&self, metric: &str, more: &str) -> String {
        let comma = if more.is_empty() { "" } else { "," };
        format!("{metric}{{job={}{comma}{more}}}", quote(self.job))
    }

    /// A rate of this job's series, over a window.
    pub(super) fn rate(&self, metric: &str, more: &str, window: Duration) -> String {
        format!("rate({}[{}])", self.select(metric, more), duration(window))
    }

    /// The name of a series in a test: this job's, of one instance.
    pub(super) fn series(&self, metric: &str, labels: &[(&str, &str)]) -> String {
        let mut text = format!("{metric}{{job={},instance=\"a:1\"", quote(self.job));
        for (name, value) in labels {
            text.push_str(&format!(",{name}={}", quote(value)));
        }
        text.push('}');
        text
    }

    /// The requests that a budget is for.
    pub(crate) fn scope(&self, budget: &Budget) -> Scope {
        let others = self.objectives.budgets.iter();
        match (&budget.route, &budget.method) {
            (Some(route), Some(method)) => Scope {
                matchers: format!("{METHOD}={},{ROUTE}={}", quote(method), quote(route)),
                unless: Vec::new(),
                example: (method.clone(), route.clone()),
            },
            (Some(route), None) => {
                let others = others.filter(|it| it.route.as_ref() == Some(route));
                let own: Vec<&str> = others.filter_map(|it| it.method.as_deref()).collect();
                let mut matchers = format!("{ROUTE}={}", quote(route));
                if !own.is_empty() {
                    matchers.push_str(&format!(",{METHOD}!~{}", quote(&own.join("|"))));
                }
                let method = METHODS.iter().find(|it| !own.contains(it));
                Scope {
                    matchers,
                    unless: Vec::new(),
                    example: (method.unwrap_or(&"GET").to_string(), route.clone()),
                }
            }
            (None, _) => self.outside(|_| true),
        }
    }

    /// The requests to routes without a budget of their own for which `of` holds.
    pub(super) fn outside(&self, of: impl Fn(&Budget) -> bool) -> Scope {
        let budgets = &self.objectives.budgets;
        let routes = |method: Option<&str>| {
            let own = budgets.iter().filter(|it| of(it));
            let own = own.filter(|it| it.method.as_deref() == method);
            let routes = own.filter_map(|it| it.route.as_deref()).map(literally);
            routes.collect::<Vec<_>>().join("|")
        };
        let whole = routes(None);
        let mut example = "/other".to_owned();
        let taken = |route: &str| budgets.iter().any(|it| it.route.as_deref() == Some(route));
        while taken(&example) {
            example.push_str("/other");
        }
        let of_methods = METHODS.iter().map(|method| (method, routes(Some(method))));
        Scope {
            matchers: if whole.is_empty() {
                String::new()
            } else {
                format!("{ROUTE}!~{}", quote(&whole))
            },
            unless: of_methods
                .filter(|(_, routes)| !routes.is_empty())
                .map(|(method, routes)| {
                    format!("{METHOD}={},{ROUTE}=~{}", quote(method), quote(&routes))
                })
                .collect(),
            example: ("GET".to_owned(), example),
        }
    }
}

/// Requests of some methods and routes.
#[derive(Debug)]
pub(crate) struct Scope {
    /// Of their series.
    pub(crate) matchers: String,
    /// Matchers of the series that are not among them.
    pub(super) unless: Vec<String>,
    example: (String, String),
}

impl Scope {
    /// What takes the series that are not in the scope from an expression with the labels `by`;
    /// `metric` is any that has them too.
    pub(crate) fn except(&self, plan: &Plan<'_>, metric: &str, by: &str) -> String {
        let clauses = self.unless.iter().map(|matchers| {
            let series = plan.select(metric, matchers);
            format!("\nunless on ({by})\n{series}")
        });
        clauses.collect()
    }

    /// A method and a route in it.
    pub(super) fn example(&self) -> (&str, &str) {
        (&self.example.0, &self.example.1)
    }

    /// The labels of an alert for the example.
    pub(super) fn labels(&self, plan: &Plan<'_>) -> Vec<(&'static str, String)> {
        let (method, route) = self.example.clone();
        vec![
            ("job", plan.job.to_owned()),
            (METHOD, method),
            (ROUTE, route),
        ]
    }
}
