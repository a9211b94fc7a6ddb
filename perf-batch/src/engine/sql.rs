//! The parts of a statement that SQLite and Postgres spell alike.

use std::fmt::Write;

use crate::table::parts;
use crate::verb::Verb;
use crate::{Column, OnConflict, Table};

/// A statement around the place where its rows come in.
#[derive(Debug, Clone)]
pub(super) struct Text {
    pub(super) before: String,
    pub(super) after: String,
}

/// What the rows come in as.
#[cfg(feature = "postgres")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rows {
    /// `(..), (..)`.
    Values,
    /// What can stand in a FROM clause.
    Table,
}

pub(super) fn quote_table(sql: &mut String, table: &Table) {
    quote_table_name(sql, table.name());
}

pub(super) fn quote_table_name(sql: &mut String, name: &str) {
    for (at, part) in parts(name).iter().enumerate() {
        if at > 0 {
            sql.push('.');
        }
        quote(sql, part);
    }
}

pub(super) fn quote(sql: &mut String, name: &str) {
    sql.push('"');
    for c in name.chars() {
        if c == '"' {
            sql.push('"');
        }
        sql.push(c);
    }
    sql.push('"');
}

/// Appends `"a", "b"`, each with `write` after its name.
pub(super) fn quote_list<'a>(
    sql: &mut String,
    columns: impl Iterator<Item = &'a Column>,
    mut write: impl FnMut(&mut String, &'a Column),
) {
    for (at, column) in columns.enumerate() {
        if at > 0 {
            sql.push_str(", ");
        }
        quote(sql, column.name());
        write(sql, column);
    }
}

/// Appends the `ON CONFLICT` clause.
pub(super) fn on_conflict(sql: &mut String, table: &Table, conflict: &OnConflict) {
    if *conflict == OnConflict::Error {
        return;
    }
    let keys = || table.columns().iter().filter(|column| column.is_key());
    sql.push_str(" ON CONFLICT");
    if table.has_key() {
        sql.push_str(" (");
        quote_list(sql, keys(), |_, _| {});
        sql.push(')');
    }
    if !conflict.updates() {
        sql.push_str(" DO NOTHING");
        return;
    }
    sql.push_str(" DO UPDATE SET ");
    let set = |sql: &mut String, column: &Column| {
        sql.push_str(" = excluded.");
        quote(sql, column.name());
    };
    let replaced = |column: &&Column| match conflict {
        OnConflict::UpdateColumns(names) => names.iter().any(|name| name == column.name()),
        // A row that is all key is set to itself, so that it counts as written like any other.
        _ => !column.is_key() || table.columns().iter().all(Column::is_key),
    };
    quote_list(sql, table.columns().iter().filter(replaced), set);
}

/// Appends `INSERT INTO "t" ("a", "b") `.
pub(super) fn insert_into(sql: &mut String, table: &Table) {
    sql.push_str("INSERT INTO ");
    quote_table(sql, table);
    sql.push_str(" (");
    quote_list(sql, table.columns().iter(), |_, _| {});
    sql.push_str(") ");
}

/// Appends `c1, c2`, each as `write` wants it.
pub(super) fn numbered(
    sql: &mut String,
    columns: &[Column],
    mut write: impl FnMut(&mut String, usize, &Column),
) {
    for (at, column) in columns.iter().enumerate() {
        if at > 0 {
            sql.push_str(", ");
        }
        write(sql, at + 1, column);
    }
}

/// Appends `c1::its_cast, c2`.
#[cfg(feature = "postgres")]
pub(super) fn cast_columns(sql: &mut String, columns: &[Column], named: bool) {
    numbered(sql, columns, |sql, n, column| {
        let _ = write!(sql, "c{n}");
        if let Some(cast) = column.cast() {
            let _ = write!(sql, "::{cast}");
            if named {
                let _ = write!(sql, " AS c{n}");
            }
        }
    });
}

pub(super) fn names(sql: &mut String, columns: &[Column]) {
    numbered(sql, columns, |sql, n, _| {
        let _ = write!(sql, "c{n}");
    });
}

