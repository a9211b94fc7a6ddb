//! From rows to committed rows: what all the writes have in common.

mod attempt;
mod known_order;
mod unit;

use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use tracing::Instrument;

use crate::metrics::Metrics;
use crate::phase::Phase;
use crate::report::Tally;
use crate::returned::Returned;
use crate::sizes::Sizes;
use crate::source::Link;
use crate::verb::Verb;
use crate::{
    BatchError, BatchReport, BulkDatabase, BulkValues, Duplicates, OnRowError, Path, Progress,
    Retry, RowFailure, Table, TxScope,
};

pub(crate) use known_order::KnownOrder;

/// Rows of a chunk with [`TxScope::PerChunk`]: as many as Postgres gets in one statement, so that
/// a chunk is one statement and one commit.
const CHUNK_ROWS: usize = 4_096;

/// Gets the rows that were refused.
pub(crate) type DeadLetter<R> = Arc<dyn Fn(&[RowFailure<R>]) + Send + Sync>;

/// What to write and how, whatever the rows.
#[derive(Clone)]
pub(crate) struct Job {
    pub(crate) table: Arc<Table>,
    pub(crate) verb: Verb,
    pub(crate) duplicates: Option<Duplicates>,
    pub(crate) on_row_error: OnRowError,
    pub(crate) skip_limit: Option<usize>,
    pub(crate) scope: TxScope,
    pub(crate) chunk_rows: usize,
    pub(crate) retry: Option<Retry>,
    pub(crate) marker: Option<Arc<str>>,
    pub(crate) path: Option<Path>,
    /// Only inside a transaction of the caller's.
    pub(crate) inside: bool,
    pub(crate) progress: Option<Arc<dyn Fn(Progress) + Send + Sync>>,
    /// For a job that writes to one database only.
    pub(crate) known_order: Option<KnownOrder>,
    name: Option<Arc<str>>,
    /// Fetched at the first batch, when name and recorder are settled.
    metrics: Arc<OnceLock<Metrics>>,
    sizes: Arc<Sizes>,
    /// The database was found not to tell the ids of transactions.
    no_ids: Arc<AtomicBool>,
}

impl Job {
    pub(crate) fn new(table: Table, verb: Verb) -> Self {
        Self {
            table: Arc::new(table),
            verb,
            duplicates: None,
            on_row_error: OnRowError::default(),
            skip_limit: None,
            scope: TxScope::default(),
            chunk_rows: CHUNK_ROWS,
            retry: None,
            marker: None,
            path: None,
            inside: false,
            progress: None,
            known_order: None,
            name: None,
            metrics: Arc::default(),
            sizes: Arc::default(),
            no_ids: Arc::default(),
        }
    }

    pub(crate) fn name(&mut self, name: &str) {
        self.name = Some(name.into());
        self.metrics = Arc::default();
    }

    pub(crate) fn batch_name(&self) -> &str {
        self.name.as_deref().unwrap_or(self.table.name())
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        let new = || Metrics::new(self.batch_name());
        self.metrics.get_or_init(new)
    }

    /// Writes the rows, and hands out those that were refused.
    pub(crate) async fn execute<DB, R>(
        self,
        link: Box<dyn Link<DB> + '_>,
        rows: Vec<R>,
        dead_letter: Option<DeadLetter<R>>,
    ) -> Result<BatchReport<R>, BatchError>
    where
        DB: BulkDatabase,
        R: BulkValues<DB> + Send + Sync,
    {
        self.execute_returning(link, rows, dead_letter, &mut ())
            .await
    }

