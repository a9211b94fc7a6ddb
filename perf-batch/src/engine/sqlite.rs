use sqlx::{AssertSqlSafe, Connection, Sqlite, SqliteConnection, Transaction};

use super::sql::{insert_into, on_conflict};
use super::values::Values;
use super::{BulkDatabase, Class, EncodeError, Engine, Plan, Statement};
use crate::order::Indexed;
use crate::pieces::Shape;
use crate::{BulkValues, OnConflict, Path, Table};

/// SQLITE_MAX_VARIABLE_NUMBER of SQLite since 3.32 (<https://www.sqlite.org/limits.html>).
const BINDS: usize = 32_766;

/// More rows in a statement are no faster: measured over 16 to 4,096.
const ROWS: usize = 256;

impl BulkDatabase for Sqlite {}

/// The plan for SQLite: rows of values, as each statement costs a trip to the connection's thread.
#[derive(Debug)]
pub struct SqlitePlan(Values);

impl Plan for SqlitePlan {
    fn shape(&self) -> Shape {
        self.0.shape()
    }

    fn path(&self) -> Path {
        Path::Values
    }
}

impl Engine for Sqlite {
    type Plan = SqlitePlan;

    const DEFERS_CONSTRAINTS: bool = false;
    const LOCKS_ROWS: bool = false;

    fn plan<R: BulkValues<Self>>(
        table: &Table,
        conflict: &OnConflict,
        _sample: &R,
    ) -> Result<Self::Plan, String> {
        let (mut head, mut tail) = (String::new(), String::new());
        insert_into(&mut head, table);
        on_conflict(&mut tail, table, conflict);
        Values::new(head, tail, table.columns().len(), BINDS, ROWS).map(SqlitePlan)
    }

    fn statement<R: BulkValues<Self>>(
        plan: &mut Self::Plan,
        rows: &[Indexed<'_, R>],
    ) -> Result<Statement<Self>, EncodeError> {
        Ok(Statement {
            arguments: plan.0.arguments::<Self, R>(rows)?,
            sql: plan.0.sql(rows.len(), |sql, _, _| sql.push('?')),
            rows: rows.len(),
        })
    }

    async fn insert(conn: &mut SqliteConnection, statement: Statement<Self>) -> sqlx::Result<u64> {
        sqlx::query_with(AssertSqlSafe(statement.sql), statement.arguments)
            .execute(conn)
            .await
            .map(|done| done.rows_affected())
    }

    async fn command(conn: &mut SqliteConnection, sql: &'static str) -> sqlx::Result<()> {
        sqlx::raw_sql(sql).execute(conn).await.map(|_| ())
    }

    // IMMEDIATE: a transaction that first reads cannot always become a writer later
    // (SQLITE_BUSY_SNAPSHOT), and waiting for the write lock is only possible at its start.
    async fn begin(conn: &mut SqliteConnection) -> sqlx::Result<Transaction<'_, Self>> {
        conn.begin_with(include_str!("../sql/begin_immediate.sql"))
            .await
    }

    // The connection's thread notices that nobody waits for its BEGIN, and rolls back.
    fn abandon_begin(_conn: &mut SqliteConnection) {}

    // Some errors end SQLite's transaction (a full disk, RAISE(ROLLBACK) in a trigger); sqlx does
    // not notice, its ROLLBACK then fails, and the connection would count as inside a transaction
    // for ever. A BEGIN of our own gives that ROLLBACK something to roll back; inside a
    // transaction that is still open it is refused, and nothing has changed.
    async fn before_rollback(conn: &mut SqliteConnection) {
        let _ = sqlx::raw_sql("BEGIN").execute(conn).await;
    }

    // A COMMIT that fails ends the transaction too (a full disk, a commit hook), and the ROLLBACK of
    // its guard then fails. sqlx's count can only go down by way of another guard: a nested BEGIN
    // in one's own words is always refused, and its guard rolls back the level around it.
    async fn after_failed_commit(conn: &mut SqliteConnection) {
        // Behind the ROLLBACK of the commit's own guard.
        if conn.ping().await.is_err() || !conn.is_in_transaction() {
            return;
        }
        Self::before_rollback(conn).await;
        let _ = conn.begin_with("BEGIN").await;
        let _ = conn.ping().await;
    }
}

/// By the primary result code (<https://www.sqlite.org/rescode.html>).
pub(super) fn class(code: &str) -> Class {
    match primary(code) {
        // TOOBIG, CONSTRAINT, MISMATCH.
        18..=20 => Class::Row,
        // BUSY, LOCKED.
        5 | 6 => Class::Transient,
        _ => Class::Fatal,
    }
}

pub(super) fn is_io(code: &str) -> bool {
    primary(code) == 10
}

/// The low byte of the extended code.
fn primary(code: &str) -> u32 {
    code.parse::<u32>().unwrap_or_default() & 0xff
}

/// SQLite has no field for the constraint; its messages, always English, name it behind a colon.
pub(super) fn constraint(message: &str) -> Option<String> {
    let (kind, name) = message.split_once(" constraint failed: ")?;
    matches!(kind, "UNIQUE" | "CHECK" | "NOT NULL").then(|| name.to_owned())
}
