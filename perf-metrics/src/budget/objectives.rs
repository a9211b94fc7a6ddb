use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::{Budget, Limit, Thresholds};
use crate::BuildError;
use crate::alerts::AlertOptions;
use crate::timing::{METHODS, Patience};

/// All that is asked of a service.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Objectives {
    /// Those of routes.
    pub(crate) budgets: Vec<Budget>,
    /// That of all other routes.
    pub(crate) default: Budget,
    pub(crate) thresholds: Thresholds,
    pub(crate) alerts: AlertOptions,
}

impl Default for Objectives {
    fn default() -> Self {
        Self {
            budgets: Vec::new(),
            default: Budget::any()
                .p95(Duration::from_millis(500))
                .p99(Duration::from_secs(1))
                .errors(0.01),
            thresholds: Thresholds::default(),
            alerts: AlertOptions::default(),
        }
    }
}

impl Objectives {
    pub(crate) fn validate(&self) -> Result<(), BuildError> {
        let mut targets = HashSet::new();
        for budget in &self.budgets {
            check_target(budget)?;
            check_limits(budget)?;
            if !targets.insert((&budget.method, &budget.route)) {
                return Err(BuildError::DuplicateBudget(budget.to_string()));
            }
        }
        if self.default.route.is_some() {
            return Err(BuildError::DefaultBudget(self.default.to_string()));
        }
        check_limits(&self.default)?;
        self.thresholds.validate()?;
        self.alerts.validate()
    }

    /// The budget of a route: its own, else that of the route for any method, else the default.
    pub(crate) fn of(&self, method: &str, route: &str) -> &Budget {
        let of = |method: Option<&str>| {
            self.budgets
                .iter()
                .find(|it| it.route.as_deref() == Some(route) && it.method.as_deref() == method)
        };
        of(Some(method))
            .or_else(|| of(None))
            .unwrap_or(&self.default)
    }

    /// The budgets, that for any route last.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Budget> {
        self.budgets.iter().chain([&self.default])
    }

    /// The times of the default budget in seconds, to be exact bounds of the exported histogram.
    pub(crate) fn request_bounds(&self) -> Vec<f64> {
        bounds(&self.default).collect()
    }

    /// The same of the budgets of each route that has any; with those of the default budget, which
    /// some of its methods may have.
    pub(crate) fn request_bounds_by_route(&self) -> HashMap<String, Vec<f64>> {
        let mut routes: HashMap<String, Vec<f64>> = HashMap::new();
        for budget in &self.budgets {
            if let Some(route) = &budget.route {
                let own = routes.entry(route.clone());
                let own = own.or_insert_with(|| self.request_bounds());
                own.extend(bounds(budget));
            }
        }
        routes
    }

    /// How long the watchdog lets requests run that have no headers: those to a route with a budget
    /// of its own for p99, else the p95 that it has; to one that is asked for nothing, for ever; all
    /// others as long as `others`.
    pub(crate) fn patience(&self, others: Duration) -> Patience {
        let mut patience = Patience::new(others);
        for budget in &self.budgets {
            let [_, p95, p99] = budget.times;
            let limit = (!budget.is_empty()).then(|| p99.or(p95).unwrap_or(others));
            if let Some(route) = &budget.route {
                patience.add(budget.method.as_deref(), route, limit);
            }
        }
        patience
    }
}

fn bounds(budget: &Budget) -> impl Iterator<Item = f64> {
    budget.times().map(|(_, time)| time.as_secs_f64())
}

fn check_target(budget: &Budget) -> Result<(), BuildError> {
    match (&budget.method, &budget.route) {
        (_, None) => Err(BuildError::BudgetWithoutRoute(budget.to_string())),
        (_, Some(route)) if route.is_empty() => {
            Err(BuildError::BudgetWithoutRoute(budget.to_string()))
        }
        (Some(method), Some(_)) if !METHODS.contains(&method.as_str()) => {
            Err(BuildError::BudgetMethod(budget.to_string()))
        }
        _ => Ok(()),
    }
}

fn check_limits(budget: &Budget) -> Result<(), BuildError> {
    let mut shorter: Option<(Limit, Duration)> = None;
    for (limit, time) in budget.times() {
        if time.is_zero() {
            return Err(BuildError::BudgetTime {
                budget: budget.to_string(),
                limit: limit.as_str(),
            });
        }
        if let Some((lower, most)) = shorter
            && most > time
        {
            return Err(BuildError::BudgetOrder {
                budget: budget.to_string(),
                lower: lower.as_str(),
                higher: limit.as_str(),
            });
        }
        shorter = Some((limit, time));
    }
    match budget.errors {
        Some(ratio) if !(ratio > 0.0 && ratio < 1.0) => Err(BuildError::BudgetErrors {
            budget: budget.to_string(),
            ratio,
        }),
        _ => Ok(()),
    }
}
