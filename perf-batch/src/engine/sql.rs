//! The parts of a statement that SQLite and Postgres spell alike.

use crate::table::parts;
use crate::{Column, OnConflict, Table};

fn quote_table(sql: &mut String, table: &Table) {
    for (at, part) in parts(table.name()).iter().enumerate() {
        if at > 0 {
            sql.push('.');
        }
        quote(sql, part);
    }
}

fn quote(sql: &mut String, name: &str) {
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
fn quote_list<'a>(
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
    let keys = || table.columns().iter().filter(|column| column.is_key());
    if *conflict == OnConflict::Error {
        return;
    }
    sql.push_str(" ON CONFLICT");
    if table.has_key() {
        sql.push_str(" (");
        quote_list(sql, keys(), |_, _| {});
        sql.push(')');
    }
    if *conflict == OnConflict::DoNothing {
        sql.push_str(" DO NOTHING");
        return;
    }
    sql.push_str(" DO UPDATE SET ");
    let set = |sql: &mut String, column: &Column| {
        sql.push_str(" = excluded.");
        quote(sql, column.name());
    };
    // A row that is all key is set to itself, so that it counts as written like any other.
    if table.columns().iter().all(|column| column.is_key()) {
        quote_list(sql, keys(), set);
    } else {
        let others = table.columns().iter().filter(|column| !column.is_key());
        quote_list(sql, others, set);
    }
}

/// Appends `INSERT INTO "t" ("a", "b") `.
pub(super) fn insert_into(sql: &mut String, table: &Table) {
    sql.push_str("INSERT INTO ");
    quote_table(sql, table);
    sql.push_str(" (");
    quote_list(sql, table.columns().iter(), |_, _| {});
    sql.push_str(") ");
}

/// Appends `SELECT "a", "b" FROM "t" LIMIT 0`.
#[cfg(feature = "postgres")]
#[cfg_attr(not(test), allow(dead_code, reason = "not wired in yet"))]
pub(super) fn select_none(sql: &mut String, table: &Table) {
    sql.push_str("SELECT ");
    quote_list(sql, table.columns().iter(), |_, _| {});
    sql.push_str(" FROM ");
    quote_table(sql, table);
    sql.push_str(" LIMIT 0");
}

/// Appends `COPY "t" ("a", "b") FROM STDIN (FORMAT binary)`.
#[cfg(feature = "postgres")]
#[cfg_attr(not(test), allow(dead_code, reason = "not wired in yet"))]
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
