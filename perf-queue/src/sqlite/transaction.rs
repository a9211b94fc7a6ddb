//! Transactions as statements. Those of sqlx do not know that SQLite has rolled one back by itself,
//! as it does when the disk is full, and begin no other one on the connection after that.

use sqlx::SqliteConnection;

use super::error::is_refused;
use crate::panics::log;

/// Waits until the file is this connection's to write, so that what it reads is the last.
pub(super) const BEGIN: &str = "BEGIN IMMEDIATE";

pub(super) const COMMIT: &str = "COMMIT";

/// After an error from [`BEGIN`] to [`COMMIT`]: takes back what was done. Returns the error, or one
/// that says that the connection cannot be used any more.
pub(super) async fn roll_back(conn: &mut SqliteConnection, error: sqlx::Error) -> sqlx::Error {
    match sqlx::raw_sql("ROLLBACK").execute(conn).await {
        Ok(_) => error,
        // There was none, or SQLite has rolled it back already.
        Err(rollback) if is_refused(&rollback) => error,
        Err(rollback) => {
            log!(warn, error = %rollback, "a transaction was not rolled back");
            sqlx::Error::WorkerCrashed
        }
    }
}
