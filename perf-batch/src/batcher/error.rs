use std::fmt;
use std::sync::Arc;

use crate::{BatchError, RowFailure};

/// Why a row of a [`Batcher`](super::Batcher) was not written, with the row.
///
/// `Debug` shows the variant and leaves the row out.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum AddError<R> {
    /// The batcher, or the runtime under it, is shut down; the row was not written.
    #[error("the batcher is shut down, the row was not written")]
    Closed(R),
    /// The buffer is full; only [`try_add`](super::Batcher::try_add) says so,
    /// [`add`](super::Batcher::add) waits.
    #[error("the batcher's buffer is full: wait with add, shed load, or raise buffer_memory")]
    Full(R),
    /// The row alone is more than the buffer or a batch may hold; it was not accepted.
    #[error(
        "a row of {bytes} bytes is over the limit of {limit}: raise max_batch_bytes and buffer_memory above it"
    )]
    TooLarge {
        /// The row itself.
        row: R,
        /// What its values encode to.
        bytes: usize,
        /// The smaller of `max_batch_bytes` and `buffer_memory`.
        limit: usize,
    },
    /// This row was refused, by the database or its own encoding, while the others of its batch
    /// were written; [`RowFailure::index`] is its place in that batch. A panic in the row's
    /// encoding counts as a refusal.
    #[error("the row was refused ({}): {}", .0.code.as_deref().unwrap_or("no code"), .0.message)]
    Refused(RowFailure<R>),
    /// Its time was over before its commit began; it was not written.
    #[error(
        "the row was not written within the delivery timeout: raise delivery_timeout, or look for what holds up the database"
    )]
    Timeout(R),
    /// The connection failed, or the time was over, while the batch was committed: the row may be
    /// written or not. Look in the database before you add it again.
    #[error("the commit of the row's batch was not answered: look before you add the row again")]
    CommitUnknown {
        /// The row itself.
        row: R,
        /// What happened to the batch, the same for all its rows.
        source: Arc<BatchError>,
    },
    /// The batch as a whole was not written, nor was this row.
    #[error("the batch with the row was not written")]
    Batch {
        /// The row itself.
        row: R,
        /// What happened to the batch, the same for all its rows.
        source: Arc<BatchError>,
    },
    /// The writing task went away without an answer, and the row with it. It would take a bug of
    /// this crate.
    #[error("the batcher's task went away with the row: look before you add it again")]
    Lost,
}

impl<R> AddError<R> {
    /// The row, to keep it or to add it again; `None` for [`AddError::Lost`] alone.
    #[must_use]
    pub fn into_row(self) -> Option<R> {
        match self {
            Self::Closed(row) | Self::Full(row) | Self::Timeout(row) => Some(row),
            Self::TooLarge { row, .. }
            | Self::CommitUnknown { row, .. }
            | Self::Batch { row, .. } => Some(row),
            Self::Refused(failure) => Some(failure.row),
            Self::Lost => None,
        }
    }

    /// Whether the same row may go in later and cannot go in twice: the buffer was full, the time
    /// was over before the commit, or the batch's error is
    /// [retryable](BatchError::is_retryable).
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Full(_) | Self::Timeout(_) => true,
            Self::Batch { source, .. } => source.is_retryable(),
            _ => false,
        }
    }

    /// The error for a row of a batch that failed as a whole.
    pub(super) fn of_batch(row: R, source: Arc<BatchError>) -> Self {
        if matches!(*source, BatchError::CommitUnknown { .. }) {
            return Self::CommitUnknown { row, source };
        }
        Self::Batch { row, source }
    }

    /// The error for a row that code of its own kept from being written.
    pub(super) fn refused(row: R, message: String) -> Self {
        Self::Refused(RowFailure {
            index: 0,
            row,
            code: None,
            constraint: None,
            message,
        })
    }
}

// By hand: rows need no Debug for `?` and `unwrap`, and a log does not show what is in them.
impl<R> fmt::Debug for AddError<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed(_) => f.write_str("Closed"),
            Self::Full(_) => f.write_str("Full"),
            Self::TooLarge { bytes, limit, .. } => f
                .debug_struct("TooLarge")
                .field("bytes", bytes)
                .field("limit", limit)
                .finish_non_exhaustive(),
            Self::Refused(failure) => f
                .debug_struct("Refused")
                .field("code", &failure.code)
                .field("constraint", &failure.constraint)
                .field("message", &failure.message)
                .finish_non_exhaustive(),
            Self::Timeout(_) => f.write_str("Timeout"),
            Self::CommitUnknown { source, .. } => f
                .debug_struct("CommitUnknown")
                .field("source", source)
                .finish_non_exhaustive(),
            Self::Batch { source, .. } => f
                .debug_struct("Batch")
                .field("source", source)
                .finish_non_exhaustive(),
            Self::Lost => f.write_str("Lost"),
        }
    }
}

/// Why [`flush`](super::Batcher::flush) or [`shutdown`](super::Batcher::shutdown) could not wait
/// for all rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DrainError {
    /// The task was stopped together with its runtime. The rows that were left went back to their
    /// callers.
    #[error(
        "the batcher's task was stopped before it had written all rows: shut down the batcher before its runtime"
    )]
    Stopped,
}
