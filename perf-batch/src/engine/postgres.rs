use std::cell::Cell;
use std::fmt::Write;
use std::future::poll_fn;
use std::ops::DerefMut;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};

use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::{
    PgArgumentBuffer, PgArguments, PgConnection, PgRow, PgTypeInfo, PgTypeKind, PgValueRef,
};
use sqlx::{
    Arguments, AssertSqlSafe, Connection, Either, Encode, Executor, Postgres, Row, Transaction,
    Type, TypeInfo,
};

use super::copy::Copying;
use super::join;
use super::sql::{self, Rows, quote_table_name, with_table};
use super::unnest::{BYTES, Unnest};
use super::values::{Values, expect};
use super::{
    BulkDatabase, Called, Class, EncodeError, Engine, How, Order, Plan, PlanError, Statement, Told,
    Unfinished, Wanted,
};
use crate::order::Indexed;
use crate::pieces::Shape;
use crate::ticket::{Outcome, TransactionId};
use crate::verb::Verb;
use crate::{BulkValues, Column, Path, ValueSink};

/// The protocol counts parameters in 16 bits.
const BINDS: usize = 65_535;

/// Rows of values in a statement: longer texts only cost the server more to parse.
const ROWS: usize = 256;

impl BulkDatabase for Postgres {}

/// The plan for Postgres: arrays where every column's type has one, else rows of values.
#[derive(Debug)]
pub struct PostgresPlan {
    way: Way,
    returns_many: bool,
    requests: u64,
}

#[derive(Debug)]
enum Way {
    Unnest(Unnest),
    Values {
        values: Values,
        casts: Vec<Cast>,
        /// For several rows that return values.
        many: Option<(Values, Vec<Cast>)>,
    },
}

/// What a placeholder is cast to.
#[derive(Debug, Default)]
struct Cast {
    /// Behind the placeholder of every row.
    every: String,
    /// Behind that of the first row only: it makes the text differ where the types do, as sqlx's
    /// statement cache goes by the text alone.
    first: String,
}

impl Plan for PostgresPlan {
    fn shape(&self) -> Shape {
        match self.way {
            Way::Unnest(_) => Unnest::SHAPE,
            Way::Values { ref values, .. } => values.shape(),
        }
    }

    fn path(&self) -> Path {
        match self.way {
            Way::Unnest(_) => Path::Unnest,
            Way::Values { .. } => Path::Values,
        }
    }

    fn calls(&self) -> bool {
        matches!(self.way, Way::Unnest(_))
    }

    fn returns_many(&self) -> bool {
        self.returns_many
    }

    fn may_mix_up(&self) -> bool {
        true
    }

    fn requests(&self) -> u64 {
        self.requests
    }
}

impl PostgresPlan {
    fn new<R: BulkValues<Postgres>>(
        wanted: &Wanted<'_>,
        sample: &R,
        returning: Option<&join::Wanted>,
    ) -> Result<Self, String> {
        let Wanted { table, verb, .. } = *wanted;
        let requests = u64::from(returning.is_some());
        let text = |rows| {
            let mut text = sql::postgres(table, verb, rows);
            if let Some(returning) = returning {
                returning.returning(&mut text.after);
            }
            text
        };
        let many = |rows| match verb {
            Verb::Insert(conflict) => returning?.statement(table, conflict, rows),
            _ => None,
        };
        let columns = table.columns();
        let types = Types::of(sample).types;
        let known = types.len() == columns.len();
        let unfit = types.iter().position(|ty| element(ty).is_none());
        match wanted.path {
            None | Some(Path::Unnest | Path::Copy) if known && unfit.is_none() => {
                let many = many(Rows::Table);
                let returns_many = many.is_some();
                let many = many.map(|text| Unnest::new(text, columns, types.clone()));
                let mut unnest = Unnest::new(text(Rows::Table), columns, types);
                if let Some(returning) = returning {
                    unnest = unnest.returning(returning.ty.clone(), many);
                }
                return Ok(Self {
                    way: Way::Unnest(unnest),
                    returns_many,
                    requests,
                });
            }
            Some(Path::Unnest) => {
                let column = unfit.and_then(|at| columns.get(at));
                let name = column.map_or("a column", Column::name);
                return Err(format!(
                    "the path unnest cannot carry {name:?}: its type has no array that is known from the start"
                ));
            }
            None | Some(Path::Values | Path::Copy) => {}
            Some(path) => return Err(format!("there is no path {path} on Postgres")),
        }
        let inserts = matches!(verb, Verb::Insert(_));
        let casts = |inserts| {
            let casts = columns.iter().enumerate();
            let casts = casts.map(|(at, column)| Cast::new(column, types.get(at), inserts));
            casts.collect::<Vec<_>>()
        };
        let values = |text| Values::new(text, columns.len(), BINDS, ROWS, wanted.exact);
        let many = match many(Rows::Values) {
            Some(text) => Some((values(text)?, casts(false))),
            None => None,
        };
        Ok(Self {
            returns_many: many.is_some(),
            way: Way::Values {
                values: values(text(Rows::Values))?,
                casts: casts(inserts),
                many,
            },
            requests,
        })
    }
}

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
        let several = rows.len() > 1;
        let (values, casts, is_numbered) = match &mut plan.way {
            Way::Unnest(unnest) => return unnest.statement(rows),
            Way::Values {
                many: Some((values, casts)),
                ..
            } if several => (values, casts, true),
            Way::Values { values, casts, .. } => (values, casts, false),
        };
        let columns = casts.len();
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
        let (mut arguments, taken) = bound(rows, columns, BYTES)?;
        let mut rows = rows;
        if taken < rows.len() {
            // The rows that have a text of a common size; that they are encoded twice is rare.
            rows = rows.get(..Shape::power(taken)).unwrap_or(rows);
            (arguments, _) = bound(rows, columns, usize::MAX)?;
        }
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
        let order = sqlx::query_scalar(include_str!("../sql/order_postgres.sql"))
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
        let sql = with_table(include_str!("../sql/mark.sql"), table);
        let query = sqlx::query(AssertSqlSafe(sql)).bind(id);
        query.execute(conn).await.map(|_| ())
    }

    async fn marked(conn: &mut PgConnection, table: &str, id: &str) -> sqlx::Result<Outcome> {
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

    async fn before_rollback(_conn: &mut PgConnection) {}

    async fn after_failed_commit(_conn: &mut PgConnection) {}
}

