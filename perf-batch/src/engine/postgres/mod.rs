//! Postgres.

mod bound;
mod plan;
mod sqlstate;
mod types;

use bound::bound;
pub(super) use plan::PostgresPlan;
use plan::Way;
pub(super) use sqlstate::class;
pub(super) use types::{Types, element};

use std::fmt::Write;
use std::future::poll_fn;
use std::ops::DerefMut;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};

use sqlx::postgres::{PgConnection, PgRow, PgValueRef};
use sqlx::{AssertSqlSafe, Connection, Either, Executor, Postgres, Row, Transaction};

use crate::engine::copy::Copying;
use crate::engine::join;
use crate::engine::sql::{quote_table_name, with_table};
use crate::engine::unnest::BYTES;
use crate::engine::{
    BulkDatabase, Called, EncodeError, Engine, How, Order, PlanError, Statement, Told, Unfinished,
    Wanted,
};
use crate::order::Indexed;
use crate::pieces::Shape;
use crate::ticket::{Outcome, TransactionId};
use crate::verb::Verb;
use crate::{BulkValues, Column};

impl BulkDatabase for Postgres {}

impl Engine for Postgres {
    type Plan = PostgresPlan;
    type Copying = Copying;

    const ATOMIC_ALONE: bool = true;
    const DEFERS_CONSTRAINTS: bool = true;
    const LOCKS_ROWS: bool = true;

    async fn plan<R: BulkValues<Self> + Sync>(
        conn: &mut PgConnection,
        wanted: &Wanted<'_>,
        sample: &R,
    ) -> Result<Self::Plan, PlanError> {
        let returning = match wanted.returning {
            Some(column) => Some(join::Wanted::ask(conn, wanted.table, column).await?),
            None => None,
        };
        PostgresPlan::new(wanted, sample, returning.as_ref()).map_err(PlanError::Invalid)
    }

