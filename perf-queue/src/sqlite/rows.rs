use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::JobId;

/// The number of a job in its file, which grows in the order of enqueue and is never given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RowId(pub(super) i64);

impl RowId {
    /// For what counts by `u64`; SQLite's own numbers start at 1.
    pub(crate) const fn to_u64(self) -> u64 {
        self.0 as u64
    }

    /// What [`to_u64`](Self::to_u64) gave.
    pub(crate) const fn from_u64(row: u64) -> Self {
        Self(row as i64)
    }
}

/// What became of a job that was to be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Added {
    /// Its own id, or that of the job that has its unique name.
    pub(crate) id: JobId,
    /// `None` if it was not added, since another job has its unique name.
    pub(crate) row: Option<RowId>,
}

/// A job in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) row: RowId,
    pub(crate) id: JobId,
    pub(crate) payload: Vec<u8>,
    /// A W3C `traceparent`, empty for none.
    pub(crate) trace: String,
    /// The number of the attempt that comes next, from 1.
    pub(crate) attempt: u32,
    pub(crate) priority: i8,
    /// What it failed with before, the oldest first: the last ten.
    pub(crate) errors: Vec<String>,
    /// Time since the enqueue.
    pub(crate) age: Duration,
    /// Not to run before this long from now; zero if it may run at once.
    pub(crate) due: Duration,
    /// It is not due, and was put back in its place ([`Place::Kept`]): it comes first of its key.
    pub(crate) blocks: bool,
    /// The process that had the queue before did not let go of it, so this job may be what killed it:
    /// to be started with [`Journal::started_for_sure`].
    ///
    /// [`Journal::started_for_sure`]: super::Journal::started_for_sure
    pub(crate) suspect: bool,
}

/// Where a job that comes back stands among those of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Where it was: before all that were enqueued after it.
    Kept,
    /// The same, and nothing of the queue starts before it is due.
    HoldsAll,
    /// Like a job that is enqueued when it falls due.
    Rejoins,
}

/// How a run of a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// The job is gone, whether completed or discarded.
    Done,
    /// It failed; to run again after a while, as that attempt.
    Retry {
        attempt: u32,
        after: Duration,
        place: Place,
        error: String,
    },
    /// To run again after a while, as the same attempt.
    Snooze { after: Duration, place: Place },
    /// It failed for good: a dead letter.
    Dead { error: String },
    /// Not started after all, or given up at a shutdown: as it was.
    Released,
}

/// Milliseconds since 1970 by the system's clock: the only one that outlives a process.
pub(super) fn wall_clock() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    millis(since.unwrap_or_default())
}

pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// From one time of the wall clock to another, zero if the clock was set back in between.
pub(super) fn between(from: i64, to: i64) -> Duration {
    Duration::from_millis(u64::try_from(to.saturating_sub(from)).unwrap_or(0))
}

/// The two halves of an id, as SQLite keeps numbers.
pub(super) const fn halves(id: JobId) -> [i64; 2] {
    let [high, low] = id.halves();
    [high as i64, low as i64]
}

pub(super) const fn id_of(high: i64, low: i64) -> JobId {
    JobId::new(high as u64, low as u64)
}
