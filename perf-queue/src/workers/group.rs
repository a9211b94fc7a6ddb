use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::timeout;
use tower_service::Service;

use super::run::Worker;
use super::{Drain, Run};
use crate::BackendError;
use crate::backend::Boxed;
use crate::panics::log;
use crate::queue::Shared;
use crate::signals::Signals;

/// How long to wait, after the deadline, for handlers to be dropped. They are, the next time they
/// are polled; one that blocks its thread is not.
const GRACE: Duration = Duration::from_secs(1);

/// How long a backend has, after that, to take note of what became of the jobs: more than a failover
/// of a server's usually takes. It has as long as the deadline, if that is longer.
const FLUSH: Duration = Duration::from_secs(5);

/// Orders to the workers of a group, and what they report.
#[derive(Debug, Default)]
pub(super) struct Orders {
    stopping: AtomicBool,
    /// How many workers there should be, and are: one atomic, so that a worker that ends because
    /// there are too many never does so on a number that has been raised again.
    size: AtomicU64,
    completed: AtomicUsize,
    released: AtomicUsize,
}

impl Orders {
    /// Whether this worker must end. If so, it counts as gone.
    pub(super) fn dismissed(&self) -> bool {
        if self.stopping() {
            return true;
        }
        let fewer = |size| {
            let (wanted, alive) = unpack(size);
            (alive > wanted).then(|| pack(wanted, alive - 1))
        };
        self.size.fetch_update(SeqCst, SeqCst, fewer).is_ok()
    }

    /// Wants `count` workers from now on. Returns how many are missing; they count as alive.
    fn resize(&self, count: usize) -> u32 {
        let wanted = u32::try_from(count).unwrap_or(u32::MAX);
        let resized = |size| {
            let (_, alive) = unpack(size);
            Some(pack(wanted, alive.max(wanted)))
        };
        let before = self.size.fetch_update(SeqCst, SeqCst, resized);
        let (_, alive) = unpack(before.unwrap_or_default());
        wanted.saturating_sub(alive)
    }

    /// So many workers are no longer alive.
    fn gone(&self, workers: u32) {
        let fewer = |size| {
            let (wanted, alive) = unpack(size);
            Some(pack(wanted, alive.saturating_sub(workers)))
        };
        let _ = self.size.fetch_update(SeqCst, SeqCst, fewer);
    }

    pub(super) fn stopping(&self) -> bool {
        self.stopping.load(SeqCst)
    }

    pub(super) fn completed(&self) {
        if self.stopping() {
            self.completed.fetch_add(1, SeqCst);
        }
    }

    pub(super) fn released(&self) {
        self.released.fetch_add(1, SeqCst);
    }
}

fn pack(wanted: u32, alive: u32) -> u64 {
    u64::from(wanted) << 32 | u64::from(alive)
}

fn unpack(size: u64) -> (u32, u32) {
    ((size >> 32) as u32, size as u32)
}

/// Adds a worker to the tasks; knows the types of job and handler.
type Spawn = Box<dyn Fn(&mut JoinSet<()>) + Send + Sync>;

type Flush = Box<dyn Fn() -> Boxed<'static, Result<(), BackendError>> + Send + Sync>;

/// The workers spawned by one call.
pub(super) struct Group {
    orders: Arc<Orders>,
    signals: Arc<Signals>,
    tasks: Mutex<JoinSet<()>>,
    spawn: Spawn,
    flush: Flush,
    drain: tokio::sync::Mutex<Option<Drain>>,
}

