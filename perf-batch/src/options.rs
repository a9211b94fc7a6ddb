/// What happens to a row whose key is already in the table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OnConflict {
    /// The row is refused like any other row that breaks a constraint. The default.
    #[default]
    Error,
    /// The row in the table stays as it is; the new row counts as `ignored`.
    ///
    /// With a key declared, only a conflict on that key is ignored, and a row that breaks another
    /// unique constraint is refused; without one, any unique conflict is ignored.
    DoNothing,
    /// The new row's values replace those of the row in the table, the key's apart.
    ///
    /// Needs a key. Where rows of the batch have the same key, the last one counts and the others
    /// are reported as `deduplicated`: Postgres refuses to update a row twice in one statement
    /// (SQLSTATE 21000).
    Update,
}

/// What happens to the batch when the database refuses one of its rows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OnRowError {
    /// Nothing is written; the error names the row. The default.
    #[default]
    Abort,
    /// The other rows are written, in the same commit; the report names each refused row.
    Skip,
}