/// Appends `target."k" = batch.c1 AND ..`.
fn same_key(sql: &mut String, table: &Table) {
    let mut first = true;
    for (at, column) in table.columns().iter().enumerate() {
        if column.is_key() {
            sql.push_str(if first { "target." } else { " AND target." });
            quote(sql, column.name());
            let _ = write!(sql, " = batch.c{}", at + 1);
            first = false;
        }
    }
}

/// Appends `"a" = batch.c2, ..` for the columns outside the key.
fn set_from_batch(sql: &mut String, table: &Table) {
    let mut first = true;
    for (at, column) in table.columns().iter().enumerate() {
        if !column.is_key() {
            sql.push_str(if first { "" } else { ", " });
            quote(sql, column.name());
            let _ = write!(sql, " = batch.c{}", at + 1);
            first = false;
        }
    }
}

/// The statement in SQLite's words; its rows come in as values.
#[cfg(feature = "sqlite")]
pub(super) fn sqlite(table: &Table, verb: &Verb) -> Text {
    let (mut before, mut after) = (String::new(), String::new());
    if let Verb::Insert(conflict) = verb {
        insert_into(&mut before, table);
        before.push_str("VALUES ");
        on_conflict(&mut after, table, conflict);
        return Text { before, after };
    }
    before.push_str("WITH batch (");
    names(&mut before, table.columns());
    before.push_str(") AS (VALUES ");
    if *verb == Verb::Update {
        after.push_str(") UPDATE ");
        quote_table(&mut after, table);
        after.push_str(" AS target SET ");
        set_from_batch(&mut after, table);
        after.push_str(" FROM batch WHERE ");
        same_key(&mut after, table);
    } else {
        after.push_str(") DELETE FROM ");
        quote_table(&mut after, table);
        after.push_str(" WHERE (");
        quote_list(&mut after, table.columns().iter(), |_, _| {});
        after.push_str(") IN (SELECT * FROM batch)");
    }
    Text { before, after }
}

/// Appends ` RETURNING \`id\``. Not in double quotes, which SQLite takes for a string where there is no
/// such column.
#[cfg(feature = "sqlite")]
pub(super) fn returning_sqlite(sql: &mut String, column: &str) {
    let _ = write!(sql, " RETURNING `{}`", column.replace('`', "``"));
}

/// The statement in Postgres' words.
///
/// An update or a delete first locks its rows in the order of the batch, so that concurrent ones
/// wait for each other instead of running into a deadlock.
#[cfg(feature = "postgres")]
pub(super) fn postgres(table: &Table, verb: &Verb, rows: Rows) -> Text {
    let columns = table.columns();
    let (mut before, mut after) = (String::new(), String::new());
    if let Verb::Insert(conflict) = verb {
        insert_into(&mut before, table);
        if rows == Rows::Values {
            before.push_str("VALUES ");
        } else {
            before.push_str("SELECT ");
            cast_columns(&mut before, columns, false);
            before.push_str(" FROM ");
            after.push_str(" AS batch (");
            names(&mut after, columns);
            after.push(')');
        }
        on_conflict(&mut after, table, conflict);
        return Text { before, after };
    }
    before.push_str("WITH batch AS MATERIALIZED (SELECT ");
    cast_columns(&mut before, columns, true);
    before.push_str(", row_number() OVER () AS at FROM ");
    if rows == Rows::Values {
        before.push_str("(VALUES ");
        after.push(')');
    }
    after.push_str(" AS given (");
    names(&mut after, columns);
    after.push_str(")), locked AS MATERIALIZED (SELECT FROM ");
    quote_table(&mut after, table);
    after.push_str(" AS target JOIN batch ON ");
    same_key(&mut after, table);
    let (lock, verb) = match verb {
        Verb::Update => ("NO KEY UPDATE", "UPDATE "),
        _ => ("UPDATE", "DELETE FROM "),
    };
    let _ = write!(after, " ORDER BY batch.at FOR {lock} OF target) {verb}");
    quote_table(&mut after, table);
    after.push_str(" AS target ");
    if verb == "UPDATE " {
        after.push_str("SET ");
        set_from_batch(&mut after, table);
        after.push_str(" FROM batch WHERE ");
    } else {
        after.push_str("USING batch WHERE ");
    }
    same_key(&mut after, table);
    after.push_str(" AND (SELECT count(*) FROM locked) >= 0");
    Text { before, after }
}

