use std::convert::Infallible;
use std::future::{poll_fn, ready};
use std::ops::DerefMut;
use std::sync::Arc;
use std::task::{Context, Waker};

use sqlx::error::BoxDynError;
use sqlx::sqlite::{SqliteArguments, SqliteRow, SqliteValueRef};
use sqlx::{
    Arguments, AssertSqlSafe, Connection, Either, Encode, Executor, Row, Sqlite, SqliteConnection,
    Transaction, Type,
};

use super::sql::{self, with_table};
use super::values::{Values, expect};
use super::{
    BulkDatabase, Class, EncodeError, Engine, Order, Plan, PlanError, Statement, Told, Unfinished,
    Wanted,
};
use crate::order::Indexed;
use crate::pieces::Shape;
use crate::ticket::{Outcome, TransactionId};
use crate::verb::Verb;
use crate::{BulkValues, Path, ValueSink, table};

/// SQLITE_MAX_VARIABLE_NUMBER of SQLite since 3.32 (<https://www.sqlite.org/limits.html>).
const BINDS: usize = 32_766;

/// Measured over 256 to 4,096 with the next statement made meanwhile: fewer cost more trips to the
/// connection's thread, more are no faster.
const ROWS: usize = 1_024;

/// Statements of one row in a trip, few enough to stay in the connection's statement cache.
const EACH: usize = 64;

impl BulkDatabase for Sqlite {}

/// The plan for SQLite: rows of values, as each statement costs a trip to the connection's thread.
#[derive(Debug)]
pub struct SqlitePlan {
    values: Values,
    /// A statement for each row, many in one trip.
    each: bool,
}

impl Plan for SqlitePlan {
    fn shape(&self) -> Shape {
        self.values.shape()
    }

    fn path(&self) -> Path {
        Path::Values
    }

    fn returns_many(&self) -> bool {
        self.each
    }
}

impl Engine for Sqlite {
    type Plan = SqlitePlan;
    type Copying = Infallible;

    const ATOMIC_ALONE: bool = true;
    const DEFERS_CONSTRAINTS: bool = false;
    const LOCKS_ROWS: bool = false;

    async fn plan<R: BulkValues<Self> + Sync>(
        _conn: &mut SqliteConnection,
        wanted: &Wanted<'_>,
        _sample: &R,
    ) -> Result<Self::Plan, PlanError> {
        if let Some(path @ (Path::Empty | Path::Unnest | Path::Copy)) = wanted.path {
            let reason =
                format!("there is no path {path} on SQLite: leave the choice to the crate");
            return Err(PlanError::Invalid(reason));
        }
        let each = wanted.returning.is_some();
        let mut text = sql::sqlite(wanted.table, wanted.verb);
        if let Some(column) = wanted.returning {
            sql::returning_sqlite(&mut text.after, column);
        }
        Values::new(
            text,
            wanted.table.columns().len(),
            BINDS,
            if each { EACH } else { ROWS },
            if each { 0 } else { wanted.exact },
        )
        .map(|values| SqlitePlan { values, each })
        .map_err(PlanError::Invalid)
    }

    fn statement<R: BulkValues<Self>>(
        plan: &mut Self::Plan,
        rows: &[Indexed<'_, R>],
    ) -> Result<Statement<Self>, EncodeError> {
        Ok(Statement {
            arguments: arguments(rows, plan.values.columns())?,
            sql: if plan.each {
                plan.values
                    .sql_of_each(rows.len(), |sql, _, _| sql.push('?'))
            } else {
                plan.values.sql(rows.len(), |sql, _, _| sql.push('?'))
            },
            rows: rows.len(),
        })
    }

    async fn run(conn: &mut SqliteConnection, statement: Statement<Self>) -> sqlx::Result<u64> {
        sqlx::query_with(AssertSqlSafe(statement.sql), statement.arguments)
            .execute(conn)
            .await
            .map(|done| done.rows_affected())
    }

    // RETURNING promises no order, so each row has a statement of its own.
    async fn fetch(
        conn: &mut SqliteConnection,
        statement: Statement<Self>,
        told: Told<'_, Self>,
    ) -> sqlx::Result<Option<u64>> {
        let query = sqlx::query_with(AssertSqlSafe(statement.sql), statement.arguments);
        let mut answers = conn.fetch_many(query);
        let (mut at, mut written, mut all) = (0, 0, Ok(()));
        while let Some(answer) = poll_fn(|cx| answers.as_mut().poll_next(cx)).await {
            match answer? {
                Either::Left(_) => at += 1,
                Either::Right(row) => {
                    written += 1;
                    // To the end all the same: the connection's thread is at it.
                    all = all.and_then(|()| told(at, &row, 0));
                }
            }
        }
        all.map(|()| Some(written))
    }

    fn value(row: &SqliteRow, column: usize) -> sqlx::Result<SqliteValueRef<'_>> {
        row.try_get_raw(column)
    }

