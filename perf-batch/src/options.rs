use std::borrow::Cow;

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
    /// Needs a key. Rows of the batch with the same key are merged first, see [`Duplicates`].
    Update,
    /// As [`Update`](Self::Update), but only these columns are replaced; see
    /// [`update_columns`](Self::update_columns).
    UpdateColumns(Vec<Cow<'static, str>>),
}

impl OnConflict {
    /// [`UpdateColumns`](Self::UpdateColumns) of these columns, named as the database stores them.
    pub fn update_columns<C: Into<Cow<'static, str>>>(
        columns: impl IntoIterator<Item = C>,
    ) -> Self {
        Self::UpdateColumns(columns.into_iter().map(Into::into).collect())
    }

    /// Whether a row that is there already is changed.
    pub(crate) fn updates(&self) -> bool {
        matches!(self, Self::Update | Self::UpdateColumns(_))
    }
}

/// What happens to rows of one batch that have the same key.
///
/// Postgres refuses an upsert that meets a row twice (SQLSTATE 21000), so writes that change rows by
/// their key (upserts, [`BulkUpdate`](crate::BulkUpdate), [`BulkDelete`](crate::BulkDelete)) always
/// merge them first: [`KeepLast`](Self::KeepLast) unless told otherwise. Plain inserts and
/// [`OnConflict::DoNothing`] leave them to the database unless one of these is set.
///
/// A row with a NULL in its key is the same as no other, as in SQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Duplicates {
    /// The first one counts, the others are counted as `deduplicated`.
    KeepFirst,
    /// The last one counts, the others are counted as `deduplicated`.
    KeepLast,
    /// The first one counts, each other is a bad row whose message names the first.
    Report,
}

/// How much of a batch one commit covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum TxScope {
    /// One transaction with one commit for the whole batch: all or nothing. The default.
    #[default]
    All,
    /// A transaction for each chunk of [`chunk_rows`](crate::BulkInsert::chunk_rows) rows, in the
    /// order of the input: locks are held for a chunk's time only, and what was committed stays when
    /// a later chunk fails ([`BatchError::Partial`](crate::BatchError::Partial)).
    PerChunk,
}

/// What happens to the batch when the database refuses one of its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OnRowError {
    /// Nothing is written; the error names the row. The default.
    #[default]
    Abort,
    /// The other rows are written, in the same commit; the report names each refused row.
    Skip,
}

/// How far a batch is; see [`on_progress`](crate::BulkInsert::on_progress).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Rows sent to the database or decided otherwise; it starts again where a transaction does.
    pub done: u64,
    /// Rows in the input.
    pub total: u64,
    /// Rows that are decided for good: their transaction is committed.
    pub committed: u64,
}
