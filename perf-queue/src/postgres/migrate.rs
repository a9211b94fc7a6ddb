//! Brings the schema to the version that the crate needs.

use sqlx::{AssertSqlSafe, PgConnection, PgPool};

use super::error::backend_error;
use super::{NAME, schema};
use crate::BackendError;

/// Held while migrating. An arbitrary number, the same in all versions of the crate.
const LOCK: i64 = 0x7065_7266_7175_6575;

/// Runs those of the migrations that are missing, in their order, each in a transaction of its own: what
/// fails leaves the version before it. Processes may do so at the same time.
pub(super) async fn migrate(
    pool: &PgPool,
    name: &str,
    migrations: &[&[&str]],
) -> Result<(), sqlx::Error> {
    let missing = |version: i32| {
        let parts = migrations.get(usize::try_from(version).unwrap_or(usize::MAX));
        parts.map(|parts| schema::migration(name, parts, version.saturating_add(1)))
    };
    let mut conn = pool.acquire().await?;
    while missing(version(&mut conn, name).await?).is_some() {
        // So that what another has just committed is seen once the lock is got.
        let begin = "BEGIN ISOLATION LEVEL READ COMMITTED";
        let mut tx = sqlx::Connection::begin_with(&mut *conn, begin).await?;
        sqlx::query("SELECT pg_advisory_xact_lock($1)")
            .bind(LOCK)
            .execute(&mut *tx)
            .await?;
        if let Some(migration) = missing(version(&mut tx, name).await?) {
            sqlx::raw_sql(AssertSqlSafe(migration))
                .execute(&mut *tx)
                .await?;
        }
        tx.commit().await?;
    }
    Ok(())
}

/// Refuses tables that are not of the version that this crate knows.
pub(super) async fn check(pool: &PgPool, name: &str) -> Result<(), BackendError> {
    let known = schema::MIGRATIONS.len();
    let mut conn = pool.acquire().await.map_err(backend_error)?;
    let found = version(&mut conn, name).await.map_err(backend_error)?;
    let remedy = match usize::try_from(found) {
        Ok(found) if found == known => return Ok(()),
        Ok(found) if found < known => {
            "let the crate migrate, or run what Postgres::migrations gives, from the version after"
        }
        _ => "a newer version of perf-queue has migrated them, so use that one here, too",
    };
    Err(BackendError::Unfit {
        backend: NAME,
        reason: format!(
            "its tables are of version {found}, and this crate knows {known}: {remedy}"
        ),
    })
}

/// The version of the tables, 0 where there are none.
async fn version(conn: &mut PgConnection, name: &str) -> Result<i32, sqlx::Error> {
    let exists: bool = sqlx::query_scalar(include_str!("sql/exists.sql"))
        .bind(name)
        .fetch_one(&mut *conn)
        .await?;
    if !exists {
        return Ok(0);
    }
    let version = format!(
        "SELECT coalesce(max(version), 0) FROM {}.migrations",
        schema::quoted(name)
    );
    sqlx::query_scalar(AssertSqlSafe(version))
        .fetch_one(conn)
        .await
}