/// The values of rows from the front, up to the row that reaches `max_bytes`; and how many rows
/// these are.
fn bound<R: BulkValues<Postgres>>(
    rows: &[Indexed<'_, R>],
    columns: usize,
    max_bytes: usize,
) -> Result<(PgArguments, usize), EncodeError> {
    let mut sink = Bound::default();
    sink.arguments.reserve(rows.len() * columns, 0);
    for (offset, (_, row)) in rows.iter().enumerate() {
        row.values(&mut sink)
            .and_then(|()| expect(sink.arguments.len(), (offset + 1) * columns, columns))
            .map_err(|source| EncodeError { offset, source })?;
        if sink.bytes >= max_bytes {
            return Ok((sink.arguments, offset + 1));
        }
    }
    Ok((sink.arguments, rows.len()))
}

#[derive(Default)]
struct Bound {
    arguments: PgArguments,
    bytes: usize,
}

impl ValueSink<Postgres> for Bound {
    fn push<'q, T>(&mut self, value: T) -> Result<(), BoxDynError>
    where
        T: Encode<'q, Postgres> + Type<Postgres>,
    {
        let bytes = &mut self.bytes;
        self.arguments.add(Counted {
            value,
            bytes: Cell::from_mut(bytes),
        })
    }
}

/// A value that counts how long it is.
struct Counted<'b, T> {
    value: T,
    bytes: &'b Cell<usize>,
}

impl<T: Type<Postgres>> Type<Postgres> for Counted<'_, T> {
    fn type_info() -> PgTypeInfo {
        T::type_info()
    }
}

impl<'q, T: Encode<'q, Postgres>> Encode<'q, Postgres> for Counted<'_, T> {
    fn encode_by_ref(&self, buf: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        let before = buf.len();
        let encoded = self.value.encode_by_ref(buf);
        self.bytes
            .set(self.bytes.get() + buf.len().saturating_sub(before));
        encoded
    }

    fn produces(&self) -> Option<PgTypeInfo> {
        self.value.produces()
    }

    fn size_hint(&self) -> usize {
        self.value.size_hint()
    }
}

impl Cast {
    /// `inserts`: the server knows the types by the columns that the values go to.
    fn new(column: &Column, ty: Option<&PgTypeInfo>, inserts: bool) -> Self {
        let mut cast = Self::default();
        let name = ty.and_then(|ty| {
            if inserts {
                element(ty)
            } else {
                Some(ty.name())
            }
        });
        if let Some(name) = name.filter(|name| !name.contains('"')) {
            let _ = write!(cast.first, "::{name}");
        }
        if let Some(name) = column.cast() {
            let _ = write!(cast.every, "::{name}");
        }
        cast
    }
}

/// The name of a plain type that Postgres has from the start, which can be an array's element
/// without asking the server for anything. Not among them: arrays, which `unnest` would flatten,
/// and types that only their name tells.
pub(super) fn element(ty: &PgTypeInfo) -> Option<&str> {
    let name = ty.name();
    // sqlx knows no kind of a type that was declared by its OID, and panics when asked.
    let known = ty.oid().is_some() && name != "?";
    let plain = known && matches!(ty.kind(), PgTypeKind::Simple);
    // sqlx spells the one-byte "char" as it spells no other type.
    (plain && !name.contains('"')).then_some(name)
}

