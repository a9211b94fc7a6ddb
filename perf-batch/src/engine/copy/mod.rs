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
use super::sql::{copy_from_stdin, quote_table_name, select_none};
use super::{EncodeError, PlanError, Wanted};
use crate::order::Indexed;
use crate::table::parts;
use crate::verb::Verb;
use crate::{BulkValues, Column, OnConflict, Path, Table};
use encode::CopyIn;

/// From here on COPY is ahead of arrays over a Unix socket: measured at 70 bytes a row, the two are
/// level at 2,000 rows, and at 3,000 COPY takes 0.85 of the time.
const BYTES_LOCAL: usize = 200 << 10;

/// The same over TCP, where the end of a COPY by sqlx 0.9 may wait 40 ms for a delayed
/// acknowledgement: always below 64 KiB, rarely from here on, where COPY gains 5 ms and more.
const BYTES_REMOTE: usize = 600 << 10;

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
        let sample = Types::of(sample);
        let bytes = sample.bytes.saturating_mul(rows);
        if !forced {
            if wanted.path.is_some() || bytes < BYTES_LOCAL {
                return Ok(None);
            }
            let facts = Facts::of(conn, wanted.table)
                .await
                .map_err(PlanError::Database)?;
            if !facts.is_like_insert || !facts.is_local && bytes < BYTES_REMOTE {
                return Ok(None);
            }
        }
        let mut select = String::new();
        select_none(&mut select, wanted.table);
        let described = match column_types(conn, &select).await {
            Ok(described) => described,
            // What is wrong with the table is told by the INSERT.
            Err(sqlx::Error::Database(_)) if !forced => return Ok(None),
            Err(error) => return Err(PlanError::Database(error)),
        };
        match CopyIn::plan(wanted.table.columns(), &described, &sample.types) {
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

/// What decides about COPY, of the connection and the table.
struct Facts {
    /// The server is reached without a network.
    is_local: bool,
    /// A COPY does what an INSERT does. It ignores rules, writes to an identity column that an INSERT
    /// may not write to, and is refused where there is row-level security.
    is_like_insert: bool,
}

impl Facts {
    async fn of(conn: &mut PgConnection, table: &Table) -> sqlx::Result<Self> {
        let mut name = String::new();
        quote_table_name(&mut name, table.name());
        let columns: Vec<&str> = table.columns().iter().map(Column::name).collect();
        let query = sqlx::query_as(include_str!("../../sql/copy_facts.sql"));
        let facts = query.bind(name).bind(columns).fetch_optional(conn).await?;
        // What is wrong with a table that is not there is told by the INSERT.
        let (is_local, is_like_insert) = facts.unwrap_or_default();
        Ok(Self {
            is_local,
            is_like_insert,
        })
    }
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
