//! The values that a statement of many rows returns, each to its row.
//!
//! Postgres does not promise that RETURNING keeps an order, so what was written is joined to what was
//! given: by the column itself where its values are known before (the row has them, or its default is
//! drawn first), else by the key. The server computes each compared value as it does for the table,
//! and nothing changes it on the way, so a row that was written meets itself. If it meets another
//! one besides, or a NULL keeps it from meeting any, that shows in the numbers, and nothing is said.

use std::fmt::Write;

use sqlx::Row;
use sqlx::postgres::{PgConnection, PgRow};

use super::sql::{
    Rows, Text, cast_columns, names, on_conflict, quote, quote_list, quote_table, quote_table_name,
};
use super::{PlanError, Told};
use crate::{OnConflict, Table};

/// What the server says of the column.
#[derive(Debug)]
pub(super) struct Wanted {
    column: String,
    /// Its type, as SQL spells it.
    pub(super) ty: String,
    default: Option<String>,
    overriding: bool,
    /// Rows are written as they are given.
    as_given: bool,
    /// The types of the table's columns.
    types: Vec<Option<String>>,
}

impl Wanted {
    /// Asks; one request.
    pub(super) async fn ask(
        conn: &mut PgConnection,
        table: &Table,
        column: &str,
    ) -> Result<Self, PlanError> {
        let mut name = String::new();
        quote_table_name(&mut name, table.name());
        let columns: Vec<&str> = table.columns().iter().map(crate::Column::name).collect();
        let query = sqlx::query_as(include_str!("../sql/returning.sql"));
        let query = query.bind(name).bind(column).bind(columns);
        let answer = query.fetch_optional(conn).await;
        let Some((ty, default, overriding, as_given, types)) =
            answer.map_err(PlanError::Database)?
        else {
            return Err(PlanError::Invalid(format!(
                "it has no column {column:?} to return"
            )));
        };
        Ok(Self {
            column: column.to_owned(),
            ty,
            default,
            overriding,
            as_given,
            types,
        })
    }

    /// Appends ` RETURNING "id"`.
    pub(super) fn returning(&self, sql: &mut String) {
        sql.push_str(" RETURNING ");
        quote(sql, &self.column);
    }

    /// By which columns of the table, or by the default drawn first, a row that was written is known
    /// again.
    fn by(&self, table: &Table, conflict: &OnConflict) -> Option<By> {
        if !self.as_given {
            return None;
        }
        let columns = || table.columns().iter().enumerate();
        let keys = || columns().filter(|(_, column)| column.is_key());
        let keys = || keys().map(|(at, _)| at).collect::<Vec<_>>();
        if conflict.updates() {
            return Some(By::Columns(keys()));
        }
        let own = columns().find(|(_, column)| column.name() == self.column);
        if let Some((at, _)) = own {
            return Some(By::Columns(vec![at]));
        }
        if let Some(default) = &self.default {
            return Some(By::Drawn(default.clone()));
        }
        table.has_key().then(|| By::Columns(keys()))
    }

    /// The statement, where there is one; [`tell`] reads its answer. As values, each row ends with
    /// its number, from 1.
    pub(super) fn statement(
        &self,
        table: &Table,
        conflict: &OnConflict,
        rows: Rows,
    ) -> Option<Text> {
        let by = self.by(table, conflict)?;
        let columns = table.columns();
        let mut before = String::from("WITH batch AS MATERIALIZED (SELECT ");
        cast_columns(&mut before, columns, true);
        before.push_str(", at::int8");
        if let By::Drawn(default) = &by {
            let _ = write!(before, ", {default} AS drawn");
        }
        before.push_str(" FROM ");
        let mut after = String::new();
        if rows == Rows::Values {
            before.push_str("(VALUES ");
            after.push(')');
        } else {
            after.push_str(" WITH ORDINALITY");
        }
        after.push_str(" AS given (");
        names(&mut after, columns);
        after.push_str(", at)), written AS (INSERT INTO ");
        quote_table(&mut after, table);
        after.push_str(" (");
        quote_list(&mut after, columns.iter(), |_, _| {});
        if matches!(by, By::Drawn(_)) {
            after.push_str(", ");
            quote(&mut after, &self.column);
        }
        after.push_str(") ");
        if matches!(by, By::Drawn(_)) && self.overriding {
            after.push_str("OVERRIDING SYSTEM VALUE ");
        }
        after.push_str("SELECT ");
        names(&mut after, columns);
        if matches!(by, By::Drawn(_)) {
            after.push_str(", drawn");
        }
        after.push_str(" FROM batch ORDER BY at");
        on_conflict(&mut after, table, conflict);
        self.returning(&mut after);
        after.push_str(" AS value, true AS is_written");
        let mut join = String::new();
        match by {
            By::Drawn(_) => {
                let _ = write!(join, "value = drawn::{}", self.ty);
            }
            By::Columns(by) => {
                for (n, at) in by.into_iter().enumerate() {
                    after.push_str(", ");
                    quote(&mut after, columns.get(at)?.name());
                    let _ = write!(after, " AS k{n}");
                    let and = if n == 0 { "" } else { " AND " };
                    let ty = self.types.get(at)?.as_ref()?;
                    let _ = write!(join, "{and}k{n} = c{}::{ty}", at + 1);
                }
            }
        }
        // A full join cannot be a loop in a loop, which the server would take for the best after some
        // executions, when it plans for arrays of no known length. The limit is for rows that are all
        // alike.
        let _ = write!(
            after,
            ") SELECT at, is_written, (SELECT count(*) FROM written), value \
             FROM batch FULL JOIN written ON {join} LIMIT (SELECT count(*) + 1 FROM batch)"
        );
        Some(Text { before, after })
    }
}

enum By {
    /// These columns of the table, by their place.
    Columns(Vec<usize>),
    /// This expression.
    Drawn(String),
}

/// Where the answer has the value.
const VALUE_AT: usize = 3;

/// Tells the values in the answer to a statement about so many rows, each with its row's place;
/// returns how many rows were written, or `None` where it is open which value is whose.
pub(super) fn tell(
    answer: &[PgRow],
    rows: usize,
    told: Told<'_, sqlx::Postgres>,
) -> sqlx::Result<Option<u64>> {
    let mut written = Vec::with_capacity(rows);
    let mut total = 0;
    for row in answer {
        let (at, is_written): (Option<i64>, Option<bool>) = (row.try_get(0)?, row.try_get(1)?);
        total = row.try_get(2)?;
        match at.and_then(|at| usize::try_from(at - 1).ok()) {
            Some(at) if is_written.is_some() => written.push((at, row)),
            Some(_) => {}
            None => return Ok(None),
        }
    }
    let count = i64::try_from(written.len()).unwrap_or(i64::MAX);
    if answer.len() != rows || count != total {
        return Ok(None);
    }
    for (at, row) in written {
        told(at, row, VALUE_AT)?;
    }
    Ok(Some(total.unsigned_abs()))
}

/// Whether the error says that the statement cannot be had here, with whatever rows: classes 42
/// (access, undefined, mismatch) and 0A (not supported).
pub(super) fn is_unfit(code: &str) -> bool {
    code.starts_with("42") || code.starts_with("0A")
}
