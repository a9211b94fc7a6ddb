use std::time::Duration;

use thiserror::Error;

use crate::timing::InvalidPattern;

/// Why a monitor could not be built.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The service's name is empty.
    #[error("the service's name is empty: name the service, or leave the setting out")]
    EmptyService,
    /// Two health checks have the same name.
    #[error("two health checks are named {0:?}: give each a name of its own")]
    DuplicateCheck(String),
    /// The timeout of the health checks leaves no time to answer.
    #[error("the check timeout is {0:?}: set one above zero")]
    CheckTimeout(Duration),
    /// The admin token is empty, or holds something else than visible ASCII characters.
    #[error("the admin token cannot be sent in a header: use one or more visible ASCII characters")]
    AdminToken,
    /// A pattern of requests to exclude is none.
    #[error(transparent)]
    Exclude(#[from] InvalidPattern),
    /// A budget names no route.
    #[error(
        "the budget of {0:?} names no route: write \"GET /orders/{{id}}\", or \"/orders/{{id}}\" for all methods; one for any route is the default budget"
    )]
    BudgetWithoutRoute(String),
    /// A budget is for a method that has no label of its own.
    #[error(
        "the budget of {0:?} is for no method that is told apart: begin it with one such as GET, in capitals, with _OTHER, or with the route for all methods"
    )]
    BudgetMethod(String),
    /// Two budgets are for the same method and route.
    #[error("two budgets are for {0:?}: keep one")]
    DuplicateBudget(String),
    /// The default budget names a route.
    #[error("the default budget is for {0:?} only: make it with Budget::any")]
    DefaultBudget(String),
    /// A time in a budget is zero.
    #[error("in the budget of {budget:?}, {limit} is zero: set a time above zero, or none")]
    BudgetTime {
        /// The budget's route.
        budget: String,
        /// The limit's name.
        limit: &'static str,
    },
    /// A quantile in a budget has a longer time than a higher one.
    #[error(
        "in the budget of {budget:?}, {lower} is longer than {higher}, which implies it: shorten {lower} or leave it out"
    )]
    BudgetOrder {
        /// The budget's route.
        budget: String,
        /// The name of the limit that is too long.
        lower: &'static str,
        /// The name of the limit that implies it.
        higher: &'static str,
    },
    /// The share of errors in a budget is no share, or is all or nothing.
    #[error(
        "in the budget of {budget:?}, errors is {ratio}: set a ratio above 0 and below 1, such as 0.01 for one of a hundred"
    )]
    BudgetErrors {
        /// The budget's route.
        budget: String,
        /// The share.
        ratio: f64,
    },
    /// An option of the alerts that cannot be.
    #[error("the alert option {name} cannot be: {remedy}")]
    AlertOption {
        /// The setter's name.
        name: &'static str,
        /// What to set instead.
        remedy: &'static str,
    },
    /// A threshold that cannot be.
    #[error("the threshold {name} cannot be: {remedy}")]
    Threshold {
        /// The setter's name.
        name: &'static str,
        /// What to set instead.
        remedy: &'static str,
    },
}

/// The process has a recorder already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "a metrics recorder is already installed in this process: install one monitor, once, or put its recorder behind a fanout"
)]
pub struct AlreadyInstalled;
