use std::fmt;

use crate::job::{DeadLetter, Job};
use crate::setters::{handle, setters};
use crate::source::Source;
use crate::verb::Verb;
use crate::{
    BatchError, BatchReport, BulkDatabase, BulkRow, BulkValues, Duplicates, RowFailure, Table,
};

/// Updates many rows by their key in one commit: the key's columns find the row, the others replace
/// what it has.
///
/// A row whose key is not in the table counts as `ignored`; the counts suppose that the key is unique. On Postgres the rows are locked in the
/// order of their keys first, so that concurrent updates wait for each other instead of running into
/// a deadlock.
///
/// ```no_run
/// # #[cfg(all(feature = "derive", feature = "sqlite"))]
/// # async fn example(pool: sqlx::SqlitePool) -> Result<(), perf_batch::BatchError> {
/// use perf_batch::{BulkRow, BulkUpdate};
///
/// #[derive(BulkRow)]
/// #[bulk(table = "users")]
/// struct Score {
///     #[bulk(key)]
///     id: i64,
///     points: i64,
/// }
///
/// let rows = vec![Score { id: 7, points: 12 }, Score { id: 8, points: 3 }];
/// let report = BulkUpdate::<Score>::by_key().execute(&pool, rows).await?;
/// println!("{} updated, {} not there", report.written, report.ignored);
/// # Ok(())
/// # }
/// ```
#[must_use = "nothing is written until execute"]
pub struct BulkUpdate<R> {
    job: Job,
    dead_letter: Option<DeadLetter<R>>,
}

impl<R: BulkRow> BulkUpdate<R> {
    /// Updates the row type's own table.
    pub fn by_key() -> Self {
        Self::of_table(R::table())
    }
}

impl<R> BulkUpdate<R> {
    /// Updates `table`, for rows that do not know theirs, or go to another one.
    pub fn of_table(table: Table) -> Self {
        Self {
            job: Job::new(table, Verb::Update),
            dead_letter: None,
        }
    }

    /// What happens to rows of the batch that have the same key. Defaults to
    /// [`Duplicates::KeepLast`].
    pub fn duplicates(mut self, duplicates: Duplicates) -> Self {
        self.job.duplicates = Some(duplicates);
        self
    }

    setters!();
}

handle!(BulkUpdate);