impl Group {
    pub(super) fn spawn<T, S>(shared: Arc<Shared<T>>, count: usize, service: S) -> Self
    where
        T: Clone + Send + 'static,
        S: Service<Run<T>, Response = ()> + Clone + Send + 'static,
        S::Error: Into<Box<dyn Error + Send + Sync>>,
        S::Future: Send,
    {
        let orders = Arc::new(Orders::default());
        let signals = Arc::clone(&shared.signals);
        let runtime = shared.runtime.clone();
        let backend = Arc::clone(&shared.backend);
        let worker = Worker::new(shared, service, Arc::clone(&orders));
        // A service need not be Sync.
        let worker = Mutex::new(worker);
        let group = Self {
            orders,
            signals,
            tasks: Mutex::new(JoinSet::new()),
            spawn: Box::new(move |tasks| {
                let worker = worker
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .clone();
                tasks.spawn_on(worker.run(), &runtime);
            }),
            flush: Box::new(move || {
                let backend = Arc::clone(&backend);
                Box::pin(async move { backend.flush().await })
            }),
            drain: tokio::sync::Mutex::new(None),
        };
        group.set_concurrency(count);
        group
    }

    pub(super) fn set_concurrency(&self, count: usize) {
        let mut tasks = self.tasks();
        while tasks.try_join_next().is_some() {}
        let mut missing = Missing {
            count: self.orders.resize(count),
            orders: &self.orders,
        };
        while missing.count > 0 && !self.orders.stopping() {
            (self.spawn)(&mut tasks);
            missing.count -= 1;
        }
        self.signals.workers.notify_waiters();
    }

    pub(super) async fn shutdown(&self, deadline: Duration) -> Drain {
        let mut drain = self.drain.lock().await;
        if let Some(drain) = *drain {
            return drain;
        }
        self.stop();
        if timeout(deadline, self.join()).await.is_err() {
            self.tasks().abort_all();
            // Counted when their tasks end; those that do not in time are stuck.
            let _ = timeout(GRACE, self.join()).await;
        }
        // What they said of their jobs is worth nothing before it is where it is safe.
        let flushed = timeout(FLUSH.max(deadline), (self.flush)()).await;
        if !matches!(flushed, Ok(Ok(()))) {
            log!(
                warn,
                "the outcome of some jobs did not reach the backend: they will run again"
            );
        }
        let done = Drain {
            completed: self.orders.completed.load(SeqCst),
            released: self.orders.released.load(SeqCst),
            stuck: self.tasks().len(),
        };
        *drain = Some(done);
        done
    }

    fn stop(&self) {
        self.orders.stopping.store(true, SeqCst);
        self.signals.workers.notify_waiters();
    }

    async fn join(&self) {
        while poll_fn(|cx| self.tasks().poll_join_next(cx))
            .await
            .is_some()
        {}
    }

    fn tasks(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Workers that count as alive, and are to be spawned: not so if the clone of a service panics.
struct Missing<'a> {
    count: u32,
    orders: &'a Orders,
}

impl Drop for Missing<'_> {
    fn drop(&mut self) {
        self.orders.gone(self.count);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.stop();
        self.tasks().detach_all();
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group")
            .field("orders", &self.orders)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;

    /// A worker that decided to go by a number that was then raised again was missing for good.
    #[test]
    fn no_worker_goes_by_a_number_that_has_been_raised_again() {
        const ROUNDS: u32 = 100_000;
        let orders = Orders::default();
        assert_eq!(orders.resize(1), 1);
        let (round, ended) = (AtomicU32::new(0), AtomicU32::new(0));
        std::thread::scope(|threads| {
            threads.spawn(|| {
                for n in 1..=ROUNDS {
                    while round.load(SeqCst) < n {
                        std::thread::yield_now();
                    }
                    orders.dismissed();
                    ended.store(n, SeqCst);
                }
            });
            for n in 1..=ROUNDS {
                round.store(n, SeqCst);
                orders.resize(0);
                orders.resize(1);
                while ended.load(SeqCst) < n {
                    std::thread::yield_now();
                }
                if unpack(orders.size.load(SeqCst)) != (1, 1) {
                    break;
                }
            }
            round.store(ROUNDS, SeqCst);
        });
        assert_eq!(unpack(orders.size.load(SeqCst)), (1, 1));
    }
}