    fn statement<R: BulkValues<Self>>(
        plan: &mut Self::Plan,
        rows: &[Indexed<'_, R>],
    ) -> Result<Statement<Self>, EncodeError> {
        let (values, casts, many) = match &mut plan.way {
            Way::Unnest(unnest) => return unnest.statement(rows),
            Way::Values {
                values,
                casts,
                many,
            } => (values, casts, many),
        };
        let columns = casts.len();
        let (mut arguments, taken) = bound(rows, columns, BYTES)?;
        let mut rows = rows;
        if taken < rows.len() {
            // The rows that have a text of a common size; that they are encoded twice is rare.
            rows = rows.get(..Shape::power(taken)).unwrap_or(rows);
            (arguments, _) = bound(rows, columns, usize::MAX)?;
        }
        let many = many.as_mut().filter(|_| rows.len() > 1);
        let is_numbered = many.is_some();
        let (values, casts) = many.map_or((values, &*casts), |(values, casts)| (values, casts));
        let placeholder = |sql: &mut String, row: usize, column: usize| {
            let _ = write!(sql, "${}", row * columns + column + 1);
            if let Some(cast) = casts.get(column) {
                if row == 0 {
                    sql.push_str(&cast.first);
                }
                sql.push_str(&cast.every);
            }
            if is_numbered && column + 1 == columns {
                let _ = write!(sql, ", {}", row + 1);
            }
        };
        Ok(Statement {
            arguments,
            sql: values.sql(rows.len(), placeholder),
            rows: rows.len(),
        })
    }

    async fn run(conn: &mut PgConnection, statement: Statement<Self>) -> sqlx::Result<u64> {
        sqlx::query_with(AssertSqlSafe(statement.sql), statement.arguments)
            .execute(conn)
            .await
            .map(|done| done.rows_affected())
    }

    async fn fetch(
        conn: &mut PgConnection,
        statement: Statement<Self>,
        told: Told<'_, Self>,
    ) -> sqlx::Result<Option<u64>> {
        let given = statement.rows;
        let query = sqlx::query_with(AssertSqlSafe(statement.sql), statement.arguments);
        match query.fetch_all(conn).await {
            Ok(answer) if given > 1 => join::tell(&answer, given, told),
            Ok(answer) => {
                answer.iter().try_for_each(|row| told(0, row, 0))?;
                Ok(Some(answer.len() as u64))
            }
            // No right to the sequence, a type without equality, a rule: a plain INSERT may do.
            Err(sqlx::Error::Database(error))
                if given > 1 && error.code().is_some_and(|code| join::is_unfit(&code)) =>
            {
                tracing::debug!(%error, "not in one statement");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn value(row: &PgRow, column: usize) -> sqlx::Result<PgValueRef<'_>> {
        row.try_get_raw(column)
    }

    // The server commits only after it has said that the statement is complete, so an error of its own
    // before that, be it that it goes down, leaves nothing behind.
    async fn run_alone(
        conn: &mut PgConnection,
        statement: Statement<Self>,
    ) -> Result<u64, Unfinished> {
        let query = sqlx::query_with(AssertSqlSafe(statement.sql), statement.arguments);
        let mut answers = conn.fetch_many(query);
        let mut affected = None;
        loop {
            match poll_fn(|cx| answers.as_mut().poll_next(cx)).await {
                Some(Ok(Either::Left(done))) => affected = Some(done.rows_affected()),
                Some(Ok(Either::Right(_))) => {}
                Some(Err(error)) => {
                    let told = matches!(error, sqlx::Error::Database(_) | sqlx::Error::Encode(_));
                    let done = affected.is_some() || !told;
                    return Err(Unfinished { error, done });
                }
                None => return Ok(affected.unwrap_or_default()),
            }
        }
    }

    async fn call<R: BulkValues<Self> + Sync>(
        conn: &mut PgConnection,
        plan: &mut Self::Plan,
        rows: &[Indexed<'_, R>],
        how: How,
        told: Told<'_, Self>,
    ) -> sqlx::Result<Called> {
        match &mut plan.way {
            Way::Unnest(unnest) => unnest.call(conn, rows, how, told).await,
            Way::Values { .. } => Err(sqlx::Error::Protocol("the plan has no call".into())),
        }
    }

    async fn tidy(conn: &mut PgConnection, plan: &mut Self::Plan) -> sqlx::Result<()> {
        match &mut plan.way {
            Way::Unnest(unnest) => unnest.tidy(conn).await,
            Way::Values { .. } => Ok(()),
        }
    }

    async fn command(conn: &mut PgConnection, sql: &'static str) -> sqlx::Result<()> {
        sqlx::raw_sql(sql).execute(conn).await.map(|_| ())
    }

    async fn begin(conn: &mut PgConnection) -> sqlx::Result<Transaction<'_, Self>> {
        conn.begin().await
    }

    // sqlx counts a transaction only once its BEGIN was answered: a future dropped before that
    // leaves the BEGIN in the connection's buffer and nothing that would roll it back, and the
    // connection goes back to its pool inside a transaction. Custom begin statements are queued
    // without waiting, at the first poll, so this one puts a ROLLBACK behind the BEGIN.
    fn abandon_begin(conn: &mut PgConnection) {
        let rollback = pin!(conn.begin_with("ROLLBACK"));
        let _ = rollback.poll(&mut Context::from_waker(Waker::noop()));
    }

    async fn copying<R: BulkValues<Self> + Sync>(
        conn: &mut PgConnection,
        wanted: &Wanted<'_>,
        sample: &R,
        rows: usize,
    ) -> Result<Option<Copying>, PlanError> {
        Copying::plan(conn, wanted, sample, rows).await
    }

    fn encode_copy<R: BulkValues<Self>>(
        copying: &Copying,
        rows: &[Indexed<'_, R>],
    ) -> Result<(Vec<u8>, usize), EncodeError> {
        copying.encode(rows)
    }

    fn copy_sql(copying: &Copying) -> Arc<str> {
        copying.sql()
    }

    async fn hold(conn: &mut PgConnection, copying: &Copying) -> sqlx::Result<()> {
        copying.hold(conn).await
    }

    fn copy<C>(
        conn: C,
        sql: Arc<str>,
        data: Vec<u8>,
    ) -> impl Future<Output = (Option<C>, sqlx::Result<u64>)> + Send
    where
        C: DerefMut<Target = PgConnection> + Send + 'static,
    {
        super::copy::run(conn, sql, data)
    }

    fn refused_row(copying: &Copying, error: &sqlx::Error) -> Option<usize> {
        copying.row(error)
    }

    async fn order(conn: &mut PgConnection, wanted: &Wanted<'_>) -> sqlx::Result<Order> {
        let Wanted { table, verb, .. } = *wanted;
        let mut name = String::new();
        quote_table_name(&mut name, table.name());
        let keys = table.columns().iter().filter(|column| column.is_key());
        let keys: Vec<&str> = keys.map(Column::name).collect();
        let order = sqlx::query_scalar(include_str!("../../sql/order_postgres.sql"))
            .bind(name)
            .bind(keys)
            .bind(verb.updates())
            .bind(*verb == Verb::Update)
            .fetch_one(conn)
            .await?;
        Ok(Order::of(order))
    }

    async fn transaction_id(conn: &mut PgConnection) -> sqlx::Result<Option<TransactionId>> {
        super::outcome::transaction_id(conn).await.map(Some)
    }

    async fn outcome(conn: &mut PgConnection, id: &TransactionId) -> sqlx::Result<Outcome> {
        super::outcome::outcome(conn, id).await
    }

    async fn mark(conn: &mut PgConnection, table: &str, id: &str) -> sqlx::Result<()> {
        let sql = with_table(include_str!("../../sql/mark.sql"), table);
        let query = sqlx::query(AssertSqlSafe(sql)).bind(id);
        query.execute(conn).await.map(|_| ())
    }

    async fn marked(conn: &mut PgConnection, table: &str, id: &str) -> sqlx::Result<Outcome> {
        let sql = with_table(include_str!("../../sql/mark.sql"), table);
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

    async fn before_rollback(_conn: &mut PgConnection) {}

    async fn after_failed_commit(_conn: &mut PgConnection) {}
}
