use std::fmt;

use crate::job::{DeadLetter, Job};
use crate::setters::{handle, setters};
use crate::source::Source;
use crate::verb::Verb;
use crate::{
    BatchError, BatchReport, BulkDatabase, BulkRow, BulkValues, Duplicates, OnConflict, Path,
    Returning, RowFailure, Table,
};

/// Inserts many rows in one commit.
///
/// Cheap to clone and good for any number of batches; it and its clones fetch their metrics once,
/// at the first batch.
///
/// ```no_run
/// # #[cfg(all(feature = "derive", feature = "sqlite"))]
/// # async fn example(pool: sqlx::SqlitePool) -> Result<(), perf_batch::BatchError> {
/// use perf_batch::{BulkInsert, BulkRow, OnConflict, OnRowError};
///
/// #[derive(BulkRow)]
/// #[bulk(table = "answers")]
/// struct Answer {
///     #[bulk(key)]
///     user_id: i64,
///     #[bulk(key)]
///     question_id: i64,
///     answer: String,
/// }
///
/// let insert = BulkInsert::<Answer>::new()
///     .on_conflict(OnConflict::Update)
///     .on_row_error(OnRowError::Skip);
/// let rows = vec![Answer { user_id: 1, question_id: 2, answer: "42".into() }];
/// let report = insert.execute(&pool, rows).await?;
/// for failure in &report.failed {
///     eprintln!("row {}: {}", failure.index, failure.message);
/// }
/// # Ok(())
/// # }
/// ```
#[must_use = "nothing is written until execute"]
pub struct BulkInsert<R> {
    pub(crate) job: Job,
    pub(crate) dead_letter: Option<DeadLetter<R>>,
}

impl<R: BulkRow> BulkInsert<R> {
    /// Inserts into the row type's own table.
    pub fn new() -> Self {
        Self::into_table(R::table())
    }
}

impl<R: BulkRow> Default for BulkInsert<R> {
    fn default() -> Self {
        Self::new()
    }
}

impl<R> BulkInsert<R> {
    /// Inserts into `table`, for rows that do not know theirs, or go to another one.
    pub fn into_table(table: Table) -> Self {
        Self {
            job: Job::new(table, Verb::Insert(OnConflict::default())),
            dead_letter: None,
        }
    }

    /// What happens to a row whose key is in the table already. Defaults to
    /// [`OnConflict::Error`].
    pub fn on_conflict(mut self, on_conflict: OnConflict) -> Self {
        self.job.verb = Verb::Insert(on_conflict);
        self
    }

    /// What happens to rows of the batch that have the same key. Defaults to
    /// [`Duplicates::KeepLast`] for an upsert, and to nothing else: each such row is the database's
    /// affair.
    pub fn duplicates(mut self, duplicates: Duplicates) -> Self {
        self.job.duplicates = Some(duplicates);
        self
    }

    /// Insists on a way into the table; a batch that cannot go that way is
    /// [`BatchError::Invalid`]. Defaults to the fastest that can carry the columns, by the
    /// measured thresholds in the README.
    pub fn path(mut self, path: Path) -> Self {
        self.job.path = Some(path);
        self
    }

    /// Has each row return its value of `column`, most often the id that the database gave it. Set
    /// everything else first.
    ///
    /// ```no_run
    /// # #[cfg(all(feature = "derive", feature = "postgres"))]
    /// # async fn example(pool: sqlx::PgPool) -> Result<(), perf_batch::BatchError> {
    /// # use perf_batch::{BulkInsert, BulkRow};
    /// # #[derive(BulkRow)]
    /// # #[bulk(table = "answers")]
    /// # struct Answer { answer: String }
    /// let rows = vec![Answer { answer: "42".into() }, Answer { answer: "54".into() }];
    /// let ids: Vec<Option<i64>> = BulkInsert::<Answer>::new()
    ///     .returning("id")
    ///     .fetch_ids(&pool, rows)
    ///     .await?;
    /// assert_eq!(ids.len(), 2); // in the order of the rows
    /// # Ok(())
    /// # }
    /// ```
    pub fn returning(self, column: impl Into<std::borrow::Cow<'static, str>>) -> Returning<R> {
        Returning::new(self, column.into())
    }

    setters!();
}

handle!(BulkInsert);
