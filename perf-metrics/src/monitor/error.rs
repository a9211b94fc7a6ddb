use std::time::Duration;

use thiserror::Error;

/// Why a monitor could not be built.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
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
}

/// The process has a recorder already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "a metrics recorder is already installed in this process: install one monitor, once, or put its recorder behind a fanout"
)]
pub struct AlreadyInstalled;
