use crate::{OnConflict, Table};

/// What a batch does with its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verb {
    /// Inserts them.
    Insert(OnConflict),
    /// Updates the rows with their keys.
    Update,
    /// Deletes the rows with their keys.
    Delete,
}

impl Verb {
    /// Whether it may change rows that others may be changing, found by their key.
    pub(crate) fn meets_rows(&self) -> bool {
        *self != Self::Insert(OnConflict::Error)
    }

    /// Whether two rows with one key cannot be in one statement.
    pub(crate) fn needs_distinct(&self) -> bool {
        match self {
            Self::Insert(conflict) => conflict.updates(),
            Self::Update | Self::Delete => true,
        }
    }

    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    /// Whether it may change rows that are in the table.
    pub(crate) fn updates(&self) -> bool {
        match self {
            Self::Insert(conflict) => conflict.updates(),
            Self::Update => true,
            Self::Delete => false,
        }
    }

    /// What makes it impossible to do this with the table.
    pub(crate) fn fault(&self, table: &Table) -> Option<String> {
        let keyed = table.has_key();
        match self {
            Self::Update | Self::Delete if !keyed => {
                Some("rows are found by their key: mark its columns with #[bulk(key)]".into())
            }
            Self::Update if table.columns().iter().all(|column| column.is_key()) => {
                Some("all its columns are the key, so an update has nothing to change".into())
            }
            Self::Insert(conflict) if conflict.updates() && !keyed => {
                Some("an upsert needs a key: mark its columns with #[bulk(key)]".into())
            }
            Self::Insert(OnConflict::UpdateColumns(columns)) => {
                if columns.is_empty() {
                    return Some("UpdateColumns names no column: use DoNothing for that".into());
                }
                let known = |name: &str| table.columns().iter().any(|c| c.name() == name);
                let unknown = columns.iter().find(|name| !known(name))?;
                Some(format!(
                    "UpdateColumns names {unknown:?}, which is not among the columns"
                ))
            }
            _ => None,
        }
    }
}
