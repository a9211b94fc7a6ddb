use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;

use super::rows::{Added, End, RowId, Stored};
use super::state::{Setting, Starts};
use crate::remote::{Letter, NewJob};
use crate::{BackendError, JobId};

/// So many ended jobs are worth a commit at once.
const MANY: usize = 1_024;

type Reply<T> = oneshot::Sender<Result<T, BackendError>>;

/// What the writer is asked for.
#[derive(Debug)]
pub(super) enum Op {
    Append(Append),
    Started(RowId, Instant),
    /// The same, and to be marked before the answer.
    Mark(RowId, Reply<()>),
    /// With the wall clock's time.
    Ended(RowId, End, i64),
    /// Jobs that are in the file, and whose enqueue nobody waits for any more.
    Deliver([RowId; 2]),
    /// A transaction of the application's may commit jobs soon.
    Expect,
    Flush(Reply<()>),
    ListDead(usize, Reply<Vec<Letter>>),
    IsDead(JobId, Reply<bool>),
    Replay(JobId, Reply<Option<Stored>>),
    /// Up to this time of the wall clock.
    Purge(i64, Reply<u64>),
    Set(Setting, Reply<()>),
    /// The last that is told.
    Starts(Starts),
}

#[derive(Debug)]
pub(super) struct Append {
    pub(super) jobs: Vec<NewJob>,
    /// The wall clock's time.
    pub(super) now: i64,
    pub(super) reply: Reply<Vec<Added>>,
    /// Of the jobs that may wait for the writer.
    pub(super) _room: OwnedSemaphorePermit,
}

/// What waits for the writer.
///
/// The jobs in it to be added are bounded by permits. The rest is bounded by the queue: a job starts
/// and ends once before it starts again, and while the writer has not seen that, it does not run.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    state: Mutex<State>,
    pub(super) woken: Notify,
}

#[derive(Debug, Default)]
struct State {
    ops: Vec<Op>,
    /// When the first of them came.
    since: Option<Instant>,
    /// Somebody waits for one of them.
    urgent: bool,
    closed: bool,
}

/// What the writer has to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    Since(Instant),
    Now,
    /// And no more will come.
    Last,
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the operation back if the journal is closed.
    pub(super) fn push(&self, op: Op) -> Result<(), Op> {
        let urgent = !matches!(op, Op::Started(..) | Op::Ended(..));
        let mut state = self.lock();
        if state.closed {
            return Err(op);
        }
        // The writer is told when it must look again, and not for each operation.
        let first = state.ops.is_empty();
        state.since.get_or_insert_with(Instant::now);
        state.ops.push(op);
        let many = state.ops.len() == MANY;
        let newly_urgent = urgent && !state.urgent;
        state.urgent |= urgent;
        drop(state);
        if first || many || newly_urgent {
            self.woken.notify_one();
        }
        Ok(())
    }

    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.woken.notify_one();
    }

    pub(super) fn due(&self) -> Due {
        let state = self.lock();
        match state.since {
            _ if state.closed => Due::Last,
            Some(_) if state.urgent || state.ops.len() >= MANY => Due::Now,
            Some(since) => Due::Since(since),
            None => Due::Nothing,
        }
    }

    /// All there is, in exchange for an empty list.
    pub(super) fn take(&self, empty: &mut Vec<Op>) {
        let mut state = self.lock();
        state.since = None;
        state.urgent = false;
        std::mem::swap(&mut state.ops, empty);
    }
}
