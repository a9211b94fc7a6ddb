use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::{Holder, Status};

/// Why an acquire gave no connection.
///
/// Turns into [`sqlx::Error`] by `From`, so it works with `?` in code written for sqlx; the
/// explanation survives there, see [`AcquireError::in_sqlx`].
#[derive(Debug)]
#[non_exhaustive]
pub enum AcquireError {
    /// `acquire_timeout` passed. Worth a retry once load has gone down.
    #[non_exhaustive]
    Timeout {
        /// What the acquire was waiting for when the time was up.
        phase: Phase,
        /// How long the caller waited.
        waited: Duration,
        /// The pool at that moment, this caller among the pending ones.
        status: Status,
        /// The last error of a connection attempt, if none has succeeded since.
        last_connect_error: Option<Arc<sqlx::Error>>,
        /// Who has held connections for longest, the longest first, at most three. Empty if they
        /// are held through the bare sqlx pool.
        holders: Vec<Holder>,
    },
    /// The pool is closed.
    Closed,
    /// A connection could not be opened, and trying again would not help (a wrong password, say).
    Connect(sqlx::Error),
}

/// What an acquire that timed out was waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// For another caller to give a connection back.
    Wait,
    /// For a connection to be opened.
    Connect,
    /// For an idle connection to answer the ping before it is handed out.
    Validate,
}

impl AcquireError {
    /// The acquire error inside an [`sqlx::Error`] that came from a query on `&pool`, if it is one.
    ///
    /// A timeout travels as [`sqlx::Error::Io`] of kind [`io::ErrorKind::TimedOut`], because
    /// sqlx's own `PoolTimedOut` has no room for an explanation. So code that looks for
    /// `PoolTimedOut`, to answer 503 say, must look here too:
    ///
    /// ```
    /// use perf_pool::AcquireError;
    ///
    /// fn is_overload(error: &sqlx::Error) -> bool {
    ///     matches!(error, sqlx::Error::PoolTimedOut) // from the bare sqlx pool
    ///         || matches!(AcquireError::in_sqlx(error), Some(AcquireError::Timeout { .. }))
    /// }
    /// # assert!(is_overload(&sqlx::Error::PoolTimedOut));
    /// # assert!(!is_overload(&sqlx::Error::RowNotFound));
    /// ```
    pub fn in_sqlx(error: &sqlx::Error) -> Option<&Self> {
        match error {
            sqlx::Error::Io(error) => error.get_ref()?.downcast_ref(),
            _ => None,
        }
    }
}

impl fmt::Display for AcquireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout {
                phase,
                waited,
                status,
                last_connect_error,
                holders,
            } => {
                let Status {
                    max,
                    in_use,
                    pending,
                    ..
                } = status;
                // Microseconds in the message would only make equal errors look different.
                let waited =
                    Duration::from_millis(waited.as_millis().try_into().unwrap_or(u64::MAX));
                write!(
                    f,
                    "no connection within {waited:?} (max {max}, {in_use} in use, {pending} waiting): "
                )?;
                f.write_str(match (phase, last_connect_error) {
                    (_, Some(_)) => {
                        "new connections fail, check the server and its connection limit"
                    }
                    (Phase::Wait, None) => "raise max_connections or shorten transactions",
                    (Phase::Connect, None) => {
                        "the server did not answer in time, check the network and the server's load"
                    }
                    (Phase::Validate, None) => {
                        "idle connections did not answer a ping in time, check the network and \
                         firewalls that drop idle connections"
                    }
                })?;
                if *phase == Phase::Wait && !holders.is_empty() {
                    f.write_str("; held longest at ")?;
                    for (n, holder) in holders.iter().enumerate() {
                        write!(f, "{}{holder}", if n == 0 { "" } else { ", " })?;
                    }
                }
                Ok(())
            }
            Self::Closed => {
                f.write_str("the pool is closed: keep it open until its last user is done")
            }
            Self::Connect(_) => f.write_str("a connection could not be opened"),
        }
    }
}

impl Error for AcquireError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Timeout {
                last_connect_error, ..
            } => last_connect_error.as_deref().map(|error| error as _),
            Self::Closed => None,
            Self::Connect(error) => Some(error),
        }
    }
}

impl From<AcquireError> for sqlx::Error {
    fn from(error: AcquireError) -> Self {
        match error {
            AcquireError::Closed => Self::PoolClosed,
            AcquireError::Connect(error) => error,
            error @ AcquireError::Timeout { .. } => {
                io::Error::new(io::ErrorKind::TimedOut, error).into()
            }
        }
    }
}

/// The pool was closed, but not all connections came back in time; see
/// [`Pool::close_with_timeout`](crate::Pool::close_with_timeout).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct StillInUse {
    pub(crate) pool: Arc<str>,
    /// How long they were waited for.
    pub within: Duration,
    /// Connections that did not come back.
    pub in_use: u32,
    /// Who holds them, the longest first. Those held through the bare sqlx pool are not known.
    pub holders: Vec<Holder>,
}

impl fmt::Display for StillInUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            pool,
            within,
            in_use,
            holders,
        } = self;
        write!(
            f,
            "{in_use} connections of the pool {pool} did not come back within {within:?}: end what \
             uses them before the pool is closed"
        )?;
        for (n, holder) in holders.iter().take(3).enumerate() {
            write!(f, "{}{holder}", if n == 0 { "; held at " } else { ", " })?;
        }
        Ok(())
    }
}

impl Error for StillInUse {}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeout(phase: Phase, last_connect_error: Option<sqlx::Error>) -> AcquireError {
        AcquireError::Timeout {
            phase,
            waited: Duration::from_micros(5_000_123),
            status: Status::new(10, 2, 10, 0, 4),
            last_connect_error: last_connect_error.map(Arc::new),
            holders: Vec::new(),
        }
    }

    #[test]
    fn a_timeout_says_its_numbers_and_the_remedy() {
        assert_eq!(
            timeout(Phase::Wait, None).to_string(),
            "no connection within 5s (max 10, 10 in use, 4 waiting): \
             raise max_connections or shorten transactions"
        );
    }

    #[test]
    fn a_timeout_while_connecting_has_the_connect_error_as_its_source() {
        let error = timeout(Phase::Connect, Some(sqlx::Error::WorkerCrashed));
        assert!(error.to_string().contains("new connections fail"));
        assert!(error.source().is_some());
        assert!(timeout(Phase::Connect, None).source().is_none());
    }

    #[test]
    fn the_explanation_survives_in_an_sqlx_error() {
        let error = sqlx::Error::from(timeout(Phase::Wait, None));
        assert!(error.to_string().contains("raise max_connections"));
        assert!(matches!(
            AcquireError::in_sqlx(&error),
            Some(AcquireError::Timeout { .. })
        ));
        assert!(matches!(
            sqlx::Error::from(AcquireError::Closed),
            sqlx::Error::PoolClosed
        ));
        assert!(matches!(
            sqlx::Error::from(AcquireError::Connect(sqlx::Error::WorkerCrashed)),
            sqlx::Error::WorkerCrashed
        ));
    }
}
