use super::{Budget, Thresholds};
use crate::MonitorBuilder;
use crate::alerts::AlertOptions;

impl MonitorBuilder {
    /// Adds the budget of a route. Defaults to none: all routes have the
    /// [default](Self::default_budget).
    ///
    /// Each different time in the budgets of a route, and in the
    /// [default](Self::default_budget), becomes a bucket of its own in the route's
    /// `http_server_request_duration_seconds`, so that it is known exactly how many requests took
    /// longer. Other routes do not have it.
    pub fn budget(mut self, budget: Budget) -> Self {
        self.objectives.budgets.push(budget);
        self
    }

    /// The budget of each route that has none of its own; an empty [`Budget::any`] asks for
    /// nothing. Defaults to 500 milliseconds for p95, one second for p99, and 0.01 for errors.
    pub fn default_budget(mut self, budget: Budget) -> Self {
        self.objectives.default = budget;
        self
    }

    /// From where on the state of the service and of its resources is worth an alert. Defaults to
    /// [`Thresholds::default`].
    pub fn thresholds(mut self, thresholds: Thresholds) -> Self {
        self.objectives.thresholds = thresholds;
        self
    }

    /// How the alerts are made. Defaults to [`AlertOptions::default`].
    pub fn alerts(mut self, options: AlertOptions) -> Self {
        self.objectives.alerts = options;
        self
    }
}