/// What a row says of the others.
#[derive(Default)]
pub(super) struct Types {
    /// The type of each column; none where the row cannot say them: it is refused later, like any
    /// that fails to encode.
    pub(super) types: Vec<PgTypeInfo>,
    /// How long its values are, each with its length.
    pub(super) bytes: usize,
    scratch: PgArgumentBuffer,
}

impl Types {
    pub(super) fn of<R: BulkValues<Postgres>>(sample: &R) -> Self {
        let mut types = Self::default();
        if sample.values(&mut types).is_err() {
            types.types.clear();
        }
        types
    }
}

impl ValueSink<Postgres> for Types {
    fn push<'q, T>(&mut self, value: T) -> Result<(), BoxDynError>
    where
        T: Encode<'q, Postgres> + Type<Postgres>,
    {
        self.types
            .push(value.produces().unwrap_or_else(T::type_info));
        self.scratch.clear();
        // A value that cannot be encoded has a type all the same.
        let _ = value.encode(&mut self.scratch);
        self.bytes += self.scratch.len() + 4;
        Ok(())
    }
}

/// By SQLSTATE (<https://www.postgresql.org/docs/current/errcodes-appendix.html>).
pub(super) fn class(code: &str) -> Class {
    match code {
        // ON CONFLICT DO UPDATE met a row twice: the rows go in by themselves. A view's check
        // option; a value too long for its index.
        "21000" | "44000" | "54000" => Class::Row,
        // A trigger's: CASE without the row's case, an action it refuses, a row changed by another.
        "20000" | "09000" | "27000" => Class::Row,
        // serialization_failure, deadlock_detected, lock_not_available, and the server going
        // down, away, or not up yet.
        "40001" | "40P01" | "55P03" | "57P01" | "57P02" | "57P03" => Class::Transient,
        _ => match code.get(..2) {
            Some("22" | "23") => Class::Row,
            // connection_exception, insufficient_resources.
            Some("08" | "53") => Class::Transient,
            Some(class) if raised(class) => Class::Row,
            _ => Class::Fatal,
        },
    }
}

/// Whether errors of this class come from the code of a trigger: PL/pgSQL's own, the standard's
/// for exceptions of the user, and those that the standard leaves to implementations (5 to 9, I to
/// Z) without the ones that Postgres uses.
fn raised(class: &str) -> bool {
    match class {
        "P0" | "45" => true,
        "53" | "54" | "55" | "57" | "58" | "72" | "XX" => false,
        _ => class.starts_with(|c: char| matches!(c, '5'..='9' | 'I'..='Z')),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_says_what_is_to_blame() {
        for code in [
            "23505", "22001", "P0001", "P0002", "45000", "QZ001", "99001", "20000", "09000",
            "27000",
        ] {
            assert_eq!(class(code), Class::Row, "{code}");
        }
        for code in ["40001", "40P01", "55P03", "08006", "53300", "57P01"] {
            assert_eq!(class(code), Class::Transient, "{code}");
        }
        for code in [
            "42P01", "25P02", "54001", "55000", "57014", "58030", "XX000", "HV000", "",
        ] {
            assert_eq!(class(code), Class::Fatal, "{code}");
        }
    }

    /// The function that looks for bad rows on the server must take the same errors for a row's
    /// fault.
    #[tokio::test]
    async fn the_server_takes_the_same_codes_for_a_rows_fault() {
        let Some(server) = testkit::Postgres::shared().await else {
            return;
        };
        let mut conn = PgConnection::connect(&server.url()).await.unwrap();
        let letters = || ('0'..='9').chain('A'..='Z');
        let classes = letters().flat_map(|a| letters().map(move |b| format!("{a}{b}")));
        let classes: Vec<String> = classes.collect();
        let mut codes: Vec<String> = Vec::new();
        for rest in ["000", "001", "002", "003", "P01", "P02", "P03", "ZZZ"] {
            codes.extend(classes.iter().map(|class| format!("{class}{rest}")));
        }
        let fault = include_str!("../sql/row_fault.sql").replace("SQLSTATE", "code");
        assert_ne!(fault, include_str!("../sql/row_fault.sql"));
        let sql = format!("SELECT code FROM unnest($1::text[]) AS given (code) WHERE {fault}");
        let server: Vec<String> = sqlx::query_scalar(AssertSqlSafe(sql))
            .bind(&codes)
            .fetch_all(&mut conn)
            .await
            .unwrap();
        let ours = codes.iter().filter(|code| class(code) == Class::Row);
        let ours: Vec<String> = ours.cloned().collect();
        assert_eq!(server, ours);
        assert!(ours.len() > 1_000 && ours.len() < codes.len() - 1_000);
    }
}
