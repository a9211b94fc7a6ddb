//! Transactions as statements. Those of sqlx do not know that SQLite has rolled one back by itself,
//! as it does when the disk is full, and begin no other one on the connection after that.

use sqlx::SqliteConnection;

use super::error::is_refused;

/// Waits until the file is this connection's to write, and what it reads is the last.
pub(super) async fn begin(conn: &mut SqliteConnection) -> sqlx::Result<()> {
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(conn).await?;
    Ok(())
}

/// Commits what was done since [`begin`], or takes it back.
///
/// Where even that fails, the connection cannot be used any more: the next `begin` says so.
pub(super) async fn end<T>(conn: &mut SqliteConnection, done: sqlx::Result<T>) -> sqlx::Result<T> {
    let committed = match done {
        Ok(value) => {
            let committed = sqlx::raw_sql("COMMIT").execute(&mut *conn).await;
            committed.map(|_| value)
        }
        Err(error) => Err(error),
    };
    let Err(error) = committed else {
        return committed;
    };
    match sqlx::raw_sql("ROLLBACK").execute(conn).await {
        Ok(_) => Err(error),
        // SQLite has rolled back already.
        Err(rollback) if is_refused(&rollback) => Err(error),
        Err(rollback) => {
            tracing::warn!(error = %rollback, "a transaction was not rolled back");
            Err(sqlx::Error::WorkerCrashed)
        }
    }
}
