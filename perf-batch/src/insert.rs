use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use sqlx::Acquire;

use crate::batcher::Phase;
use crate::engine::{Engine, Plan};
use crate::metrics::Metrics;
use crate::order::{indexed, keep_last, sort_by_key};
use crate::write::{Attempt, Ended, Failed, Mode};
use crate::{
    BatchError, BatchReport, BulkDatabase, BulkRow, BulkValues, OnConflict, OnRowError, Table,
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
    table: Arc<Table>,
    on_conflict: OnConflict,
    on_row_error: OnRowError,
    name: Option<Arc<str>>,
    /// Fetched at the first batch, when name and recorder are settled.
    metrics: Arc<OnceLock<Metrics>>,
    rows: PhantomData<fn(R)>,
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
            table: Arc::new(table),
            on_conflict: OnConflict::default(),
            on_row_error: OnRowError::default(),
            name: None,
            metrics: Arc::default(),
            rows: PhantomData,
        }
    }

    /// The label `batch` of the metrics. Defaults to the table's name.
    pub fn name(mut self, name: &str) -> Self {
        self.name = Some(name.into());
        self.metrics = Arc::default();
        self
    }

    /// What happens to a row whose key is in the table already. Defaults to
    /// [`OnConflict::Error`].
    pub fn on_conflict(mut self, on_conflict: OnConflict) -> Self {
        self.on_conflict = on_conflict;
        self
    }

    /// What happens to the batch when one of its rows is refused. Defaults to
    /// [`OnRowError::Abort`].
    pub fn on_row_error(mut self, on_row_error: OnRowError) -> Self {
        self.on_row_error = on_row_error;
        self
    }

    /// Writes the rows in one transaction with one commit.
    ///
    /// `conn` is whatever sqlx can take a connection from: `&SqlitePool`, `&PgPool`,
    /// `&mut PgConnection`, a reference to a pool type that implements [`Acquire`]. On a
    /// connection that is inside a transaction of yours (`&mut tx`), the rows go into that, all
    /// or nothing under a savepoint, and are there once you commit. Begin it by sqlx, not by a
    /// `BEGIN` in SQL of your own: sqlx and this crate do not see that.
    ///
    /// An empty batch returns at once, without a connection.
    ///
    /// # Errors
    ///
    /// A [`BatchError`], each of whose variants says what it leaves behind; nothing is written
    /// unless it is [`BatchError::CommitUnknown`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future rolls the transaction back, and the connection stays usable. Dropped
    /// while the commit is under way, all rows are written or none. Inside a transaction of
    /// yours, what was sent before the drop stays part of it: roll that transaction back.
    pub fn execute<'a, A, DB>(
        &self,
        conn: A,
        rows: Vec<R>,
    ) -> impl Future<Output = Result<BatchReport<R>, BatchError>> + Send + use<'a, A, DB, R>
    where
        A: Acquire<'a, Database = DB>,
        DB: BulkDatabase,
        R: BulkValues<DB> + Send + Sync,
    {
        let this = self.clone();
        // At the call, where the caller's recorder is; the future may be polled elsewhere.
        this.metrics();
        let connection = (!rows.is_empty()).then(|| conn.acquire());
        async move {
            let started = Instant::now();
            let given = rows.len();
            let mut report = BatchReport::new(given);
            let Some(connection) = connection else {
                return Ok(report);
            };
            let written = async {
                this.check()?;
                let mut conn = connection.await.map_err(|source| BatchError::Acquire {
                    rows: given,
                    source,
                })?;
                this.run(&mut conn, &rows, &mut report, &Phase::default())
                    .await
            };
            match written.await {
                Ok(failed) => {
                    report.fail(rows, failed);
                    report.duration = started.elapsed();
                    this.metrics().done(&report);
                    Ok(report)
                }
                Err(error) => {
                    this.metrics().aborted(given);
                    Err(error)
                }
            }
        }
    }

    /// Writes the rows and fills in the report but for the refused rows, which it returns.
    pub(crate) async fn run<DB: BulkDatabase>(
        &self,
        conn: &mut DB::Connection,
        rows: &[R],
        report: &mut BatchReport<R>,
        phase: &Phase,
    ) -> Result<Vec<Failed>, BatchError>
    where
        R: BulkValues<DB> + Send + Sync,
    {
        let mut batch = indexed(rows);
        if self.on_conflict == OnConflict::Update {
            report.deduplicated = keep_last::<DB, R>(&mut batch);
        }
        let in_input_order = batch.clone();
        let locks = DB::LOCKS_ROWS && self.on_conflict != OnConflict::Error;
        let sorted = locks && sort_by_key::<DB, R>(&mut batch);
        let given = rows.len();
        let Some((_, sample)) = batch.first() else {
            return Ok(Vec::new());
        };
        let mut plan = self.plan::<DB>(sample)?;
        report.path = plan.path();
        let nested = sqlx::Connection::is_in_transaction(&*conn);

        let mut attempt = Attempt::<DB> {
            plan: &mut plan,
            mode: Mode::Stop,
            hint: None,
            statements: &mut report.statements,
            phase,
        };
        let mut written = attempt.write(conn, &batch).await;
        let find =
            |at: &Range<usize>| self.on_row_error == OnRowError::Skip || at.len() > 1 || sorted;
        if let Err(Ended::Refused(at, _)) = &written
            && find(at)
        {
            tracing::debug!(batch = given, "a row was refused, looking for it");
            attempt.hint = (!sorted || at.len() == batch.len()).then(|| at.clone());
            attempt.mode = match self.on_row_error {
                OnRowError::Skip => Mode::Skip,
                OnRowError::Abort => Mode::Find,
            };
            // Which rows are refused is a matter of the input's order, not of the key's.
            batch = in_input_order;
            written = attempt.write(conn, &batch).await;
        }
        let filled = written.map_err(|ended| ended.into_error(&batch, given))?;
        if !nested {
            self.metrics().committed();
        }
        report.written = filled.written;
        report.ignored = filled.ignored;
        Ok(filled.failed)
    }

    /// The statements for rows like `sample`.
    pub(crate) fn plan<DB: BulkDatabase>(&self, sample: &R) -> Result<DB::Plan, BatchError>
    where
        R: BulkValues<DB>,
    {
        <DB as Engine>::plan(&self.table, &self.on_conflict, sample)
            .map_err(|reason| self.invalid(reason))
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        self.metrics.get_or_init(|| Metrics::new(self.label()))
    }

    /// The label `batch` of the metrics.
    pub(crate) fn label(&self) -> &str {
        self.name.as_deref().unwrap_or(self.table.name())
    }

    /// What rules the batch out before anything is sent.
    pub(crate) fn check(&self) -> Result<(), BatchError> {
        if let Some(fault) = self.table.fault() {
            return Err(self.invalid(fault));
        }
        if self.on_conflict == OnConflict::Update && !self.table.has_key() {
            let reason = "OnConflict::Update needs a key: mark its columns with #[bulk(key)]";
            return Err(self.invalid(reason.to_owned()));
        }
        Ok(())
    }

    fn invalid(&self, reason: String) -> BatchError {
        BatchError::Invalid {
            table: self.table.name().to_owned(),
            reason,
        }
    }
}

impl<R> Clone for BulkInsert<R> {
    fn clone(&self) -> Self {
        Self {
            table: Arc::clone(&self.table),
            on_conflict: self.on_conflict.clone(),
            on_row_error: self.on_row_error.clone(),
            name: self.name.clone(),
            metrics: Arc::clone(&self.metrics),
            rows: PhantomData,
        }
    }
}

impl<R> fmt::Debug for BulkInsert<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BulkInsert")
            .field("table", &self.table)
            .field("on_conflict", &self.on_conflict)
            .field("on_row_error", &self.on_row_error)
            .finish_non_exhaustive()
    }
}
