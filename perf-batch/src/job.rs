//! From rows to committed rows: what all the writes have in common.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use sqlx::Connection;
use tracing::Instrument;

use crate::copy::CopyAttempt;
use crate::engine::{Class, Order, Plan, PlanError, Refusal, Wanted, is_lost, is_transient};
use crate::left_out::LeftOut;
use crate::metrics::Metrics;
use crate::order::{Indexed, indexed, merge, sort_by_key};
use crate::phase::Phase;
use crate::report::{Tally, without_rows};
use crate::returned::Returned;
use crate::row::count;
use crate::sizes::Sizes;
use crate::source::{self, Link};
use crate::ticket::{Ticketing, resolve};
use crate::verb::Verb;
use crate::write::{Attempt, Ended, Filled, Mode};
use crate::{
    BatchError, BatchReport, BulkDatabase, BulkValues, Duplicates, OnRowError, Path, Progress,
    Retry, RowFailure, Table, TxScope,
};

/// Rows of a chunk with [`TxScope::PerChunk`]: as many as Postgres gets in one statement, so that
/// a chunk is one statement and one commit.
const CHUNK_ROWS: usize = 4_096;

/// What the database said of the order of rows, for as long as it is believed: a trigger or a foreign
/// key that is new counts after that.
#[derive(Debug, Clone, Default)]
pub(crate) struct KnownOrder(Arc<Mutex<Option<(Instant, Order)>>>);

impl KnownOrder {
    const BELIEVED: Duration = Duration::from_secs(1);

