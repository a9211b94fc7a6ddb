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

use sqlx::postgres::{PgConnection, PgTypeInfo};
use sqlx::{AssertSqlSafe, Column as _, Executor, SqlSafeStr, Statement as _};

pub(super) use encode::CopyIn;
pub(super) use line::row_offset;
#[allow(unused_imports, reason = "not wired in yet")]
pub(super) use run::{Lease, run};

/// The types of the columns that `sql` selects; for a column of a domain, the type under it.
///
/// It comes out of the connection's statement cache: only the first call for a text asks the
/// server. So it says what was true when that call was made: see [`hold_types`].
pub(super) async fn column_types(
    conn: &mut PgConnection,
    sql: &str,
) -> sqlx::Result<Vec<PgTypeInfo>> {
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
pub(super) async fn hold_types(conn: &mut PgConnection, sql: &str) -> sqlx::Result<()> {
    let query = sqlx::query(AssertSqlSafe(sql));
    query.execute(conn).await.map(|_| ())
}
