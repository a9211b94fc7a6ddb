//! Rows of five columns into Postgres.

use std::sync::Arc;

use perf_batch::BulkInsert;
use sqlx::AssertSqlSafe;
use sqlx::postgres::{PgPool, PgPoolCopyExt};
use tokio::runtime::Runtime;

use super::rows::{TABLE, bind, push_values};
use super::{Answer, COLUMNS, Failure, Pg, SINGLY, SIZES, Transport, Work};
use crate::Group;

/// The protocol's limit on the values of a statement.
pub const BINDS: usize = 65_535;
/// Rows a statement of `floor_values` where there are several.
const ROWS: usize = 1_000;
/// What `floor_copy` encodes before it sends, so that client and server work at once.
const CHUNK: usize = 256 << 10;

pub(super) const INSERT: &str = "INSERT INTO answers VALUES ($1, $2, $3, $4, $5)";
const UNNEST: &str = "INSERT INTO answers
    SELECT * FROM unnest($1::int8[], $2::int8[], $3::int8[], $4::text[], $5::int8[])";

pub(crate) fn groups(rt: &Arc<Runtime>, transport: Transport) -> Result<Vec<Group>, Failure> {
    let Some(db) = rt.block_on(open(transport))? else {
        return Ok(Vec::new());
    };
    let groups = SIZES.map(|rows| group(rt, transport, &db, rows));
    Ok(groups.into())
}

/// Makes the empty table; `None` where there is no server, or no socket of it.
///
/// # Errors
///
/// What kept it from that.
pub async fn open(transport: Transport) -> Result<Option<Pg>, Failure> {
    Pg::open(transport, "answers", TABLE).await
}

/// The group for so many rows.
pub fn group(rt: &Arc<Runtime>, transport: Transport, db: &Pg, rows: usize) -> Group {
    let work = Work::new(rt, db, rows, Answer::new);
    let insert = BulkInsert::<Answer>::new();
    let mut entries = Vec::new();
    if rows <= SINGLY {
        entries.push(work.entry("naive", naive));
        entries.push(work.entry("one_transaction", one_transaction));
    }
    entries.push(work.entry("push_values", push_values));
    entries.push(work.entry("ours", move |db, rows| ours(insert.clone(), db, rows)));
    let (full, tail) = (text(rows.min(ROWS)), text(rows % ROWS));
    let values = move |db, rows| floor_values(db, rows, Arc::clone(&full), Arc::clone(&tail));
    entries.push(work.entry("floor_values", values));
    entries.push(work.entry("floor_unnest", |db, rows| async move {
        Ok(unnest(&db.pool, rows).await?)
    }));
    entries.push(work.entry("floor_copy", floor_copy));
    let label = transport.label();
    Group::new(format!("batch/{label}/{rows}"), rows as u64, entries)
}

pub(super) async fn ours(
    insert: BulkInsert<Answer>,
    db: Pg,
    rows: Vec<Answer>,
) -> Result<u64, Failure> {
    Ok(insert.execute(&db.pool, rows).await?.written)
}

pub(super) async fn naive(db: Pg, rows: Vec<Answer>) -> Result<u64, Failure> {
    let mut conn = db.pool.acquire().await?;
    let mut written = 0;
    for row in rows {
        let done = bind!(sqlx::query(INSERT), row).execute(&mut *conn).await?;
        written += done.rows_affected();
    }
    Ok(written)
}

pub(super) async fn one_transaction(db: Pg, rows: Vec<Answer>) -> Result<u64, Failure> {
    let mut tx = db.pool.begin().await?;
    let mut written = 0;
    for row in rows {
        let done = bind!(sqlx::query(INSERT), row).execute(&mut *tx).await?;
        written += done.rows_affected();
    }
    tx.commit().await?;
    Ok(written)
}

async fn push_values(db: Pg, rows: Vec<Answer>) -> Result<u64, Failure> {
    if rows.len() * COLUMNS <= BINDS {
        let done = push_values!(rows).build().execute(&db.pool).await?;
        return Ok(done.rows_affected());
    }
    let mut tx = db.pool.begin().await?;
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
    let row = |row: usize| {
        let first = row * COLUMNS + 1;
        let values = (first..first + COLUMNS).map(|n| format!("${n}"));
        format!("({})", values.collect::<Vec<_>>().join(","))
    };
    let rows = (0..rows).map(row).collect::<Vec<_>>();
    format!("INSERT INTO answers VALUES {}", rows.join(",")).into()
}

async fn insert<'c>(
    conn: impl sqlx::PgExecutor<'c>,
    sql: &Arc<str>,
    rows: impl Iterator<Item = Answer>,
) -> sqlx::Result<u64> {
    let query = sqlx::query(AssertSqlSafe(Arc::clone(sql)));
    let query = rows.fold(query, |query, row| bind!(query, row));
    Ok(query.execute(conn).await?.rows_affected())
}

async fn floor_values(
    db: Pg,
    rows: Vec<Answer>,
    full: Arc<str>,
    tail: Arc<str>,
) -> Result<u64, Failure> {
    if rows.len() <= ROWS {
        return Ok(insert(&db.pool, &full, rows.into_iter()).await?);
    }
    let mut tx = db.pool.begin().await?;
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

/// One statement with an array a column.
///
/// # Errors
///
/// The database's.
pub async fn unnest(pool: &PgPool, rows: Vec<Answer>) -> sqlx::Result<u64> {
    let column = |value: fn(&Answer) -> i64| rows.iter().map(value).collect::<Vec<i64>>();
    let answers: Vec<&str> = rows.iter().map(|row| row.answer.as_str()).collect();
    let query = sqlx::query(UNNEST)
        .bind(column(|row| row.user_id))
        .bind(column(|row| row.question_id))
        .bind(column(|row| row.points))
        .bind(answers)
        .bind(column(|row| row.answered_at));
    Ok(query.execute(pool).await?.rows_affected())
}

async fn floor_copy(db: Pg, rows: Vec<Answer>) -> Result<u64, Failure> {
    fn int(data: &mut Vec<u8>, value: i64) {
        data.extend_from_slice(&8_i32.to_be_bytes());
        data.extend_from_slice(&value.to_be_bytes());
    }

    let copy = "COPY answers FROM STDIN (FORMAT binary)";
    let mut copy = db.pool.copy_in_raw(copy).await?;
    let mut data = Vec::with_capacity(CHUNK + 256);
    data.extend_from_slice(b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0");
    for row in &rows {
        data.extend_from_slice(&5_i16.to_be_bytes());
        int(&mut data, row.user_id);
        int(&mut data, row.question_id);
        int(&mut data, row.points);
        data.extend_from_slice(&i32::try_from(row.answer.len())?.to_be_bytes());
        data.extend_from_slice(row.answer.as_bytes());
        int(&mut data, row.answered_at);
        if data.len() >= CHUNK {
            copy.send(data.as_slice()).await?;
            data.clear();
        }
    }
    data.extend_from_slice(&(-1_i16).to_be_bytes());
    copy.send(data.as_slice()).await?;
    Ok(copy.finish().await?)
}
