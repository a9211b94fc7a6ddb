use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{oneshot, watch};

use super::AddError;
use super::dead::DeadLetters;
use super::metrics::Metrics;
use super::panics::contained;
use super::queue::{Outcome, Queue};

/// What the handles, the tickets and the task have in common.
pub(super) struct Shared<R> {
    pub(super) queue: Queue<R>,
    pub(super) dead: DeadLetters<R>,
    pub(super) metrics: Metrics,
    /// The row's size, or why it cannot be encoded.
    pub(super) measure: fn(&R) -> Result<usize, String>,
    /// The most bytes of one row.
    pub(super) row_limit: usize,
    /// Counts the answered rows from turn to turn of the task, and closes when that ends.
    pub(super) done: watch::Receiver<u64>,
    answered: AtomicU64,
}

impl<R> Shared<R> {
    pub(super) fn new(
        queue: Queue<R>,
        dead: DeadLetters<R>,
        metrics: Metrics,
        measure: fn(&R) -> Result<usize, String>,
        row_limit: usize,
        done: watch::Receiver<u64>,
    ) -> Self {
        Self {
            queue,
            dead,
            metrics,
            measure,
            row_limit,
            done,
            answered: AtomicU64::new(0),
        }
    }

    /// Tells a caller what became of its row: `Ok` has the row that was written.
    pub(super) fn answer(
        &self,
        caller: oneshot::Sender<Outcome<R>>,
        outcome: Result<R, AddError<R>>,
    ) {
        // A row's drop, or a waker, may panic; the other callers must be told all the same.
        let told = contained(|| match outcome {
            Ok(row) => {
                let _ = caller.send(Ok(()));
                drop(row);
            }
            Err(failure) => {
                if let Err(Err(failure)) = caller.send(Err(failure)) {
                    self.dead.take(failure, &self.metrics);
                }
            }
        });
        if let Err(panic) = told {
            tracing::error!(batch = self.dead.name, panic, "telling a caller panicked");
        }
    }

    /// So many rows were answered.
    pub(super) fn count(&self, rows: usize) {
        self.answered.fetch_add(rows as u64, Ordering::AcqRel);
    }

    pub(super) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Acquire)
    }
}
