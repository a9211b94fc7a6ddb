use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, Semaphore, TryAcquireError, oneshot};
use tokio::time::Instant;

use super::AddError;

/// What the caller of a row is told.
pub(super) type Outcome<R> = Result<(), AddError<R>>;

/// A row that was accepted.
pub(super) struct Entry<R> {
    pub(super) row: R,
    pub(super) bytes: u32,
    pub(super) accepted: Instant,
    pub(super) answer: oneshot::Sender<Outcome<R>>,
}

/// The rows between the callers and the task, and what the callers want of it.
///
/// What a flush and a shutdown want stands beside the rows, not among them, so it is seen at once
/// however many rows wait.
pub(super) struct Queue<R> {
    state: Mutex<State<R>>,
    /// One permit a byte. It is fair: a large row is not overtaken for ever by small ones.
    memory: Semaphore,
    work: Notify,
}

struct State<R> {
    entries: VecDeque<Entry<R>>,
    accepted: u64,
    flush_to: u64,
    closed: bool,
}

/// What the callers want, as of the last look.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wanted {
    /// So many rows, counted from the first, are to be written at once.
    pub(super) flush_to: u64,
    /// No more rows will come.
    pub(super) closed: bool,
}

impl<R> Queue<R> {
    pub(super) fn new(memory: usize) -> Self {
        Self {
            state: Mutex::new(State {
                entries: VecDeque::new(),
                accepted: 0,
                flush_to: 0,
                closed: false,
            }),
            memory: Semaphore::new(memory),
            work: Notify::new(),
        }
    }

    /// Waits for the row's bytes; `false` once the queue is closed.
    pub(super) async fn reserve(&self, bytes: u32) -> bool {
        match self.memory.acquire_many(bytes).await {
            Ok(permit) => {
                permit.forget();
                true
            }
            Err(_) => false,
        }
    }

    pub(super) fn try_reserve(&self, bytes: u32) -> Result<(), TryAcquireError> {
        self.memory
            .try_acquire_many(bytes)
            .map(tokio::sync::SemaphorePermit::forget)
    }

    /// Gives back the bytes of rows that are done.
    pub(super) fn release(&self, bytes: usize) {
        self.memory.add_permits(bytes);
    }

    /// Takes in a row whose bytes are reserved; gives it back if the queue is closed.
    pub(super) fn push(
        &self,
        row: R,
        bytes: u32,
        answer: oneshot::Sender<Outcome<R>>,
    ) -> Result<(), R> {
        let mut state = self.state();
        if state.closed {
            drop(state);
            self.release(bytes as usize);
            return Err(row);
        }
        state.accepted += 1;
        // Under the lock, so that the rows are in the order of their times.
        state.entries.push_back(Entry {
            row,
            bytes,
            accepted: Instant::now(),
            answer,
        });
        drop(state);
        self.work.notify_one();
        Ok(())
    }

    /// Moves what has come behind `taken`.
    pub(super) fn take(&self, taken: &mut VecDeque<Entry<R>>) -> Wanted {
        let mut state = self.state();
        if taken.is_empty() {
            std::mem::swap(&mut state.entries, taken);
        } else {
            taken.append(&mut state.entries);
        }
        Wanted {
            flush_to: state.flush_to,
            closed: state.closed,
        }
    }

    /// Resolves when something may have come since the last [`take`](Self::take). For one task.
    pub(super) async fn changed(&self) {
        self.work.notified().await;
    }

    /// Asks for all rows accepted until now; returns their count.
    pub(super) fn flush(&self) -> u64 {
        let mut state = self.state();
        let to = state.accepted;
        state.flush_to = to;
        drop(state);
        self.work.notify_one();
        to
    }

    /// Accepts no more rows, and sends those away that wait for memory.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.memory.close();
        self.work.notify_one();
    }

    /// How many rows were accepted so far.
    pub(super) fn accepted(&self) -> u64 {
        self.state().accepted
    }

    fn state(&self) -> MutexGuard<'_, State<R>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_had_room_when_the_queue_closed_comes_back() {
        let queue = Queue::new(10);
        queue.try_reserve(4).unwrap();
        queue.close();
        let (answer, _outcome) = oneshot::channel();
        assert_eq!(queue.push("row", 4, answer), Err("row"));
        assert_eq!(queue.accepted(), 0);
        assert_eq!(queue.memory.available_permits(), 10);
    }
}
