use std::borrow::Cow;

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

    /// The table with the key's columns alone.
    pub(crate) fn keys(&self) -> Self {
        let keys = self.columns.iter().filter(|column| column.key);
        Self {
            name: self.name.clone(),
            columns: keys.cloned().collect(),
        }
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
pub(crate) fn parts(name: &str) -> Vec<String> {
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

#[cfg(test)]
mod tests {
    use super::*;

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
