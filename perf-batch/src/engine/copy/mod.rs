//! `COPY .. FROM STDIN (FORMAT binary)`.
//!
//! COPY converts nothing: the bytes of a value must be those of its column's type. So the columns'
//! types are asked first ([`column_types`]), [`CopyIn::plan`] says whether the values fit them,
//! [`CopyIn::encode`] writes the rows, and [`run()`] sends them.

mod encode;
mod fit;
mod line;
mod run;
#[cfg(test)]
mod tests;

pub(super) use run::run;

use std::sync::Arc;

use sqlx::postgres::{PgConnection, PgDatabaseError, PgTypeInfo};
use sqlx::{
    AssertSqlSafe, Column as _, Connection, Executor, Postgres, SqlSafeStr, Statement as _,
};

use super::postgres::Types;
use super::sql::{copy_from_stdin, select_none};
use super::{EncodeError, PlanError, Wanted};
use crate::order::Indexed;
use crate::table::parts;
use crate::verb::Verb;
use crate::{BulkValues, OnConflict, Path};
use encode::CopyIn;

/// Over a Unix socket, COPY is ahead of arrays from here on.
const ROWS_LOCAL: usize = 1_000;

/// Over TCP, a COPY by sqlx 0.9 waits 40 ms for the server's delayed acknowledgement, which only
/// that many rows are worth.
const ROWS_REMOTE: usize = 50_000;

/// Closes a COPY; the rows of a larger batch go in several, in one transaction.
const BYTES: usize = 64 << 20;

/// `feature_not_supported`: "cached plan must not change result type".
const CHANGED: &str = "0A000";

/// The COPY for one batch.
#[derive(Debug)]
pub struct Copying {
    into: CopyIn,
    sql: Arc<str>,
    select: String,
    /// As the server's errors call it.
    relation: String,
}

impl Copying {
    /// The COPY for these rows, where it is the best way for so many, or the one that is wanted.
    pub(super) async fn plan<R: BulkValues<Postgres>>(
        conn: &mut PgConnection,
        wanted: &Wanted<'_>,
        sample: &R,
        rows: usize,
    ) -> Result<Option<Self>, PlanError> {
        let forced = wanted.path == Some(Path::Copy);
        if *wanted.verb != Verb::Insert(OnConflict::Error) {
            return if forced {
                let reason = "COPY only inserts, and knows no conflicts: leave out path";
                Err(PlanError::Invalid(reason.to_owned()))
            } else {
                Ok(None)
            };
        }
        if !forced && (wanted.path.is_some() || rows < ROWS_LOCAL) {
            return Ok(None);
        }
        let types = Types::of(sample);
        if !forced && rows < ROWS_REMOTE && !is_local(conn).await.map_err(PlanError::Database)? {
            return Ok(None);
        }
        let mut select = String::new();
        select_none(&mut select, wanted.table);
        let described = match column_types(conn, &select).await {
            Ok(described) => described,
            // What is wrong with the table is told by the INSERT.
            Err(sqlx::Error::Database(_)) if !forced => return Ok(None),
            Err(error) => return Err(PlanError::Database(error)),
        };
        match CopyIn::plan(wanted.table.columns(), &described, &types) {
            Ok(into) => {
                let mut sql = String::new();
                copy_from_stdin(&mut sql, wanted.table);
                let parts = parts(wanted.table.name());
                Ok(Some(Self {
                    into,
                    sql: sql.into(),
                    select,
                    relation: parts.last().cloned().unwrap_or_default(),
                }))
            }
            Err(reason) if forced => Err(PlanError::Invalid(reason)),
            Err(reason) => {
                tracing::debug!(reason, "not by COPY");
                Ok(None)
            }
        }
    }

    pub(crate) fn sql(&self) -> Arc<str> {
        Arc::clone(&self.sql)
    }

    /// Encodes rows from the front, as many as go into one COPY.
    pub(crate) fn encode<R: BulkValues<Postgres>>(
        &self,
        rows: &[Indexed<'_, R>],
    ) -> Result<(Vec<u8>, usize), EncodeError> {
        self.into.encode(rows, BYTES)
    }

    /// Makes sure that the columns are what they were, until the transaction ends.
    pub(super) async fn hold(&self, conn: &mut PgConnection) -> sqlx::Result<()> {
        let held = hold_types(conn, &self.select).await;
        if let Err(sqlx::Error::Database(error)) = &held
            && error.code().as_deref() == Some(CHANGED)
        {
            conn.clear_cached_statements().await?;
        }
        held
    }

    /// The row that the error names.
    pub(crate) fn row(&self, error: &sqlx::Error) -> Option<usize> {
        let error = error.as_database_error()?;
        let error = error.try_downcast_ref::<PgDatabaseError>()?;
        line::row_offset(error.r#where()?, &self.relation)
    }
}

/// Whether the server is reached without a network.
async fn is_local(conn: &mut PgConnection) -> sqlx::Result<bool> {
    let query = sqlx::query_scalar("SELECT inet_server_addr() IS NULL");
    query.fetch_one(conn).await
}

/// The types of the columns that `sql` selects; for a column of a domain, the type under it.
///
/// It comes out of the connection's statement cache: only the first call for a text asks the
/// server. So it says what was true when that call was made: see [`hold_types`].
async fn column_types(conn: &mut PgConnection, sql: &str) -> sqlx::Result<Vec<PgTypeInfo>> {
    let sql = AssertSqlSafe(sql).into_sql_str();
    let statement = conn.prepare(sql).await?;
    let columns = statement.columns().iter();
    Ok(columns.map(|column| column.type_info().clone()).collect())
}

/// Has the server compare the columns of a `sql` that [`column_types`] described with what they
/// are now, and keep them so until the transaction ends. One round trip.
///
/// COPY cannot tell a `bigint` from the `double precision` that the column became meanwhile, nor
/// a time from one with a time zone: it would take the bytes for what they are not.
///
/// # Errors
///
/// 0A000 where a type is another one by now, 42501 where the role may not read the columns; the
/// transaction is lost then. After 0A000 the connection's statement cache must be cleared.
async fn hold_types(conn: &mut PgConnection, sql: &str) -> sqlx::Result<()> {
    let query = sqlx::query(AssertSqlSafe(sql));
    query.execute(conn).await.map(|_| ())
}
