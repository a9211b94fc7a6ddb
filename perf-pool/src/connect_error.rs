use std::time::Duration;

use thiserror::Error;

use crate::BuildError;

/// Why [`connect`](crate::PoolBuilder::connect) gave no pool.
///
/// No variant shows a password: of a URL only scheme, host, port and path are kept.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The settings make no sense.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The URL cannot be read.
    #[error("the database url cannot be read: check its scheme, host, port and escapes")]
    Url {
        /// What is wrong with it.
        source: sqlx::Error,
    },
    /// The server could not be reached or turned the first connection down.
    #[error("cannot connect to {target}")]
    Connect {
        /// The server, without user, password and parameters.
        target: String,
        /// What the driver or the server said.
        source: sqlx::Error,
    },
    /// The first connection was not ready in time.
    #[error(
        "no connection to {target} within {after:?}: check that the server is up and reachable, \
         or raise connect_timeout"
    )]
    Timeout {
        /// The server, without user, password and parameters.
        target: String,
        /// The `connect_timeout` in force.
        after: Duration,
    },
    /// All instances together may open more connections than the server grants, and the budget was
    /// to be kept.
    #[cfg(feature = "postgres")]
    #[error(transparent)]
    OverBudget(#[from] crate::OverBudget),
    /// The server does not tell how many connections it grants, and the budget was to be kept.
    #[cfg(feature = "postgres")]
    #[error(
        "{target} does not tell how many connections it grants: lower the check with \
         budget(BudgetCheck::Warn), or switch it off"
    )]
    Budget {
        /// The server, without user, password and parameters.
        target: String,
        /// What the server said.
        source: sqlx::Error,
    },
    /// The pool would not be sound behind its pooler.
    #[cfg(feature = "postgres")]
    #[error(transparent)]
    Pooler(#[from] crate::PoolerError),
    /// The `after_connect` hook failed on the first connection.
    #[error("the after_connect hook failed on the first connection to {target}")]
    AfterConnect {
        /// The server, without user, password and parameters.
        target: String,
        /// The hook's error.
        source: sqlx::Error,
    },
}

impl From<ConnectError> for sqlx::Error {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Url { source }
            | ConnectError::Connect { source, .. }
            | ConnectError::AfterConnect { source, .. } => source,
            error @ ConnectError::Timeout { .. } => {
                std::io::Error::new(std::io::ErrorKind::TimedOut, error).into()
            }
            #[cfg(feature = "postgres")]
            ConnectError::Budget { source, .. } => source,
            #[cfg(feature = "postgres")]
            error @ (ConnectError::OverBudget(_) | ConnectError::Pooler(_)) => {
                Self::Configuration(error.into())
            }
            error @ ConnectError::Build(_) => Self::Configuration(error.into()),
        }
    }
}

/// What an error may show of a URL: scheme, host, port and path. User, password and parameters
/// (which may hold a password too) stay out, and so does everything of a URL that cannot be read.
pub(crate) fn target(url: &str) -> String {
    match url::Url::parse(url) {
        Ok(url) => {
            let port = url.port().map(|p| format!(":{p}")).unwrap_or_default();
            let host = url.host_str().unwrap_or_default();
            format!("{}://{host}{port}{}", url.scheme(), url.path())
        }
        Err(_) => UNNAMED.to_owned(),
    }
}

/// The target's name where only connect options are known: their `Debug` shows the password.
pub(crate) const UNNAMED: &str = "the database";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_keeps_what_locates_the_server_and_drops_the_secrets() {
        let shown = target("postgres://app:hunter2@db.local:5433/quiz?password=hunter2&x=a@b");
        assert_eq!(shown, "postgres://db.local:5433/quiz");
    }

    #[test]
    fn a_url_that_cannot_be_read_is_not_shown() {
        assert_eq!(target("postgres://app:hun/ter2@db/quiz"), "the database");
        assert_eq!(target("hunter2"), "the database");
    }
}