/// Appends the marker table's part of `sql`, whose `{}` is the table.
pub(super) fn with_table(sql: &str, table: &str) -> String {
    let mut quoted = String::new();
    quote_table_name(&mut quoted, table);
    sql.replace("{}", &quoted)
}

/// Appends `SELECT "a", "b" FROM "t" LIMIT 0`.
#[cfg(feature = "postgres")]
pub(super) fn select_none(sql: &mut String, table: &Table) {
    sql.push_str("SELECT ");
    quote_list(sql, table.columns().iter(), |_, _| {});
    sql.push_str(" FROM ");
    quote_table(sql, table);
    sql.push_str(" LIMIT 0");
}

/// Appends `COPY "t" ("a", "b") FROM STDIN (FORMAT binary)`.
#[cfg(feature = "postgres")]
pub(super) fn copy_from_stdin(sql: &mut String, table: &Table) {
    sql.push_str("COPY ");
    quote_table(sql, table);
    sql.push_str(" (");
    quote_list(sql, table.columns().iter(), |_, _| {});
    sql.push_str(") FROM STDIN (FORMAT binary)");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quoted(name: &'static str) -> String {
        let mut sql = String::new();
        quote_table(&mut sql, &Table::new(name));
        sql
    }

    fn clause(table: &Table, conflict: &OnConflict) -> String {
        let mut sql = String::new();
        on_conflict(&mut sql, table, conflict);
        sql
    }

    #[test]
    fn names_are_quoted_part_by_part() {
        assert_eq!(quoted("answers"), r#""answers""#);
        assert_eq!(quoted("quiz.Order"), r#""quiz"."Order""#);
        assert_eq!(quoted(r#"a."b.c""#), r#""a"."b.c""#);
        assert_eq!(quoted(r#""say ""hi""""#), r#""say ""hi""""#);
    }

    #[cfg(feature = "postgres")]
    #[test]
    fn a_copy_and_its_description_name_the_columns_in_order() {
        let columns = [Column::new("b"), Column::new("a")];
        let table = columns.into_iter().fold(Table::new("s.t"), Table::column);
        let (mut select, mut copy) = (String::new(), String::new());
        select_none(&mut select, &table);
        copy_from_stdin(&mut copy, &table);
        assert_eq!(select, r#"SELECT "b", "a" FROM "s"."t" LIMIT 0"#);
        assert_eq!(
            copy,
            r#"COPY "s"."t" ("b", "a") FROM STDIN (FORMAT binary)"#
        );
    }

    #[test]
    fn the_conflict_clause_names_the_key_and_sets_the_rest() {
        let table = Table::new("t")
            .column(Column::new("a").key())
            .column(Column::new("b"));
        assert_eq!(clause(&table, &OnConflict::Error), "");
        assert_eq!(
            clause(&table, &OnConflict::DoNothing),
            r#" ON CONFLICT ("a") DO NOTHING"#
        );
        assert_eq!(
            clause(&table, &OnConflict::Update),
            r#" ON CONFLICT ("a") DO UPDATE SET "b" = excluded."b""#
        );
        let keyless = Table::new("t").column(Column::new("b"));
        assert_eq!(
            clause(&keyless, &OnConflict::DoNothing),
            " ON CONFLICT DO NOTHING"
        );
        let all_key = Table::new("t").column(Column::new("a").key());
        assert_eq!(
            clause(&all_key, &OnConflict::Update),
            r#" ON CONFLICT ("a") DO UPDATE SET "a" = excluded."a""#
        );
    }
}
