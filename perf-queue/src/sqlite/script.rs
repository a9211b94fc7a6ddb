use sqlx::sqlite::{SqliteArguments, SqliteQueryResult};
use sqlx::{Arguments, AssertSqlSafe, Encode, Sqlite, SqliteConnection, Type};

/// Statements that go to SQLite's thread at once: each trip there and back costs more than many a
/// statement, and a whole turn of the scheduler where the machine is busy.
///
/// A connection keeps each text that it has seen compiled, so there must be few: statements have
/// parameters without numbers, which are those of the text.
#[derive(Debug, Default)]
pub(super) struct Script {
    sql: String,
    values: SqliteArguments,
    /// The last statement has parameters that may be missing, so that none can follow with others.
    ends: bool,
}

impl Script {
    pub(super) fn is_empty(&self) -> bool {
        self.sql.is_empty()
    }

    pub(super) fn reserve(&mut self, values: usize) {
        self.values.reserve(values, 0);
    }

    pub(super) fn statement(&mut self, sql: &str) {
        self.sql.push_str(sql);
        self.sql.push(';');
    }

    /// The same, for a statement whose last parameters may be missing, which are null then.
    pub(super) fn last_statement(&mut self, sql: &str) {
        self.statement(sql);
        self.ends = true;
    }

    /// Whether it must be run before there can be more parameters.
    pub(super) fn is_ended(&self) -> bool {
        self.ends
    }

    /// The next parameter.
    pub(super) fn bind<'t, T>(&mut self, value: T) -> sqlx::Result<()>
    where
        T: Encode<'t, Sqlite> + Type<Sqlite>,
    {
        self.values.add(value).map_err(sqlx::Error::Encode)
    }

    /// Runs the statements up to the first that fails, and is empty then.
    pub(super) async fn run(
        &mut self,
        conn: &mut SqliteConnection,
    ) -> sqlx::Result<SqliteQueryResult> {
        let Self { sql, values, .. } = std::mem::take(self);
        // Made of what is in `sql/` alone.
        sqlx::query_with(AssertSqlSafe(sql), values)
            .execute(conn)
            .await
    }
}
