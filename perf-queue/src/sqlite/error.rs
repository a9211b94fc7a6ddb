use std::error::Error;
use std::io;
use std::sync::Arc;

use crate::BackendError;

const BACKEND: &str = "SQLite";

// The primary result codes of SQLite.
const ERROR: i32 = 1;
const BUSY: i32 = 5;
/// An extended code.
const BUSY_SNAPSHOT: &str = "517";
const LOCKED: i32 = 6;
const NO_MEMORY: i32 = 7;
const READ_ONLY: i32 = 8;
const IO: i32 = 10;
const CORRUPT: i32 = 11;
const FULL: i32 = 13;
const CANNOT_OPEN: i32 = 14;
const NOT_A_DATABASE: i32 = 26;

pub(super) fn backend(error: sqlx::Error) -> BackendError {
    match primary_code(&error) {
        Some(READ_ONLY) => unfit(format!("{error}: let this process write to it")),
        Some(CORRUPT | NOT_A_DATABASE) => unfit(format!(
            "{error}: restore it from a backup, or move it away"
        )),
        Some(BUSY | LOCKED | NO_MEMORY | IO | FULL | CANNOT_OPEN) => unavailable(error),
        Some(_) => BackendError::Refused {
            backend: BACKEND,
            address: String::new(),
            source: Arc::new(error),
        },
        None => unavailable(error),
    }
}

/// Whether somebody else has the file locked for so long that SQLite has given up.
pub(super) fn is_busy(error: &sqlx::Error) -> bool {
    matches!(primary_code(error), Some(BUSY | LOCKED))
}

/// Whether a transaction that has read is to write, and somebody else has written since.
pub(super) fn is_stale(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| code == BUSY_SNAPSHOT)
}

/// Whether the statement makes no sense to SQLite.
pub(super) fn is_refused(error: &sqlx::Error) -> bool {
    primary_code(error) == Some(ERROR)
}

/// Whether the connection can be used again after this.
pub(super) fn keeps_connection(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(_))
        && !matches!(primary_code(error), Some(IO | CANNOT_OPEN | CORRUPT))
}

fn primary_code(error: &sqlx::Error) -> Option<i32> {
    let error = error.as_database_error()?;
    let code: i32 = error.code()?.parse().ok()?;
    Some(code & 0xff)
}

pub(super) fn unavailable(error: impl Error + Send + Sync + 'static) -> BackendError {
    BackendError::Unavailable {
        backend: BACKEND,
        address: String::new(),
        source: Arc::new(error),
    }
}

pub(super) fn refused(reason: &'static str) -> BackendError {
    BackendError::Refused {
        backend: BACKEND,
        address: String::new(),
        source: Arc::new(io::Error::other(reason)),
    }
}

pub(super) fn unfit(reason: String) -> BackendError {
    BackendError::Unfit {
        backend: BACKEND,
        reason,
    }
}

/// The writer has ended: the queue was shut down, or the runtime.
pub(super) fn ended() -> BackendError {
    unavailable(io::Error::other("the queue has let go of its file"))
}