    /// The same, with what the rows return.
    pub(crate) async fn execute_returning<DB, R>(
        self,
        mut link: Box<dyn Link<DB> + '_>,
        rows: Vec<R>,
        dead_letter: Option<DeadLetter<R>>,
        returned: &mut dyn Returned<DB>,
    ) -> Result<BatchReport<R>, BatchError>
    where
        DB: BulkDatabase,
        R: BulkValues<DB> + Send + Sync,
    {
        let started = Instant::now();
        let given = rows.len();
        if rows.is_empty() {
            return Ok(BatchReport::new(0, &Tally::default(), started));
        }
        let phase = Phase::default();
        let written = self.write(&mut *link, &rows, &phase, started, returned);
        let mut tally = match written.await {
            Ok(tally) => tally,
            Err(error) => {
                // Those of the chunks that are committed.
                if let (BatchError::Partial { report, .. }, Some(dead_letter)) =
                    (&error, dead_letter)
                {
                    let failed = with_rows(rows, report);
                    if !failed.is_empty() {
                        dead_letter(&failed);
                    }
                }
                return Err(error);
            }
        };
        drop(link);
        let failed = std::mem::take(&mut tally.failed);
        let mut report = BatchReport::new(given, &tally, started);
        report.fail(rows, failed);
        // Inside a transaction of the caller's, the commit is still to come.
        if let Some(dead_letter) = dead_letter
            && tally.commits > 0
            && !report.failed.is_empty()
        {
            dead_letter(&report.failed);
        }
        Ok(report)
    }

    /// Writes the rows over the link, and counts.
    pub(crate) async fn write<DB, R>(
        &self,
        link: &mut dyn Link<DB>,
        rows: &[R],
        phase: &Phase,
        started: Instant,
        returned: &mut dyn Returned<DB>,
    ) -> Result<Tally, BatchError>
    where
        DB: BulkDatabase,
        R: BulkValues<DB> + Send + Sync,
    {
        let span = tracing::info_span!(
            "bulk_write",
            batch = self.batch_name(),
            rows = rows.len(),
            path = tracing::field::Empty,
            statements = tracing::field::Empty,
            retries = tracing::field::Empty,
        );
        let mut tally = Tally::default();
        let written = self
            .units(link, rows, phase, &mut tally, returned)
            .instrument(span.clone())
            .await;
        span.record("path", tally.path.as_str());
        span.record("statements", tally.statements);
        span.record("retries", tally.retries);
        match written {
            Ok(()) => {
                let seconds = started.elapsed().as_secs_f64();
                self.metrics().done(rows.len(), &tally, Some(seconds));
                Ok(tally)
            }
            Err((_, error)) if tally.commits == 0 => {
                let nothing = Tally::default();
                self.metrics().done(rows.len(), &nothing, None);
                Err(error)
            }
            Err((rest, error)) => {
                self.metrics().done(rows.len(), &tally, None);
                Err(BatchError::Partial {
                    report: Box::new(tally.into_report(rows.len(), started)),
                    rest,
                    source: Box::new(error),
                })
            }
        }
    }

    /// What rules the batch out before anything is sent.
    pub(super) fn check(&self, returning: Option<&str>) -> Result<(), BatchError> {
        let fault = self.table.fault().or_else(|| self.verb.fault(&self.table));
        let fault = fault.or_else(|| {
            let name = returning?;
            if name.is_empty() || name.contains('\0') {
                return Some("the name of the column to return is empty or holds a NUL".into());
            }
            let copies = self.path == Some(Path::Copy);
            copies.then(|| "COPY returns nothing: leave out path".into())
        });
        let fault = fault.or_else(|| {
            let keyless = self.duplicates.is_some() && !self.table.has_key();
            keyless.then(|| {
                "duplicates are told by the key: mark its columns with #[bulk(key)]".to_owned()
            })
        });
        fault.map_or(Ok(()), |fault| Err(self.invalid(fault)))
    }

    pub(super) fn invalid(&self, reason: String) -> BatchError {
        BatchError::Invalid {
            table: self.table.name().to_owned(),
            reason,
        }
    }
}

/// The refused rows of a report that has them by position alone.
fn with_rows<R>(rows: Vec<R>, report: &BatchReport<()>) -> Vec<RowFailure<R>> {
    let mut failed = report.failed.iter().peekable();
    let mut found = Vec::with_capacity(report.failed.len());
    for (index, row) in rows.into_iter().enumerate() {
        if let Some(failure) = failed.next_if(|failure| failure.index == index) {
            found.push(RowFailure {
                index,
                row,
                code: failure.code.clone(),
                constraint: failure.constraint.clone(),
                message: failure.message.clone(),
            });
        }
    }
    found
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job")
            .field("table", &self.table)
            .field("verb", &self.verb)
            .field("on_row_error", &self.on_row_error)
            .field("scope", &self.scope)
            .field("retry", &self.retry)
            .finish_non_exhaustive()
    }
}
