use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sqlx::Database;
use tokio::sync::oneshot;

use crate::supply::Ready;

/// What a caller at the desk gets: a connection, or why none can be opened.
pub(crate) type Answer<DB> = Result<Ready<DB>, sqlx::Error>;

/// Callers that have their slot and found no connection ready, in their order, and how many
/// connections are on their way to them.
///
/// A supply belongs to no caller: whoever is first when it comes gets it, so what one caller gave
/// up on serves the next one.
pub(crate) struct Desk<DB: Database> {
    state: Mutex<State<DB>>,
}

struct State<DB: Database> {
    callers: VecDeque<Caller<DB>>,
    /// Connections that are being opened.
    opening: u32,
    /// Connections that are being tested.
    testing: u32,
    closed: bool,
}

struct Caller<DB: Database> {
    since: Instant,
    answer: oneshot::Sender<Answer<DB>>,
}

/// How a connection comes to the desk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Opening,
    Testing,
}

impl<DB: Database> Default for Desk<DB> {
    fn default() -> Self {
        Self {
            state: Mutex::new(State {
                callers: VecDeque::new(),
                opening: 0,
                testing: 0,
                closed: false,
            }),
        }
    }
}

impl<DB: Database> Desk<DB> {
    fn state(&self) -> std::sync::MutexGuard<'_, State<DB>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues up. The receiver fails when the desk is closed; dropping it leaves the queue.
    pub(crate) fn queue(&self) -> oneshot::Receiver<Answer<DB>> {
        let (caller, answer) = oneshot::channel();
        let mut state = self.state();
        if !state.closed {
            state.callers.push_back(Caller {
                since: Instant::now(),
                answer: caller,
            });
        }
        answer
    }

    pub(crate) fn is_empty(&self) -> bool {
        let mut state = self.state();
        state.leave();
        state.callers.is_empty()
    }

    /// How many callers wait.
    pub(crate) fn len(&self) -> usize {
        self.state().callers.len()
    }

    /// How long the first caller has waited.
    pub(crate) fn longest_wait(&self) -> Duration {
        let first = self.state().callers.front().map(|caller| caller.since);
        first.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// How many callers wait for whom no connection is on its way. Those that are being tested do
    /// not count where it takes `too_long`.
    pub(crate) fn unserved(&self, too_long: bool) -> usize {
        let mut state = self.state();
        state.leave();
        let testing = if too_long { 0 } else { state.testing };
        let under_way = (state.opening + testing) as usize;
        state.callers.len().saturating_sub(under_way)
    }

    /// Notes a connection that is on its way, unless `at_most` are already.
    pub(crate) fn begin(&self, way: Way, at_most: u32) -> bool {
        let mut state = self.state();
        let count = state.count(way);
        let begins = *count < at_most;
        *count += u32::from(begins);
        begins
    }

    /// A connection that was on its way came, or never will.
    pub(crate) fn end(&self, way: Way) {
        *self.state().count(way) -= 1;
    }

    /// What is on its way now.
    pub(crate) fn under_way(&self) -> (u32, u32) {
        let state = self.state();
        (state.opening, state.testing)
    }

    /// Gives `answer` to the first caller, or back if nobody waits.
    pub(crate) fn give(&self, mut answer: Answer<DB>) -> Result<(), Answer<DB>> {
        loop {
            let Some(caller) = self.state().callers.pop_front() else {
                return Err(answer);
            };
            // Not under the lock: what comes back is put back if it is dropped.
            match caller.answer.send(answer) {
                Ok(()) => return Ok(()),
                Err(back) => answer = back,
            }
        }
    }

    /// Turns waiting and later callers away.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        state.callers.clear();
    }
}

impl<DB: Database> State<DB> {
    fn count(&mut self, way: Way) -> &mut u32 {
        match way {
            Way::Opening => &mut self.opening,
            Way::Testing => &mut self.testing,
        }
    }

    /// Callers that gave up leave.
    fn leave(&mut self) {
        self.callers.retain(|caller| !caller.answer.is_closed());
    }
}
