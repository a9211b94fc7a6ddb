use std::cmp::Ordering;
use std::fmt;
use std::marker::PhantomData;

use sqlx::Database;
use sqlx::error::BoxDynError;

use crate::job::Job;
use crate::source::{Source, Taken};
use crate::verb::Verb;
use crate::{
    BatchError, BatchReport, BulkDatabase, BulkKey, BulkKeyValues, BulkValues, OnRowError, Retry,
    TxScope, ValueSink,
};

/// Deletes many rows by their key in one commit.
///
/// A key that is not in the table counts as `ignored`, one that is given twice as `deduplicated`. A
/// row that may not be deleted (another table refers to it) is a bad row: nothing is deleted and the
/// error names its position, or, with [`OnRowError::Skip`], the others are.
///
/// ```no_run
/// # #[cfg(all(feature = "derive", feature = "sqlite"))]
/// # async fn example(pool: sqlx::SqlitePool) -> Result<(), perf_batch::BatchError> {
/// use perf_batch::{BulkDelete, BulkRow};
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
/// // A tuple of the key's fields, or the field alone where there is one.
/// let keys = vec![(7, 1), (7, 2)];
/// let report = BulkDelete::<Answer>::by_key().execute(&pool, keys).await?;
/// println!("{} deleted, {} were not there", report.written, report.ignored);
/// # Ok(())
/// # }
/// ```
#[must_use = "nothing is deleted until execute"]
pub struct BulkDelete<R> {
    job: Job,
    rows: PhantomData<fn(R)>,
}

impl<R: BulkKey> BulkDelete<R> {
    /// Deletes from the row type's own table.
    pub fn by_key() -> Self {
        Self {
            job: Job::new(R::table().keys(), Verb::Delete),
            rows: PhantomData,
        }
    }

    /// The label `batch` of the metrics. Defaults to the table's name.
    pub fn name(mut self, name: &str) -> Self {
        self.job.name(name);
        self
    }

    /// What happens to the batch when one of its rows may not be deleted: another table refers to
    /// it, or a trigger refuses. Defaults to [`OnRowError::Abort`].
    pub fn on_row_error(mut self, on_row_error: OnRowError) -> Self {
        self.job.on_row_error = on_row_error;
        self
    }

    /// With [`OnRowError::Skip`], how many rows may be refused; as
    /// [`BulkInsert::skip_limit`](crate::BulkInsert::skip_limit). Defaults to no limit.
    pub fn skip_limit(mut self, rows: usize) -> Self {
        self.job.skip_limit = Some(rows);
        self
    }

    /// How much of the batch one commit covers. Defaults to [`TxScope::All`].
    pub fn scope(mut self, scope: TxScope) -> Self {
        self.job.scope = scope;
        self
    }

    /// Rows of a transaction with [`TxScope::PerChunk`]. Defaults to 4,096; 0 counts as 1.
    pub fn chunk_rows(mut self, rows: usize) -> Self {
        self.job.chunk_rows = rows;
        self
    }

    /// Tries again what failed for a reason that passes, as
    /// [`BulkInsert::retry`](crate::BulkInsert::retry). Defaults to no retry.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.job.retry = Some(retry);
        self
    }

    /// Deletes the rows with these keys in one transaction with one commit; as
    /// [`BulkInsert::execute`](crate::BulkInsert::execute).
    ///
    /// # Errors
    ///
    /// A [`BatchError`], each of whose variants says what it leaves behind; nothing is deleted
    /// unless it is [`BatchError::CommitUnknown`] or [`BatchError::Partial`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future rolls the transaction back, and the connection stays usable. Dropped
    /// while the commit is under way, or the one statement that is the whole batch, all rows are
    /// deleted or none.
    pub fn execute<'a, S, DB>(
        &self,
        source: S,
        keys: Vec<R::Key>,
    ) -> impl Future<Output = Result<BatchReport<R::Key>, BatchError>> + Send + use<'a, S, DB, R>
    where
        S: Source<'a, Database = DB>,
        DB: BulkDatabase,
        R: BulkKeyValues<DB, Key: Send + Sync>,
    {
        self.job.metrics();
        let job = self.job.clone();
        let rows: Vec<_> = keys.into_iter().map(KeyRow::<R>).collect();
        let deleted = job.execute(Box::new(Taken::new(source)), rows, None);
        async move { Ok(deleted.await?.map(|row| row.0)) }
    }
}

impl<R> Clone for BulkDelete<R> {
    fn clone(&self) -> Self {
        Self {
            job: self.job.clone(),
            rows: PhantomData,
        }
    }
}

impl<R> fmt::Debug for BulkDelete<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BulkDelete").field(&self.job).finish()
    }
}

/// A key as a row of its own.
struct KeyRow<R: BulkKey>(R::Key);

impl<DB: Database, R: BulkKeyValues<DB>> BulkValues<DB> for KeyRow<R> {
    fn values<S: ValueSink<DB>>(&self, sink: &mut S) -> Result<(), BoxDynError> {
        R::key_values(&self.0, sink)
    }

    fn key_cmp(&self, other: &Self) -> Option<Ordering> {
        let comparable = !R::has_null(&self.0) && !R::has_null(&other.0);
        comparable.then(|| self.0.cmp(&other.0))
    }
}