    // In a transaction all the same, since RAISE(FAIL) and ON CONFLICT FAIL keep what their statement
    // did before: but in one trip to the connection's thread, where each costs tens of microseconds.
    async fn run_alone(
        conn: &mut SqliteConnection,
        statement: Statement<Self>,
    ) -> Result<u64, Unfinished> {
        let sql = format!("BEGIN IMMEDIATE; {}; COMMIT", statement.sql);
        let query = sqlx::query_with(AssertSqlSafe(sql), statement.arguments);
        let mut begun = Begun { conn, open: true };
        let mut done = Vec::with_capacity(3);
        let error = {
            let mut answers = begun.conn.fetch_many(query);
            loop {
                match poll_fn(|cx| answers.as_mut().poll_next(cx)).await {
                    Some(Ok(Either::Left(part))) => done.push(part.rows_affected()),
                    Some(Ok(Either::Right(_))) => {}
                    Some(Err(error)) => break Some(error),
                    None => break None,
                }
            }
        };
        let Some(error) = error else {
            begun.open = false;
            return Ok(done.get(1).copied().unwrap_or_default());
        };
        if !done.is_empty() {
            // Where the error ended the transaction already, this is refused, and all is well.
            let _ = sqlx::raw_sql("ROLLBACK").execute(&mut *begun.conn).await;
        }
        begun.open = false;
        Err(Unfinished {
            error,
            done: done.len() > 1,
        })
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

    async fn copying<R: BulkValues<Self> + Sync>(
        _conn: &mut SqliteConnection,
        _wanted: &Wanted<'_>,
        _sample: &R,
        _rows: usize,
    ) -> Result<Option<Infallible>, PlanError> {
        Ok(None)
    }

    fn encode_copy<R: BulkValues<Self>>(
        copying: &Infallible,
        _rows: &[Indexed<'_, R>],
    ) -> Result<(Vec<u8>, usize), EncodeError> {
        match *copying {}
    }

    fn copy_sql(copying: &Infallible) -> Arc<str> {
        match *copying {}
    }

    async fn hold(_conn: &mut SqliteConnection, copying: &Infallible) -> sqlx::Result<()> {
        match *copying {}
    }

    fn copy<C>(
        conn: C,
        _sql: Arc<str>,
        _data: Vec<u8>,
    ) -> impl Future<Output = (Option<C>, sqlx::Result<u64>)> + Send
    where
        C: DerefMut<Target = SqliteConnection> + Send + 'static,
    {
        ready((
            Some(conn),
            Err(sqlx::Error::Protocol("SQLite has no COPY".into())),
        ))
    }

    fn refused_row(copying: &Infallible, _error: &sqlx::Error) -> Option<usize> {
        match *copying {}
    }

    async fn order(conn: &mut SqliteConnection, wanted: &Wanted<'_>) -> sqlx::Result<Order> {
        let Wanted { table, verb, .. } = *wanted;
        let parts = table::parts(table.name());
        let name = match parts.as_slice() {
            [name] => name.as_str(),
            [main, name] if main.eq_ignore_ascii_case("main") => name.as_str(),
            // What another file has is not looked at.
            _ => return Ok(Order::Singly),
        };
        // A list for `instr`, as there are no arrays.
        let mut keys = String::from("\0");
        for column in table.columns().iter().filter(|column| column.is_key()) {
            keys.push_str(&column.name().to_lowercase());
            keys.push('\0');
        }
        let order = sqlx::query_scalar(include_str!("../sql/order_sqlite.sql"))
            .bind(name)
            .bind(keys.into_bytes())
            .bind(verb.updates())
            .bind(*verb == Verb::Update)
            .fetch_one(conn)
            .await?;
        Ok(Order::of(order))
    }

    async fn transaction_id(_conn: &mut SqliteConnection) -> sqlx::Result<Option<TransactionId>> {
        Ok(None)
    }

    async fn outcome(_conn: &mut SqliteConnection, _id: &TransactionId) -> sqlx::Result<Outcome> {
        Ok(Outcome::Forgotten)
    }

    async fn mark(conn: &mut SqliteConnection, table: &str, id: &str) -> sqlx::Result<()> {
        let sql = with_table(include_str!("../sql/mark.sql"), table);
        let query = sqlx::query(AssertSqlSafe(sql)).bind(id);
        query.execute(conn).await.map(|_| ())
    }

    async fn marked(conn: &mut SqliteConnection, table: &str, id: &str) -> sqlx::Result<Outcome> {
        let sql = with_table(include_str!("../sql/mark.sql"), table);
        let mut tx = Self::begin(conn).await?;
        let query = sqlx::query(AssertSqlSafe(sql)).bind(id);
        let free = query.execute(&mut *tx).await?.rows_affected() > 0;
        tx.rollback().await?;
        Ok(if free {
            Outcome::RolledBack
        } else {
            Outcome::Committed
        })
    }

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

/// The rows' values, row by row.
fn arguments<R: BulkValues<Sqlite>>(
    rows: &[Indexed<'_, R>],
    columns: usize,
) -> Result<SqliteArguments, EncodeError> {
    let mut sink = Bound::default();
    sink.0.reserve(rows.len() * columns, 0);
    for (offset, (_, row)) in rows.iter().enumerate() {
        row.values(&mut sink)
            .and_then(|()| expect(sink.0.len(), (offset + 1) * columns, columns))
            .map_err(|source| EncodeError { offset, source })?;
    }
    Ok(sink.0)
}

#[derive(Default)]
struct Bound(SqliteArguments);

impl ValueSink<Sqlite> for Bound {
    fn push<'q, T>(&mut self, value: T) -> Result<(), BoxDynError>
    where
        T: Encode<'q, Sqlite> + Type<Sqlite>,
    {
        self.0.add(value)
    }
}

/// A connection on which a transaction may be open that sqlx does not know of.
struct Begun<'c> {
    conn: &'c mut SqliteConnection,
    open: bool,
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        if self.open {
            // One poll hands it to the connection's thread, which needs nobody to wait for it.
            let mut rollback = self.conn.fetch_many(sqlx::raw_sql("ROLLBACK"));
            let mut cx = Context::from_waker(Waker::noop());
            let _ = rollback.as_mut().poll_next(&mut cx);
        }
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
