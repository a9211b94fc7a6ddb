use std::borrow::Cow;
use std::fmt::Write;

/// Where rows go: a table and the columns that a row gives values for, in the order of the values.
///
/// The derive builds it; build one by hand for a row that is mapped by hand.
///
/// ```
/// use perf_batch::{Column, Table};
///
/// let table = Table::new("quiz.answers")
///     .column(Column::new("user_id").key())
///     .column(Column::new("question_id").key())
///     .column(Column::new("mood").pg_type("mood"));
/// assert_eq!(table.columns().len(), 3);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    name: Cow<'static, str>,
    columns: Vec<Column>,
}

impl Table {
    /// The table `name`, spelled as the database stores it, without columns yet.
    ///
    /// A dot separates schema and table. Identifiers are always quoted in the SQL, so keywords
    /// and capitals need nothing; put a part that holds a dot into double quotes:
    /// `audit."answers.old"`.
    #[must_use]
    pub fn new(name: impl Into<Cow<'static, str>>) -> Self {
        Self {
            name: name.into(),
            columns: Vec::new(),
        }
    }

    /// Adds a column after the others.
    #[must_use]
    pub fn column(mut self, column: Column) -> Self {
        self.columns.push(column);
        self
    }

    /// The name as given.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The columns, in the order of a row's values.
    #[must_use]
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    pub(crate) fn has_key(&self) -> bool {
        self.columns.iter().any(|column| column.key)
    }

    /// What makes it impossible to write to this table at all.
    pub(crate) fn fault(&self) -> Option<String> {
        let parts = parts(&self.name);
        if parts
            .iter()
            .any(|part| part.is_empty() || part.contains('\0'))
        {
            return Some("a part of the table's name is empty or holds a NUL".into());
        }
        if self.columns.is_empty() {
            return Some("it has no columns: add at least one".into());
        }
        for (at, column) in self.columns.iter().enumerate() {
            let name = &column.name;
            if name.is_empty() || name.contains('\0') {
                return Some(format!("the name of column {at} is empty or holds a NUL"));
            }
            if self
                .columns
                .iter()
                .take(at)
                .any(|other| other.name == *name)
            {
                return Some(format!("column {name:?} is there twice"));
            }
        }
        None
    }

    pub(crate) fn quoted(&self) -> String {
        let mut sql = String::with_capacity(self.name.len() + 4);
        for (at, part) in parts(&self.name).iter().enumerate() {
            if at > 0 {
                sql.push('.');
            }
            quote(&mut sql, part);
        }
        sql
    }
}

/// A column of a [`Table`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    name: Cow<'static, str>,
    key: bool,
    pg_type: Option<Cow<'static, str>>,
}

impl Column {
    /// The column `name`, spelled as the database stores it; not part of the key.
    #[must_use]
    pub fn new(name: impl Into<Cow<'static, str>>) -> Self {
        Self {
            name: name.into(),
            key: false,
            pg_type: None,
        }
    }

    /// Makes the column part of the key: the columns of the unique constraint by which
    /// [`OnConflict`](crate::OnConflict) finds the row that is already there.
    #[must_use]
    pub fn key(mut self) -> Self {
        self.key = true;
        self
    }

    /// On Postgres, casts the value to this type, for columns of a type that the value's own does
    /// not convert to by itself: `mood`, `uuid`, `public.money_amount`. Other databases ignore it.
    ///
    /// It goes into the SQL as written, so it must never come from a user of the program.
    #[must_use]
    pub fn pg_type(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.pg_type = Some(name.into());
        self
    }

    /// The name as given.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the column is part of the key.
    #[must_use]
    pub fn is_key(&self) -> bool {
        self.key
    }

    #[cfg(feature = "postgres")]
    pub(crate) fn cast(&self) -> Option<&str> {
        self.pg_type.as_deref()
    }
}

/// The parts of a name like `schema.table` or `schema."odd.table"`.
fn parts(name: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut quoted = false;
    let mut chars = name.chars().peekable();
    while let Some(c) = chars.next() {
        let doubled = quoted && c == '"' && chars.peek() == Some(&'"');
        if doubled {
            chars.next();
        }
        match (c, parts.last_mut()) {
            ('.', _) if !quoted => parts.push(String::new()),
            ('"', _) if !doubled => quoted = !quoted,
            (c, Some(part)) => part.push(c),
            (_, None) => {}
        }
    }
    parts
}

pub(crate) fn quote(sql: &mut String, name: &str) {
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
pub(crate) fn quote_list<'a>(
    sql: &mut String,
    columns: impl Iterator<Item = &'a Column>,
    mut write: impl FnMut(&mut String, &'a Column),
) {
    for (at, column) in columns.enumerate() {
        if at > 0 {
            sql.push_str(", ");
        }
        quote(sql, &column.name);
        write(sql, column);
    }
}

/// Appends the `ON CONFLICT` clause; the same text on SQLite and Postgres.
pub(crate) fn on_conflict(sql: &mut String, table: &Table, conflict: &crate::OnConflict) {
    let keys = || table.columns.iter().filter(|column| column.key);
    if *conflict == crate::OnConflict::Error {
        return;
    }
    sql.push_str(" ON CONFLICT");
    if table.has_key() {
        sql.push_str(" (");
        quote_list(sql, keys(), |_, _| {});
        sql.push(')');
    }
    if *conflict == crate::OnConflict::DoNothing {
        sql.push_str(" DO NOTHING");
        return;
    }
    sql.push_str(" DO UPDATE SET ");
    let set = |sql: &mut String, column: &Column| {
        sql.push_str(" = excluded.");
        quote(sql, &column.name);
    };
    // A row that is all key is set to itself, so that it counts as written like any other.
    if table.columns.iter().all(|column| column.key) {
        quote_list(sql, keys(), set);
    } else {
        let others = table.columns.iter().filter(|column| !column.key);
        quote_list(sql, others, set);
    }
}

/// Appends `INSERT INTO "t" ("a", "b") `.
pub(crate) fn insert_into(sql: &mut String, table: &Table) {
    let _ = write!(sql, "INSERT INTO {} (", table.quoted());
    quote_list(sql, table.columns.iter(), |_, _| {});
    sql.push_str(") ");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OnConflict;

    fn clause(table: &Table, conflict: &OnConflict) -> String {
        let mut sql = String::new();
        on_conflict(&mut sql, table, conflict);
        sql
    }

    #[test]
    fn names_are_quoted_part_by_part() {
        assert_eq!(Table::new("answers").quoted(), r#""answers""#);
        assert_eq!(Table::new("quiz.Order").quoted(), r#""quiz"."Order""#);
        assert_eq!(Table::new(r#"a."b.c""#).quoted(), r#""a"."b.c""#);
        assert_eq!(Table::new(r#""say ""hi""""#).quoted(), r#""say ""hi""""#);
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

    #[test]
    fn a_table_that_cannot_be_written_says_why() {
        let column = || Column::new("a");
        assert_eq!(Table::new("t").column(column()).fault(), None);
        assert!(Table::new("").column(column()).fault().is_some());
        assert!(Table::new("s.").column(column()).fault().is_some());
        assert!(Table::new("t").fault().is_some());
        let twice = Table::new("t").column(column()).column(column());
        assert_eq!(twice.fault(), Some(r#"column "a" is there twice"#.into()));
    }
}
