//! How connections come to the callers at the [`Desk`](crate::desk::Desk): idle ones, idle ones
//! after a test, and new ones.
//!
//! Connections are opened and tested in tasks of the pool, not in the caller's future. So a caller
//! that gives up wastes no handshake: the connection serves the next one, or becomes idle.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use sqlx::{Connection, Database};
use tokio::task::coop::unconstrained;
use tokio::time::timeout;

use crate::connection::{context, give_back, returning};
use crate::desk::Way;
use crate::hooks::{self, Attempt, Condition};
use crate::pace::returns_within;
use crate::pool::Inner;
use crate::warm::Live;

/// How long an attempt may take before the reason is looked for: above any healthy handshake.
pub(crate) const STUCK_AFTER: Duration = Duration::from_millis(500);

/// The longest a goodbye may take.
const GOODBYE: Duration = Duration::from_secs(1);

/// Bounds of how often a caller looks whether returns come as fast as expected.
const SHORTEST: Duration = Duration::from_millis(2);
const PATIENCE: Duration = Duration::from_millis(250);

/// A connection on its way to a caller; if it is dropped, it goes back to the pool.
pub(crate) struct Ready<DB: Database> {
    live: Option<Live<DB>>,
    inner: Arc<Inner<DB>>,
}

impl<DB: Database> Ready<DB> {
    pub(crate) fn take(mut self) -> Option<Live<DB>> {
        self.live.take()
    }
}

impl<DB: Database> Drop for Ready<DB> {
    fn drop(&mut self) {
        if let Some(live) = self.live.take() {
            self.inner.put_back(live);
        }
    }
}

/// Notes that a connection is on its way until it is dropped.
struct UnderWay<DB: Database> {
    way: Way,
    inner: Weak<Inner<DB>>,
}

impl<DB: Database> UnderWay<DB> {
    /// It came, or did not. What is missing now is seen to.
    fn over(self) {
        let inner = self.inner.clone();
        drop(self);
        if let Some(inner) = inner.upgrade() {
            inner.supply();
        }
    }
}

impl<DB: Database> Drop for UnderWay<DB> {
    /// Begins nothing else: a task is dropped where it stands only with its runtime or its pool,
    /// and the next one would be dropped at once, in here.
    fn drop(&mut self) {
        if let Some(inner) = self.inner.upgrade() {
            inner.desk.end(self.way);
        }
    }
}

/// What a look at the idle connections found.
pub(crate) enum Look<DB: Database> {
    Fresh(Live<DB>),
    /// Was idle for so long that it has to be tested.
    Stale(Live<DB>),
    /// Somebody else took the last one, and sqlx opens another.
    Opening(Attempt<DB>),
    Nothing,
    Failed(sqlx::Error),
}

impl<DB: Database> Inner<DB> {
    /// Takes a connection that is idle, without waiting: the warmest, or else the one that was idle
    /// for longest.
    pub(crate) fn look(self: &Arc<Self>) -> Look<DB> {
        while let Some((live, idle_for)) = self.warm.pop() {
            match self
                .checks
                .condition(&self.lifetimes, live.born.elapsed(), idle_for)
            {
                Condition::Fresh | Condition::New => return Look::Fresh(live),
                Condition::Stale => return Look::Stale(live),
                Condition::Over => self.close_soon(live),
            }
        }
        let _context = context(&self.runtime);
        while self.idle_in_sqlx() > 0 {
            let mut attempt = hooks::attempt(&self.sqlx);
            match poll_once(&mut attempt) {
                Poll::Pending => return Look::Opening(attempt),
                Poll::Ready(Err(error)) => return Look::Failed(error),
                Poll::Ready(Ok(found)) => match found.condition {
                    Condition::Fresh | Condition::New => return Look::Fresh(found.live),
                    Condition::Stale => return Look::Stale(found.live),
                    Condition::Over => self.close_soon(found.live),
                },
            }
        }
        Look::Nothing
    }

