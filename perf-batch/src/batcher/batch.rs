use std::mem::take;
use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::AddError;
use super::metrics::Reason;
use super::queue::{Entry, Outcome};
use super::shared::Shared;
use crate::phase::Phase;
use crate::write::Failed;
use crate::{BatchError, RowFailure};

/// Rows on their way to the database, with those who wait for them. Dropped on the way, it tells
/// them so.
pub(super) struct Batch<R> {
    pub(super) rows: Vec<R>,
    callers: Vec<Caller<R>>,
    pub(super) bytes: usize,
    pub(super) reason: Reason,
    pub(super) phase: Phase,
    shared: Arc<Shared<R>>,
}

struct Caller<R> {
    bytes: u32,
    accepted: Instant,
    answer: oneshot::Sender<Outcome<R>>,
}

impl<R> Batch<R> {
    pub(super) fn new(shared: Arc<Shared<R>>, reason: Reason, rows: usize) -> Self {
        Self {
            rows: Vec::with_capacity(rows),
            callers: Vec::with_capacity(rows),
            bytes: 0,
            reason,
            phase: Phase::default(),
            shared,
        }
    }

    pub(super) fn push(&mut self, entry: Entry<R>) {
        self.bytes += entry.bytes as usize;
        self.rows.push(entry.row);
        self.callers.push(Caller {
            bytes: entry.bytes,
            accepted: entry.accepted,
            answer: entry.answer,
        });
    }

    /// When each row was accepted, the oldest first.
    pub(super) fn accepted(&self) -> impl Iterator<Item = Instant> {
        self.callers.iter().map(|caller| caller.accepted)
    }

    /// All rows are written but those that failed.
    pub(super) fn written(mut self, mut failed: Vec<Failed>) {
        failed.sort_by_key(|(index, _)| *index);
        let mut failed = failed.into_iter().peekable();
        self.settle(|index, row| match failed.next_if(|(at, _)| *at == index) {
            None => Ok(row),
            Some((_, refusal)) => Err(AddError::Refused(RowFailure {
                index,
                row,
                code: refusal.code,
                constraint: refusal.constraint,
                message: refusal.message,
            })),
        });
    }

    /// None of the rows is written.
    pub(super) fn failed(mut self, failure: impl Fn(R) -> AddError<R>) {
        self.settle(|_, row| Err(failure(row)));
    }

    /// The batch as a whole failed.
    pub(super) fn error(self, error: BatchError) {
        let error = Arc::new(error);
        self.failed(|row| AddError::of_batch(row, Arc::clone(&error)));
    }

    /// Each row as a batch of its own.
    pub(super) fn split(mut self) -> Vec<Self> {
        let rows = take(&mut self.rows).into_iter();
        rows.zip(take(&mut self.callers))
            .map(|(row, caller)| {
                let mut single = Self::new(Arc::clone(&self.shared), self.reason, 1);
                single.bytes = caller.bytes as usize;
                single.rows.push(row);
                single.callers.push(caller);
                single
            })
            .collect()
    }

    fn settle(&mut self, mut outcome: impl FnMut(usize, R) -> Result<R, AddError<R>>) {
        let (rows, callers) = (take(&mut self.rows), take(&mut self.callers));
        let count = rows.len();
        // First, so that who was told finds room.
        self.shared.queue.release(self.bytes);
        for (index, (row, caller)) in rows.into_iter().zip(callers).enumerate() {
            self.shared.answer(caller.answer, outcome(index, row));
        }
        self.shared.count(count);
    }
}

impl<R> Drop for Batch<R> {
    fn drop(&mut self) {
        let rows = self.rows.len();
        if rows == 0 {
            return;
        }
        let source = sqlx::Error::WorkerCrashed;
        let error = if self.phase.is_committing() {
            Some(BatchError::CommitUnknown { rows, source })
        } else if std::thread::panicking() {
            Some(BatchError::Database { rows, source })
        } else {
            None // the runtime goes down
        };
        let error = error.map(Arc::new);
        self.settle(|_, row| match &error {
            Some(error) => Err(AddError::of_batch(row, Arc::clone(error))),
            None => Err(AddError::Closed(row)),
        });
    }
}
