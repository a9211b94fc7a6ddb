//! Rows of five columns into SQLite.

use std::sync::Arc;

use perf_batch::BulkInsert;
use sqlx::AssertSqlSafe;
use tokio::runtime::Runtime;

use super::rows::{TABLE, bind, push_values};
use super::{Answer, COLUMNS, Failure, IMMEDIATE, Lite, SINGLY, SIZES, Work};
use crate::Group;

/// SQLite's limit on the values of a statement.
pub const BINDS: usize = 32_766;
/// Rows a statement of `floor_values`; larger ones are no faster.
const ROWS: usize = 200;

const INSERT: &str = "INSERT INTO answers VALUES (?, ?, ?, ?, ?)";

pub(crate) fn groups(rt: &Arc<Runtime>) -> Result<Vec<Group>, Failure> {
    let db = rt.block_on(open())?;
    Ok(SIZES.map(|rows| group(rt, &db, rows)).into())
}

/// Makes a database with the empty table.
///
/// # Errors
///
/// What kept it from that.
pub async fn open() -> Result<Lite, Failure> {
    Lite::open("answers", TABLE).await
}

/// The group for so many rows.
pub fn group(rt: &Arc<Runtime>, db: &Lite, rows: usize) -> Group {
    let work = Work::new(rt, db, rows, Answer::new);
    let insert = BulkInsert::<Answer>::new();
    let mut entries = Vec::new();
    if rows <= SINGLY {
        entries.push(work.entry("naive", naive));
        entries.push(work.entry("one_transaction", one_transaction));
    }
    entries.push(work.entry("push_values", push_values));
    entries.push(work.entry("ours", move |db, rows| {
        let insert = insert.clone();
        async move { Ok(insert.execute(&db.pool, rows).await?.written) }
    }));
    if rows * COLUMNS <= BINDS {
        let sql = text(rows);
        let statement = move |db, rows| floor_statement(db, rows, Arc::clone(&sql));
        entries.push(work.entry("floor_statement", statement));
    }
    let (full, tail) = (text(ROWS), text(rows % ROWS));
    let values = move |db, rows| floor_values(db, rows, Arc::clone(&full), Arc::clone(&tail));
    entries.push(work.entry("floor_values", values));
    Group::new(format!("batch/sqlite/{rows}"), work.elements(), entries)
}

async fn naive(db: Lite, rows: Vec<Answer>) -> Result<u64, Failure> {
    let mut conn = db.pool.acquire().await?;
    let mut written = 0;
    for row in rows {
        let done = bind!(sqlx::query(INSERT), row).execute(&mut *conn).await?;
        written += done.rows_affected();
    }
    Ok(written)
}

async fn one_transaction(db: Lite, rows: Vec<Answer>) -> Result<u64, Failure> {
    let mut tx = db.pool.begin_with(IMMEDIATE).await?;
    let mut written = 0;
    for row in rows {
        let done = bind!(sqlx::query(INSERT), row).execute(&mut *tx).await?;
        written += done.rows_affected();
    }
    tx.commit().await?;
    Ok(written)
}

async fn push_values(db: Lite, rows: Vec<Answer>) -> Result<u64, Failure> {
    if rows.len() * COLUMNS <= BINDS {
        let done = push_values!(rows).build().execute(&db.pool).await?;
        return Ok(done.rows_affected());
    }
    let mut tx = db.pool.begin_with(IMMEDIATE).await?;
    let mut rows = rows.into_iter().peekable();
    let mut written = 0;
    while rows.peek().is_some() {
        let chunk = rows.by_ref().take(BINDS / COLUMNS);
        let done = push_values!(chunk).build().execute(&mut *tx).await?;
        written += done.rows_affected();
    }
    tx.commit().await?;
    Ok(written)
}

fn text(rows: usize) -> Arc<str> {
    let values = vec!["(?,?,?,?,?)"; rows].join(",");
    format!("INSERT INTO answers VALUES {values}").into()
}

async fn insert<'c, A>(
    conn: A,
    sql: &Arc<str>,
    rows: impl Iterator<Item = Answer>,
) -> sqlx::Result<u64>
where
    A: sqlx::SqliteExecutor<'c>,
{
    let query = sqlx::query(AssertSqlSafe(Arc::clone(sql)));
    let query = rows.fold(query, |query, row| bind!(query, row));
    Ok(query.execute(conn).await?.rows_affected())
}

async fn floor_statement(db: Lite, rows: Vec<Answer>, sql: Arc<str>) -> Result<u64, Failure> {
    Ok(insert(&db.pool, &sql, rows.into_iter()).await?)
}

async fn floor_values(
    db: Lite,
    rows: Vec<Answer>,
    full: Arc<str>,
    tail: Arc<str>,
) -> Result<u64, Failure> {
    let mut tx = db.pool.begin_with(IMMEDIATE).await?;
    let (chunks, rest) = (rows.len() / ROWS, rows.len() % ROWS);
    let mut rows = rows.into_iter();
    let mut written = 0;
    for _ in 0..chunks {
        written += insert(&mut *tx, &full, rows.by_ref().take(ROWS)).await?;
    }
    if rest > 0 {
        written += insert(&mut *tx, &tail, rows).await?;
    }
    tx.commit().await?;
    Ok(written)
}
