//! The fallback in one request: a temporary function that inserts what can be inserted.

use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};

use sqlx::postgres::{PgArguments, PgConnection};
use sqlx::{Arguments, AssertSqlSafe, Postgres, Row};

use super::sql::Text;
use super::{Called, How, Refusal, Told};

/// The function for one statement, made at its first call.
#[derive(Debug)]
pub(super) struct Call {
    text: Text,
    /// `$1::int8[], $2::text[]`: the types of the columns.
    arrays: String,
    /// The type of the values that the statement returns.
    value: Option<String>,
    /// It can be called.
    made: bool,
    /// It may be there.
    tried: bool,
}

impl Call {
    pub(super) fn new(text: Text, arrays: String) -> Self {
        Self {
            text,
            arrays,
            value: None,
            made: false,
            tried: false,
        }
    }

    /// For a statement that returns a value of type `ty`.
    pub(super) fn returning(self, ty: String) -> Self {
        let value = Some(ty);
        Self { value, ..self }
    }

    /// Calls the function with the arrays of the rows.
    pub(super) async fn run(
        &mut self,
        conn: &mut PgConnection,
        mut arguments: PgArguments,
        how: How,
        told: Told<'_, Postgres>,
    ) -> sqlx::Result<Called> {
        let name = self.name();
        // An error takes it away again, or not, as the savepoint is before it or behind it.
        if !std::mem::take(&mut self.made) {
            self.tried = true;
            let create = AssertSqlSafe(self.create(&name));
            sqlx::raw_sql(create).execute(&mut *conn).await?;
        }
        let room = i64::try_from(how.room).unwrap_or(i64::MAX);
        let columns = arguments.len();
        arguments.add(how.singly).map_err(sqlx::Error::Encode)?;
        arguments.add(how.suspect).map_err(sqlx::Error::Encode)?;
        arguments.add(room).map_err(sqlx::Error::Encode)?;
        let mut sql = format!("SELECT * FROM pg_temp.{name}({}", self.arrays);
        for n in columns + 1..=columns + 3 {
            let _ = write!(sql, ", ${n}");
        }
        sql.push(')');
        // Not kept in the cache: the function goes with the transaction.
        let query = sqlx::query_with(AssertSqlSafe(sql), arguments).persistent(false);
        let rows = query.fetch_all(&mut *conn).await?;
        let mut called = Called::default();
        for row in rows {
            let (at, affected): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
            match usize::try_from(at - 1) {
                Ok(at) if affected > 0 => told(at, &row, VALUE_AT)?,
                Ok(at) => called.failed.push((at, refusal(&row)?)),
                Err(_) => called.affected = affected.unsigned_abs(),
            }
        }
        self.made = true;
        Ok(called)
    }

    /// Drops the function, where it was made.
    pub(super) async fn drop(&mut self, conn: &mut PgConnection) -> sqlx::Result<()> {
        self.made = false;
        if std::mem::take(&mut self.tried) {
            let drop = format!("DROP FUNCTION IF EXISTS pg_temp.{}", self.name());
            sqlx::raw_sql(AssertSqlSafe(drop)).execute(conn).await?;
        }
        Ok(())
    }

    /// Of the text, so that functions of two batches in one transaction do not meet.
    fn name(&self) -> String {
        let mut hasher = DefaultHasher::new();
        (&self.text.before, &self.text.after, &self.arrays).hash(&mut hasher);
        format!("perf_batch_{:016x}", hasher.finish())
    }

    fn create(&self, name: &str) -> String {
        let types: Vec<&str> = self
            .arrays
            .split(", ")
            .map(|array| array.split_once("::").map_or(array, |(_, ty)| ty))
            .collect();
        let each = |write: fn(usize, &str) -> String| {
            let each = types.iter().enumerate().map(|(at, ty)| write(at + 1, ty));
            each.collect::<Vec<_>>().join(", ")
        };
        let (function, value) = match &self.value {
            // One by one, as only a row that is alone can be sure of its value.
            Some(value) => (include_str!("../sql/one_by_one.sql"), value.as_str()),
            None => (include_str!("../sql/one_call.sql"), ""),
        };
        let parameters = each(|n, ty| format!("perf_{n} {ty}"));
        let arrays = each(|n, _| format!("perf_{n}"));
        let columns = each(|n, _| format!("c{n}"));
        let row = each(|n, _| format!("perf_row.c{n}"));
        let slices = each(|n, _| format!("perf_{n}[perf_next:perf_next + perf_take - 1]"));
        let mut parts = vec![
            ("value", value),
            ("name", name),
            ("parameters", &parameters),
            ("arrays", &arrays),
            ("columns", &columns),
            ("row", &row),
            ("slices", &slices),
            ("row_fault", ROW_FAULT),
            ("before", &self.text.before),
            ("after", &self.text.after),
        ];
        // What quotes the body must not be in it, whatever the tables and columns are called.
        let mut tag = "perf_batch".to_owned();
        while parts.iter().any(|(_, part)| part.contains(&tag)) {
            tag.push('_');
        }
        parts.push(("tag", &tag));
        filled(function, &parts)
    }
}

/// The template with each `{part}` in its place; what the parts hold is left as it is.
fn filled(template: &str, parts: &[(&str, &str)]) -> String {
    let mut text = String::with_capacity(template.len() * 2);
    let mut rest = template;
    while let Some((before, behind)) = rest.split_once('{') {
        text.push_str(before);
        let named = behind.split_once('}').and_then(|(name, behind)| {
            let part = parts.iter().find(|(part, _)| *part == name)?;
            Some((part.1, behind))
        });
        match named {
            Some((part, behind)) => {
                text.push_str(part);
                rest = behind;
            }
            None => {
                text.push('{');
                rest = behind;
            }
        }
    }
    text.push_str(rest);
    text
}

/// Where the function's answer has the value.
const VALUE_AT: usize = 5;

/// What [`class`](super::postgres::class) takes for a row's fault, in SQL; a test compares the two.
const ROW_FAULT: &str = include_str!("../sql/row_fault.sql");

fn refusal(row: &sqlx::postgres::PgRow) -> sqlx::Result<Refusal> {
    let constraint: String = row.try_get(3)?;
    Ok(Refusal {
        code: Some(row.try_get(2)?),
        constraint: Some(constraint).filter(|name| !name.is_empty()),
        message: row.try_get(4)?,
        source: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_ends_the_body_or_is_taken_for_a_part() {
        let text = Text {
            before: r#"INSERT INTO "x$perf_batch$; {after} DROP" SELECT c1 FROM "#.into(),
            after: " AS batch (c1)".into(),
        };
        let sql = Call::new(text, "$1::int8[]".into()).create("f");
        let (_, body) = sql.split_once(" AS $").unwrap();
        let (tag, body) = body.split_once('$').unwrap();
        assert_eq!(body.matches(&format!("${tag}$")).count(), 1);
        assert!(body.contains(r#""x$perf_batch$; {after} DROP""#));
        assert!(!body.contains("{before}"));
    }
}
