mod property;
mod runner;
mod types;

use std::sync::Arc;

use sqlx::error::BoxDynError;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, Encode, Postgres, Type};

use super::{CopyIn, Types, column_types};
use crate::engine::sql::{copy_from_stdin, select_none};
use crate::order::indexed;
use crate::{BulkValues, Column, Table, ValueSink};

/// A pool of one connection that is not tested before it is used, on a schema of its own.
async fn pool(schema: &'static str) -> Option<PgPool> {
    let server = testkit::Postgres::shared().await?;
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .test_before_acquire(false)
        .connect(&server.schema_url().await)
        .await
        .unwrap();
    sqlx::raw_sql(schema).execute(&pool).await.unwrap();
    Some(pool)
}

async fn execute(pool: &PgPool, sql: &str) {
    let sql = AssertSqlSafe(sql.to_owned());
    sqlx::raw_sql(sql).execute(pool).await.unwrap();
}

async fn count(pool: &PgPool, sql: &str) -> i64 {
    let sql = AssertSqlSafe(sql.to_owned());
    sqlx::query_scalar(sql).fetch_one(pool).await.unwrap()
}

fn table(name: &'static str, columns: &[Column]) -> Table {
    columns
        .iter()
        .cloned()
        .fold(Table::new(name), Table::column)
}

fn copy_sql(table: &Table) -> Arc<str> {
    let mut sql = String::new();
    copy_from_stdin(&mut sql, table);
    sql.into()
}

/// How rows like `sample` go into the table by COPY.
async fn plan<R: BulkValues<Postgres>>(
    conn: &mut PoolConnection<Postgres>,
    table: &Table,
    sample: &R,
) -> Result<CopyIn, String> {
    let mut select = String::new();
    select_none(&mut select, table);
    let described = column_types(conn, &select).await.unwrap();
    CopyIn::plan(table.columns(), &described, &Types::of(sample).types)
}

/// Copies the rows in COPYs of about `max_bytes`.
async fn copy<R: BulkValues<Postgres>>(
    pool: &PgPool,
    table: &Table,
    rows: &[R],
    max_bytes: usize,
) -> sqlx::Result<u64> {
    let mut conn = pool.acquire().await.unwrap();
    let plan = plan(&mut conn, table, &rows[0]).await.unwrap();
    let mut conn = Some(conn);
    let (rows, mut at, mut copied) = (indexed(rows), 0, 0);
    while let Some(rest) = rows.get(at..).filter(|rest| !rest.is_empty()) {
        let (data, taken) = plan.encode(rest, max_bytes).unwrap();
        let (back, done) = super::run(conn.unwrap(), copy_sql(table), data).await;
        conn = back;
        at += taken;
        copied += done?;
    }
    Ok(copied)
}
