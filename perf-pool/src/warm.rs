use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sqlx::Database;

/// A connection out of sqlx's pool, and since when it is open.
pub(crate) struct Live<DB: Database> {
    pub(crate) conn: sqlx::pool::PoolConnection<DB>,
    pub(crate) born: Instant,
}

/// Connections that came back a moment ago and are known to be fine, because the last thing that
/// happened on them was a success. The next caller gets them as they are, where sqlx's own pool would
/// ping them first.
///
/// For sqlx they are in use. So there are none once somebody asked for the bare sqlx pool: he would
/// wait there for connections that are idle here.
pub(crate) struct Warm<DB: Database> {
    state: Mutex<State<DB>>,
    /// Read without the lock.
    len: AtomicU32,
    shared: AtomicBool,
}

struct State<DB: Database> {
    /// The one that came back last comes last, and is the first to be used again.
    stack: Vec<(Live<DB>, Instant)>,
    closed: bool,
}

impl<DB: Database> Default for Warm<DB> {
    fn default() -> Self {
        Self {
            state: Mutex::new(State {
                stack: Vec::new(),
                closed: false,
            }),
            len: AtomicU32::new(0),
            shared: AtomicBool::new(false),
        }
    }
}

impl<DB: Database> Warm<DB> {
    fn state(&self) -> MutexGuard<'_, State<DB>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that the bare sqlx pool is used. Whether that is new.
    pub(crate) fn share(&self) -> bool {
        !self.shared.load(Ordering::Acquire) && !self.shared.swap(true, Ordering::AcqRel)
    }

    pub(crate) fn is_shared(&self) -> bool {
        self.shared.load(Ordering::Acquire)
    }

    pub(crate) fn len(&self) -> u32 {
        self.len.load(Ordering::Acquire)
    }

    /// Keeps a connection, or gives it back where none may be kept.
    pub(crate) fn push(&self, live: Live<DB>) -> Result<(), Live<DB>> {
        if self.is_shared() {
            return Err(live);
        }
        let mut state = self.state();
        if state.closed {
            return Err(live);
        }
        state.stack.push((live, Instant::now()));
        self.len.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }

    /// The one that came back last, and how long ago that was.
    pub(crate) fn pop(&self) -> Option<(Live<DB>, Duration)> {
        if self.len() == 0 {
            return None;
        }
        let (live, since) = self.state().stack.pop()?;
        self.len.fetch_sub(1, Ordering::AcqRel);
        Some((live, since.elapsed()))
    }

    /// Those that came back so long ago or longer.
    pub(crate) fn take_older(&self, than: Duration) -> Vec<Live<DB>> {
        let mut state = self.state();
        let old = state
            .stack
            .partition_point(|(_, since)| since.elapsed() >= than);
        let old: Vec<_> = state.stack.drain(..old).map(|(live, _)| live).collect();
        self.len.fetch_sub(
            u32::try_from(old.len()).unwrap_or(u32::MAX),
            Ordering::AcqRel,
        );
        old
    }

    /// Keeps none from now on.
    pub(crate) fn close(&self) -> Vec<Live<DB>> {
        self.state().closed = true;
        self.take_older(Duration::ZERO)
    }
}
