//! What stands between this process and the server.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool, Row};
use tokio::time::timeout;

use super::NAME;
use super::error::backend_error;
use crate::BackendError;

/// Nobody else has the process of the server that this names.
const SERVED_BY: &str =
    "SELECT pg_backend_pid()::text || ' ' || pg_postmaster_start_time()::text AS who";

/// What another statement calls itself.
const PREPARED_AS: &str = "SELECT name AS who FROM pg_prepared_statements \
     WHERE statement LIKE 'SELECT ''how perf-queue is prepared''%' \
     ORDER BY prepare_time DESC LIMIT 1";

/// What sqlx begins the names of its statements with, which poolers that tell them apart replace.
const OF_SQLX: &str = "sqlx_s_";

/// How often two connections are asked who serves them. Others may be served in between.
const TRIES: usize = 5;

/// Whether connections of the server's are handed out by the transaction, so that it can notify nobody. Refuses
/// a pooler that does so and lets clients run each other's prepared statements.
pub(super) async fn shares_connections(
    pool: &PgPool,
    patience: Duration,
) -> Result<bool, BackendError> {
    let mut one = pool.acquire().await.map_err(backend_error)?;
    let options = pool.connect_options();
    let found = timeout(patience, async {
        let mut other = PgConnection::connect_with(&options).await?;
        let shared = are_shared(&mut one, &mut other).await?;
        Ok::<_, sqlx::Error>((other, shared))
    });
    // Where the server has no second one to spare in time, nothing is known: a pooler that keeps to the session
    // may have given its last to the first one.
    let Ok(Ok((mut other, shared))) = found.await else {
        return Ok(false);
    };
    drop(one);
    let told_apart = if shared {
        let asked = timeout(patience, statements_are_told_apart(&mut other)).await;
        asked.unwrap_or_else(|_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()))
    } else {
        Ok(true)
    };
    // How its goodbye goes says nothing about the server.
    let _ = timeout(patience, other.close()).await;
    match told_apart {
        Ok(true) => Ok(shared),
        Ok(false) => Err(unfit()),
        Err(error) if is_mix_up(&error) => Err(unfit()),
        Err(error) => Err(backend_error(error)),
    }
}

/// Another client has a statement of this name, or had; or there are not even transactions, which has the code of
/// all that a pooler has to say.
fn is_mix_up(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(error) = error else {
        return false;
    };
    match error.code().as_deref() {
        Some("42P05" | "26000") => true,
        Some("08P01") => error.message().contains("statement pooling mode"),
        _ => false,
    }
}

/// Both are open, so a server without a pooler, or one that keeps to the session, has a process for each.
async fn are_shared(one: &mut PgConnection, other: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let first = told(one, SERVED_BY).await?;
    for _ in 0..TRIES {
        if told(other, SERVED_BY).await? == first || told(one, SERVED_BY).await? != first {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn statements_are_told_apart(conn: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let mut tx = conn.begin().await?;
    sqlx::query("SELECT 'how perf-queue is prepared'")
        .fetch_one(&mut *tx)
        .await?;
    let name = told(&mut tx, PREPARED_AS).await?;
    let told_apart = !name.starts_with(OF_SQLX);
    if !told_apart {
        // Or it would be in the way of others.
        let forget = format!("DEALLOCATE \"{name}\"");
        sqlx::raw_sql(AssertSqlSafe(forget))
            .execute(&mut *tx)
            .await?;
    }
    tx.commit().await?;
    Ok(told_apart)
}

/// Asks without a prepared statement.
async fn told(conn: &mut PgConnection, sql: &'static str) -> Result<String, sqlx::Error> {
    sqlx::raw_sql(sql).fetch_one(conn).await?.try_get(0)
}

fn unfit() -> BackendError {
    BackendError::Unfit {
        backend: NAME,
        reason: "a pooler before it hands out its connections by the transaction, and lets clients run each \
                 other's prepared statements: set max_prepared_statements (PgBouncer 1.21 or later), use the \
                 session mode, or connect past it"
            .to_owned(),
    }
}
