//! The transactions of a batch, one after the other, each as often as it takes.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use sqlx::Connection;

use super::Job;
use crate::engine::{Refusal, is_lost, is_transient};
use crate::left_out::LeftOut;
use crate::order::{Indexed, indexed, merge};
use crate::phase::Phase;
use crate::report::{Tally, without_rows};
use crate::returned::Returned;
use crate::source::{self, Link};
use crate::ticket::{Ticketing, resolve};
use crate::write::{Ended, Filled};
use crate::{
    BatchError, BulkDatabase, BulkValues, Duplicates, OnRowError, Progress, Retry, TxScope,
};

impl Job {
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
    pub(super) fn tell(&self, decided: u64, done: u64, committed: bool, given: usize) {
        if let Some(progress) = &self.progress {
            progress(Progress {
                done: decided + done,
                total: given as u64,
                committed: if committed { decided } else { 0 },
            });
        }
    }

    /// Writes one transaction's rows, as often as it takes.
    pub(super) async fn unit<DB, R>(
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

    pub(super) fn ticketing(&self) -> Ticketing {
        match (&self.marker, self.retry) {
            (Some(table), _) => Ticketing::Marker(Arc::clone(table)),
            (None, Some(_)) if !self.no_ids.load(Ordering::Relaxed) => Ticketing::Transaction,
            _ => Ticketing::Off,
        }
    }

    /// Leaves one row for each key, where it matters.
    pub(super) fn merge<DB, R>(
        &self,
        batch: &mut Vec<Indexed<'_, R>>,
    ) -> Result<LeftOut, BatchError>
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

    /// The error for the caller, with positions of the input.
    pub(super) fn error<R>(&self, ended: Ended, unit: &[Indexed<'_, R>]) -> BatchError {
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
