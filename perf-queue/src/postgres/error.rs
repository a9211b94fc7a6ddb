use std::error::Error;
use std::sync::Arc;

use crate::BackendError;
use crate::postgres::NAME;

/// Says whether the same call may succeed later.
pub(super) fn backend_error(error: sqlx::Error) -> BackendError {
    let retryable = match &error {
        sqlx::Error::Database(error) => {
            let code = error.code().unwrap_or_default();
            if matches!(&*code, "42P01" | "42883" | "3F000" | "42704") {
                return BackendError::Unfit {
                    backend: NAME,
                    reason: format!(
                        "its tables are not there as they should be ({error}): let the crate migrate, \
                         or run what Postgres::migrations gives"
                    ),
                };
            }
            if code == "PQ001" {
                return BackendError::Unfit {
                    backend: NAME,
                    reason: format!(
                        "transactions see what others commit meanwhile only where they are read committed \
                         ({error}): set default_transaction_isolation to that for the connections of the pool"
                    ),
                };
            }
            is_transient(&code)
        }
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::WorkerCrashed => true,
        _ => false,
    };
    let source: Arc<dyn Error + Send + Sync> = Arc::new(error);
    if retryable {
        BackendError::Unavailable {
            backend: NAME,
            address: String::new(),
            source,
        }
    } else {
        BackendError::Refused {
            backend: NAME,
            address: String::new(),
            source,
        }
    }
}

/// Two transactions were in each other's way: the server has undone this one, and it can be tried
/// again at once.
pub(super) fn is_collision(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(error)
        if matches!(error.code().as_deref(), Some("40001" | "40P01")))
}

/// Of connections, of resources, of an operator's intervention, of collisions, of a server that is
/// read-only since it is a standby for now, and of I/O.
fn is_transient(code: &str) -> bool {
    matches!(code, "40001" | "40P01" | "25006" | "55P03" | "58030")
        || ["08", "53", "57P"]
            .iter()
            .any(|class| code.starts_with(class))
}