    fn get(&self) -> Option<Order> {
        let known = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, order) = known?;
        (since.elapsed() < Self::BELIEVED).then_some(order)
    }

    fn set(&self, order: Order) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *known = Some((Instant::now(), order));
    }
}

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
        let mut tally = written.await?;
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

    /// Writes the rows transaction by transaction; an error comes with the first position that is
    /// not decided.
    pub(crate) async fn units<DB, R>(
        &self,
        link: &mut dyn Link<DB>,
        rows: &[R],
        phase: &Phase,
        tally: &mut Tally,
        returned: &mut dyn Returned<DB>,
    ) -> Result<(), (usize, BatchError)>
    where
        DB: BulkDatabase,
        R: BulkValues<DB> + Send + Sync,
    {
        self.check(returned.column()).map_err(|error| (0, error))?;
        let mut batch = indexed(rows);
        let left_out = self.merge::<DB, R>(&mut batch);
        let mut left_out = left_out.map_err(|error| (0, error))?;
        returned.stand_in(&left_out.stand_ins());
        let size = match self.scope {
            TxScope::All => batch.len(),
            // What is inside a transaction of the caller's is all or nothing in it.
            TxScope::PerChunk if is_nested(link).await => batch.len(),
            TxScope::PerChunk => self.chunk_rows,
        };
        let position = |unit: &[Indexed<'_, R>]| unit.first().map(|row| row.0);
        let mut units = batch.chunks(size.max(1)).peekable();
        while let Some(unit) = units.next() {
            let first = position(unit).unwrap_or_default();
            left_out.settle(first, tally);
            let filled = match self
                .unit(link, unit, rows.len(), phase, tally, returned)
                .await
            {
                Ok(filled) => filled,
                Err(BatchError::SkipLimit { limit, failed }) => {
                    let failed = left_out.and_others(tally, failed);
                    return Err((first, BatchError::SkipLimit { limit, failed }));
                }
                Err(error) => return Err((first, error)),
            };
            tally.written += filled.written;
            tally.ignored += filled.ignored;
            tally.failed.extend(filled.failed);
            let next = units.peek().and_then(|unit| position(unit));
            left_out.settle(next.unwrap_or(usize::MAX), tally);
            self.tell(tally.decided(), 0, tally.commits > 0, rows.len());
        }
        Ok(())
    }

    /// Tells that `done` rows went in beside those that are decided, and `committed`.
    fn tell(&self, decided: u64, done: u64, committed: bool, given: usize) {
        if let Some(progress) = &self.progress {
            progress(Progress {
                done: decided + done,
                total: given as u64,
                committed: if committed { decided } else { 0 },
            });
        }
    }

    /// Writes one transaction's rows, as often as it takes.
    async fn unit<DB, R>(
        &self,
        link: &mut dyn Link<DB>,
        unit: &[Indexed<'_, R>],
        given: usize,
        phase: &Phase,
        tally: &mut Tally,
        returned: &mut dyn Returned<DB>,
    ) -> Result<Filled, BatchError>
    where
        DB: BulkDatabase,
        R: BulkValues<DB> + Send + Sync,
    {
        let mut delays = self.retry.map(|retry| retry.delays());
        loop {
            // On the heap: it is large, and there is one of it at a time.
            let attempt = Box::pin(self.attempt(link, unit, given, phase, tally, returned));
            let (nested, ended) = match attempt.await {
                (nested, Ok(filled)) => {
                    tally.commits += u64::from(!nested);
                    return Ok(filled);
                }
                (nested, Err(ended)) => (nested, ended),
            };
            let error = match ended {
                Ended::NoTicket(error) if !nested => {
                    tracing::warn!(%error, "a lost commit cannot be resolved here: see commit_marker");
                    self.no_ids.store(true, Ordering::Relaxed);
                    continue;
                }
                Ended::CommitUnknown {
                    source,
                    ticket,
                    filled,
                } => {
                    let within = self.retry.unwrap_or(Retry::transient(0)).resolve_within();
                    let outcome = match &ticket {
                        Some(ticket) => resolve(link, ticket, within).await,
                        None => None,
                    };
                    tracing::debug!(error = %source, ?outcome, "a commit was not answered");
                    match outcome {
                        Some(true) => {
                            tally.commits += 1;
                            return Ok(filled);
                        }
                        Some(false) => Ended::Database(source),
                        None => {
                            let rows = unit.len();
                            return Err(BatchError::CommitUnknown { rows, source });
                        }
                    }
                }
                ended => ended,
            };
            phase.settles();
            let (Ended::Database(cause) | Ended::Acquire(cause)) = &error else {
                return Err(self.error(error, unit));
            };
            // The caller's transaction cannot be begun again from here.
            if nested || !is_transient(cause) || (is_lost(cause) && !link.lose()) {
                return Err(self.error(error, unit));
            }
            let Some(delay) = delays.as_mut().and_then(Iterator::next) else {
                return Err(self.error(error, unit));
            };
            tracing::debug!(error = %cause, ?delay, "trying again");
            tally.retries += 1;
            self.metrics().retried();
            tokio::time::sleep(delay).await;
        }
    }

    /// Tries once to write the rows in one transaction; also tells whether that is the caller's.
    async fn attempt<DB, R>(
        &self,
        link: &mut dyn Link<DB>,
        unit: &[Indexed<'_, R>],
        given: usize,
        phase: &Phase,
        tally: &mut Tally,
        returned: &mut dyn Returned<DB>,
    ) -> (bool, Result<Filled, Ended>)
    where
        DB: BulkDatabase,
        R: BulkValues<DB> + Send + Sync,
    {
        let nested = match source::conn(link).await {
            Ok(conn) => conn.is_in_transaction(),
            Err(error) => return (false, Err(Ended::Acquire(error))),
        };
        if self.inside && !nested {
            return (nested, Err(Ended::Error(BatchError::NoTransaction)));
        }
        let written = self.attempt_on(link, unit, given, phase, tally, returned);
        (nested, written.await)
    }

    async fn attempt_on<DB, R>(
        &self,
        link: &mut dyn Link<DB>,
        unit: &[Indexed<'_, R>],
        given: usize,
        phase: &Phase,
        tally: &mut Tally,
        returned: &mut dyn Returned<DB>,
    ) -> Result<Filled, Ended>
    where
        DB: BulkDatabase,
        R: BulkValues<DB> + Send + Sync,
    {
        let Some(sample) = sample::<DB, R>(&self.table, unit) else {
            return Ok(Filled::default());
        };
        let skip = self.on_row_error == OnRowError::Skip;
        let forced = self.path == Some(Path::Copy);
        let returns = returned.column().is_some();
        let owned = link.can_copy();
        let conn = source::conn(link).await.map_err(Ended::Acquire)?;
        let can_copy = owned && !conn.is_in_transaction();
        if forced && !can_copy {
            let reason = "COPY needs a connection of its own: pass a pool, or leave out path";
            return Err(Ended::Error(self.invalid(reason.to_owned())));
        }
        let conn = source::conn(link).await.map_err(Ended::Acquire)?;
        let exact = if self.sizes.admit(unit.len()) {
            unit.len()
        } else {
            0
        };
        let wanted = Wanted {
            table: &self.table,
            verb: &self.verb,
            path: self.path,
            exact,
            returning: returned.column(),
        };
        let order = if skip && unit.len() > 1 {
            let asked = self.order::<DB>(conn, &wanted, tally).await;
            asked.map_err(Ended::Database)?
        } else {
            Order::Any
        };
        let singly = order == Order::Singly;
        let ticketing = self.ticketing();
        let (decided, commits) = (tally.decided(), tally.commits);
        let progress = |done: u64| self.tell(decided, done, commits > 0, given);

        let mut hint = None;
        if can_copy && !singly && !returns {
            let copying = DB::copying(conn, &wanted, sample, unit.len()).await;
            if let Some(copying) = copying.map_err(|error| self.no_plan(error))? {
                tally.path = Path::Copy;
                let mut attempt = CopyAttempt::<DB> {
                    copying,
                    ticketing: &ticketing,
                    progress: &progress,
                    statements: &mut tally.statements,
                    phase,
                };
                match attempt.write(link, unit).await {
                    Err(Ended::Refused(at, _)) => hint = Some(at),
                    // Row-level security, a view, columns that changed: an INSERT may do.
                    Err(Ended::Database(error))
                        if !forced && Class::of_error(&error) == Class::Fatal =>
                    {
                        tracing::debug!(%error, "not by COPY");
                    }
                    ended => return ended,
                }
            }
        }

        let conn = source::conn(link).await.map_err(Ended::Acquire)?;
        let plan = DB::plan(conn, &wanted, sample).await;
        let plan = plan.map_err(|error| self.no_plan(error))?;
        tally.path = plan.path();
        let room = match self.on_row_error {
            OnRowError::Skip => self.skip_limit.unwrap_or(usize::MAX),
            OnRowError::Abort => 0,
        };
        tally.statements += plan.requests();
        let mut attempt = Attempt::<DB> {
            singly: singly || (returns && !plan.returns_many()),
            plan,
            mode: Mode::Stop,
            hint: None,
            room: room.saturating_sub(tally.failed.len() + tally.refused_ahead),
            ticketing: &ticketing,
            progress: &progress,
            statements: &mut tally.statements,
            phase,
            returned,
        };
        if !singly && hint.is_none() {
            let mut batch = unit.to_vec();
            let sorts = DB::LOCKS_ROWS && self.verb.meets_rows() && order == Order::Any;
            let sorted = sorts && sort_by_key::<DB, R>(&mut batch);
            let mut written = attempt.write(conn, &batch).await;
            if let Err(Ended::Unmatched) = written {
                tracing::debug!("row by row, for the values that they return");
                attempt.singly = true;
                written = attempt.write(conn, &batch).await;
            }
            let Err(Ended::Refused(at, refusal)) = written else {
                return written;
            };
            if !skip && at.len() == 1 && !sorted {
                return Err(Ended::Refused(at, refusal));
            }
            hint = (!sorted || at.len() == unit.len()).then_some(at);
        }
        tracing::debug!(rows = unit.len(), "looking for the rows that are refused");
        // Which rows are refused is a matter of the input's order, not of the key's.
        attempt.singly |= returns && attempt.plan.may_mix_up();
        attempt.hint = hint;
        attempt.mode = if skip { Mode::Skip } else { Mode::Find };
        attempt.write(conn, unit).await
    }

    /// How rows must go in, by what the database knows of the table.
    async fn order<DB: BulkDatabase>(
        &self,
        conn: &mut DB::Connection,
        wanted: &Wanted<'_>,
        tally: &mut Tally,
    ) -> sqlx::Result<Order> {
        if let Some(known) = self.known_order.as_ref().and_then(KnownOrder::get) {
            return Ok(known);
        }
        tally.statements += 1;
        let order = DB::order(conn, wanted).await?;
        if let Some(known) = &self.known_order {
            known.set(order);
        }
        Ok(order)
    }

    fn no_plan(&self, error: PlanError) -> Ended {
        match error {
            PlanError::Invalid(reason) => Ended::Error(self.invalid(reason)),
            PlanError::Database(error) => Ended::Database(error),
        }
    }

    fn ticketing(&self) -> Ticketing {
        match (&self.marker, self.retry) {
            (Some(table), _) => Ticketing::Marker(Arc::clone(table)),
            (None, Some(_)) if !self.no_ids.load(Ordering::Relaxed) => Ticketing::Transaction,
            _ => Ticketing::Off,
        }
    }

    /// Leaves one row for each key, where it matters.
    fn merge<DB, R>(&self, batch: &mut Vec<Indexed<'_, R>>) -> Result<LeftOut, BatchError>
    where
        DB: BulkDatabase,
        R: BulkValues<DB>,
    {
        let default = self.verb.needs_distinct().then_some(Duplicates::KeepLast);
        let Some(keep) = self.duplicates.or(default) else {
            return Ok(LeftOut::default());
        };
        let left_out = LeftOut::new(merge::<DB, R>(batch, keep), keep);
        let limit = match self.on_row_error {
            OnRowError::Abort => 0,
            OnRowError::Skip => self.skip_limit.unwrap_or(usize::MAX),
        };
        if left_out.refused() <= limit {
            return Ok(left_out);
        }
        let mut failed = left_out.into_failed();
        if self.on_row_error == OnRowError::Skip {
            let failed = without_rows(failed);
            return Err(BatchError::SkipLimit { limit, failed });
        }
        let (row, refusal) = failed.remove(0);
        Err(BatchError::row(row, refusal))
    }

    /// What rules the batch out before anything is sent.
    fn check(&self, returning: Option<&str>) -> Result<(), BatchError> {
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

    fn invalid(&self, reason: String) -> BatchError {
        BatchError::Invalid {
            table: self.table.name().to_owned(),
            reason,
        }
    }

    /// The error for the caller, with positions of the input.
    fn error<R>(&self, ended: Ended, unit: &[Indexed<'_, R>]) -> BatchError {
        let rows = unit.len();
        match ended {
            Ended::Error(error) => error,
            Ended::Acquire(source) => BatchError::Acquire { rows, source },
            Ended::Database(source) | Ended::NoTicket(source) => {
                BatchError::Database { rows, source }
            }
            // Row by row it is never open.
            Ended::Unmatched => BatchError::Database {
                rows,
                source: sqlx::Error::Protocol("the values that rows returned were mixed up".into()),
            },
            Ended::CommitUnknown { source, .. } => BatchError::CommitUnknown { rows, source },
            Ended::TooMany(failed) => BatchError::SkipLimit {
                limit: self.skip_limit.unwrap_or(0),
                failed: without_rows(failed),
            },
            Ended::Refused(range, refusal) => refused(range, refusal, unit),
        }
    }
}

/// Whether the connection is inside a transaction of the caller's. A pool's never is.
async fn is_nested<DB: BulkDatabase>(link: &mut dyn Link<DB>) -> bool {
    if link.can_copy() {
        return false;
    }
    let conn = source::conn(link).await;
    conn.is_ok_and(|conn| conn.is_in_transaction())
}

/// The first row that gives a value for each column: one that does not is refused by itself, and
/// says nothing about the others.
fn sample<'r, DB: BulkDatabase, R: BulkValues<DB>>(
    table: &Table,
    unit: &[Indexed<'r, R>],
) -> Option<&'r R> {
    let columns = table.columns().len();
    let whole = |(_, row): &&Indexed<'_, R>| count::<DB, R>(*row) == Some(columns);
    unit.iter()
        .find(whole)
        .or(unit.first())
        .map(|(_, row)| *row)
}

/// A row, or some row of the range, was refused.
fn refused<R>(range: Range<usize>, refusal: Refusal, unit: &[Indexed<'_, R>]) -> BatchError {
    let indices = unit.get(range).unwrap_or_default().iter().map(|row| row.0);
    let first = indices.clone().min().unwrap_or_default();
    let last = indices.max().unwrap_or_default();
    if first == last {
        return BatchError::row(first, refusal);
    }
    BatchError::Range {
        first,
        last,
        message: refusal.message,
        source: refusal.source.map(Box::new),
    }
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