    /// Keeps a connection that came back as it is, for the next caller, if the last thing that
    /// happened on it was a success, and nothing is left to be sent or read. Else gives it back.
    pub(crate) fn keep(self: &Arc<Self>, mut live: Live<DB>) -> Result<(), Live<DB>> {
        // Where others wait in sqlx's pool, it is for that one to say who is next.
        let elsewhere = self.warm.is_shared() || self.lifetimes.are_over(live.born.elapsed());
        if elsewhere || live.conn.should_flush() {
            return Err(live);
        }
        let _context = context(&self.runtime);
        // What a driver does here is to read the answers that are still to come.
        if !matches!(poll_once(&mut pin!(live.conn.flush())), Poll::Ready(Ok(()))) {
            return Err(live);
        }
        if !self.desk.is_empty() {
            self.hand_over(live);
            return Ok(());
        }
        self.warm.push(live)?;
        self.supply();
        Ok(())
    }

    /// Serves callers from what is idle, and sees to it that as many connections are on their way as
    /// callers wait, as far as `max_connecting` allows, but for callers whom a return will serve
    /// sooner than a handshake.
    pub(crate) fn supply(self: &Arc<Self>) {
        while !self.desk.is_empty() {
            // By then a test that is under way has failed.
            let too_long = self.desk.longest_wait() >= self.checks.ping_timeout;
            let unserved = self.desk.unserved(too_long);
            let supplied = match self.look() {
                // Sooner than whatever is on its way.
                Look::Fresh(live) => {
                    self.hand_over(live);
                    true
                }
                // One more than are awaited, if the others are slow.
                Look::Stale(live) => {
                    self.test(live);
                    unserved > 0
                }
                Look::Opening(attempt) => self.adopt(attempt),
                Look::Nothing => unserved > self.returning_soon() && self.open(),
                Look::Failed(_) => false,
            };
            if !supplied {
                return;
            }
        }
    }

    /// How many callers returns will serve before a handshake begun now would be over.
    fn returning_soon(&self) -> usize {
        let Some(handshake) = self.handshakes.get() else {
            return 0;
        };
        // An expectation that does not come true costs no more than a handshake.
        if self.desk.longest_wait() >= handshake {
            return 0;
        }
        // Whoever has a slot and does not wait has a connection, gives it back, or is about to get
        // one. Those who use the bare sqlx pool are not known, and nothing is expected of them.
        let out = self.slots.taken().saturating_sub(self.desk.len());
        let longest = self.holders.oldest().unwrap_or_default();
        returns_within(handshake, self.uses.get().unwrap_or_default(), longest, out)
    }

    /// How long a caller waits until it looks again whether returns come as fast as expected.
    pub(crate) fn patience(&self) -> Duration {
        self.handshakes
            .get()
            .map_or(PATIENCE, |handshake| handshake / 4)
            .clamp(SHORTEST, PATIENCE)
    }

    /// Gives the connection to the first caller, or back to the pool.
    pub(crate) fn hand_over(self: &Arc<Self>, live: Live<DB>) {
        let ready = Ready {
            live: Some(live),
            inner: Arc::clone(self),
        };
        drop(self.desk.give(Ok(ready)));
    }

    /// Tests the connection for the callers.
    pub(crate) fn test(self: &Arc<Self>, mut live: Live<DB>) {
        let Some(under_way) = self.under_way(Way::Testing, u32::MAX) else {
            return;
        };
        let inner = Arc::clone(self);
        self.spawn(async move {
            match hooks::ping(&mut *live.conn, inner.checks.ping_timeout).await {
                Ok(()) => inner.hand_over(live),
                Err(error) => {
                    tracing::debug!(pool = &*inner.name, %error, "an idle connection was dead");
                    // Without a goodbye, for which a dead peer would be waited.
                    drop(live.conn.detach());
                }
            }
            under_way.over();
        });
    }

    /// Opens a connection for whoever waits when it is there, unless `max_connecting` are being
    /// opened already.
    pub(crate) fn open(self: &Arc<Self>) -> bool {
        let _context = context(&self.runtime);
        self.adopt(hooks::attempt(&self.sqlx))
    }

