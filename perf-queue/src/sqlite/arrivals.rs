use std::collections::VecDeque;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::rows::Stored;

/// Batches of jobs that may wait to be taken; more stay in the file.
const WAITING: usize = 16;

/// Jobs that have come into the file without an append that knows of them, on their way to the queue.
///
/// Not a channel: who waits for the next ones must not keep others from taking them.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    batches: VecDeque<Vec<Stored>>,
    ended: bool,
}

impl Arrivals {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There is one who puts them in, so there is still room when it does.
    pub(super) fn has_room(&self) -> bool {
        self.lock().batches.len() < WAITING
    }

    pub(super) fn push(&self, jobs: Vec<Stored>) {
        self.lock().batches.push_back(jobs);
        self.changed.notify_waiters();
    }

    pub(super) fn end(&self) {
        self.lock().ended = true;
        self.changed.notify_waiters();
    }

    pub(super) fn take(&self) -> Option<Vec<Stored>> {
        self.lock().batches.pop_front()
    }

    /// Waits until there are some; false if there will be none any more.
    pub(super) async fn wait(&self) -> bool {
        loop {
            let mut changed = pin!(self.changed.notified());
            // Before looking, so that nothing is missed in between.
            changed.as_mut().enable();
            let (any, ended) = {
                let state = self.lock();
                (!state.batches.is_empty(), state.ended)
            };
            if any || ended {
                return any;
            }
            changed.await;
        }
    }
}
