use std::sync::Arc;

use redis::{ErrorKind, RedisError, ServerErrorKind};

use super::BACKEND;
use crate::BackendError;

/// Sorts an error by whether the same call may succeed later. What became of a call that failed in
/// this way is unknown, where it may have reached the server.
pub(super) fn failed(error: RedisError) -> BackendError {
    let passing = match error.kind() {
        // A parse error is a broken connection: the next is a new one.
        ErrorKind::Io | ErrorKind::Parse | ErrorKind::ClusterConnectionNotFound => true,
        ErrorKind::Server(kind) => matches!(
            kind,
            ServerErrorKind::BusyLoading
                | ServerErrorKind::TryAgain
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::MasterDown
                | ServerErrorKind::ReadOnly
                | ServerErrorKind::NoScript
        ),
        // BUSY: a script runs. OOM: no room until jobs are done. MISCONF, NOREPLICAS: nothing is
        // written until the disk or a replica is back. UNBLOCKED: the server became a replica.
        _ => matches!(
            error.code(),
            Some("BUSY" | "OOM" | "MISCONF" | "NOREPLICAS" | "UNBLOCKED")
        ),
    };
    let source = Arc::new(error);
    if passing {
        BackendError::Unavailable {
            backend: BACKEND,
            address: String::new(),
            source,
        }
    } else {
        BackendError::Refused {
            backend: BACKEND,
            address: String::new(),
            source,
        }
    }
}

/// An answer or a record that this version cannot read.
pub(super) fn unreadable(what: &'static str) -> BackendError {
    failed((ErrorKind::UnexpectedReturnType, what).into())
}