    /// Goes on with an attempt, unless `max_connecting` connections are being opened already.
    pub(crate) fn adopt(self: &Arc<Self>, attempt: Attempt<DB>) -> bool {
        let Some(under_way) = self.under_way(Way::Opening, self.max_connecting) else {
            return false;
        };
        // Holds the pool weakly, so that it ends with the pool however long the peer is silent.
        let (inner, within) = (Arc::downgrade(self), self.connect_timeout);
        self.spawn(async move {
            if let Some((inner, live)) = opening(attempt, inner, within).await {
                inner.hand_over(live);
                if inner.sqlx.size() < inner.base {
                    // It worked, so the rest of the base need not wait for the next round.
                    inner.look_after.notify_one();
                }
            }
            under_way.over();
        });
        true
    }

    fn under_way(self: &Arc<Self>, way: Way, at_most: u32) -> Option<UnderWay<DB>> {
        self.desk.begin(way, at_most).then(|| UnderWay {
            way,
            inner: Arc::downgrade(self),
        })
    }

    /// Puts a connection back that no caller holds.
    pub(crate) fn put_back(self: &Arc<Self>, live: Live<DB>) {
        let _context = context(&self.runtime);
        self.runtime.spawn(self.putting_back(live));
    }

    /// As [`put_back`](Self::put_back), to be waited for.
    pub(crate) fn putting_back(
        self: &Arc<Self>,
        mut live: Live<DB>,
    ) -> impl Future<Output = ()> + Send + use<DB> {
        give_back(returning(&mut live.conn), None, Arc::clone(self))
    }

    /// Closes a connection that is too old, with a goodbye.
    pub(crate) fn close_soon(self: &Arc<Self>, live: Live<DB>) {
        let inner = Arc::downgrade(self);
        self.spawn(async move {
            // How it went says nothing about the next one.
            let _ = timeout(GOODBYE, live.conn.close()).await;
            if let Some(inner) = inner.upgrade() {
                inner.publish();
            }
        });
    }

    /// Runs in a task that ends with the pool.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        let task = async move {
            stop.run_until_cancelled_owned(task).await;
        };
        self.tasks.spawn_on(task, &self.runtime);
    }
}

/// Unconstrained: a task that used its time up would find nothing ready.
pub(crate) fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    let mut cx = Context::from_waker(Waker::noop());
    pin!(unconstrained(future)).poll(&mut cx)
}

/// Goes on with an attempt to its end; what it brought, if that can be used as it is.
pub(crate) async fn opening<DB: Database>(
    mut attempt: Attempt<DB>,
    pool: Weak<Inner<DB>>,
    within: Duration,
) -> Option<(Arc<Inner<DB>>, Live<DB>)> {
    let began = Instant::now();
    let stuck = STUCK_AFTER.min(within / 2);
    let outcome = match timeout(stuck, &mut attempt).await {
        Ok(outcome) => Some(outcome),
        Err(_) => {
            if let Some(inner) = pool.upgrade() {
                inner.diagnose();
            }
            timeout(within - stuck, &mut attempt).await.ok()
        }
    };
    // Cancelled before anything is made of its end.
    drop(attempt);
    let inner = pool.upgrade()?;
    match outcome {
        Some(Ok(found)) => match found.condition {
            // Opened with what has been replaced meanwhile.
            Condition::New if inner.lifetimes.evicted_since(began) => inner.close_soon(found.live),
            Condition::New | Condition::Fresh => return Some((inner, found.live)),
            Condition::Stale => inner.test(found.live),
            Condition::Over => inner.close_soon(found.live),
        },
        None | Some(Err(sqlx::Error::PoolTimedOut)) => {
            if !inner.is_held_elsewhere(&inner.status()) {
                inner.diagnosis.gave_up(began, within);
            }
        }
        Some(Err(sqlx::Error::PoolClosed)) => {}
        Some(Err(error)) => {
            if let Err(Err(error)) = inner.desk.give(Err(error)) {
                inner.diagnosis.failed(error);
            }
        }
    }
    None
}
