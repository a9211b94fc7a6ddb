use crate::sync::Ordering::SeqCst;
use crate::sync::{
    AcquireError, AtomicUsize, Mutex, PoisonError, Semaphore, SemaphorePermit, TryAcquireError,
    consume_budget,
};

/// Room that is given back at once while nobody waits for any: the semaphore has a lock of its own.
const AT_ONCE: usize = 64;

/// One permit a job that the queue has room for. The semaphore is fair: who waited first for room
/// gets it first, and a large batch is not overtaken for ever by single jobs.
#[derive(Debug)]
pub(crate) struct Room {
    permits: Semaphore,
    /// Given back, but not yet to the semaphore.
    left: AtomicUsize,
    gather: Mutex<()>,
    waiting: AtomicUsize,
}

impl Room {
    /// There is none until the backend says how much.
    pub(crate) fn new() -> Self {
        Self {
            permits: Semaphore::new(0),
            left: AtomicUsize::new(0),
            gather: Mutex::new(()),
            waiting: AtomicUsize::new(0),
        }
    }

    pub(crate) fn add_permits(&self, permits: usize) {
        self.permits.add_permits(permits);
    }

    /// Gives the room of a job back.
    pub(crate) fn leave(&self) {
        let left = self.left.fetch_add(1, SeqCst) + 1;
        // Whoever waits was counted before it gathered what was left: one of us two sees the other.
        if left >= AT_ONCE || self.waiting.load(SeqCst) > 0 {
            self.gather();
        }
    }

    /// One at a time: what another has gathered is in the semaphore before this is done.
    fn gather(&self) {
        let _alone = self.gather.lock().unwrap_or_else(PoisonError::into_inner);
        let left = self.left.swap(0, SeqCst);
        if left > 0 {
            self.permits.add_permits(left);
        }
    }

    pub(crate) fn try_acquire_many(
        &self,
        permits: u32,
    ) -> Result<SemaphorePermit<'_>, TryAcquireError> {
        let acquired = self.permits.try_acquire_many(permits);
        if !matches!(acquired, Err(TryAcquireError::NoPermits)) {
            return acquired;
        }
        self.gather();
        self.permits.try_acquire_many(permits)
    }

    pub(crate) async fn acquire_many(
        &self,
        permits: u32,
    ) -> Result<SemaphorePermit<'_>, AcquireError> {
        // As if it had waited: a task that enqueues in a loop lets the others of its thread go first.
        consume_budget().await;
        if let Ok(room) = self.permits.try_acquire_many(permits) {
            return Ok(room);
        }
        let _waiting = Waiting::new(&self.waiting);
        self.gather();
        self.permits.acquire_many(permits).await
    }

    pub(crate) async fn acquire(&self) -> Result<SemaphorePermit<'_>, AcquireError> {
        self.acquire_many(1).await
    }

    #[cfg(feature = "sqlite")]
    pub(crate) fn try_acquire(&self) -> Result<SemaphorePermit<'_>, TryAcquireError> {
        self.try_acquire_many(1)
    }

    /// Whether a job would have to wait.
    #[cfg(feature = "sqlite")]
    pub(crate) fn is_full(&self) -> bool {
        self.gather();
        self.permits.available_permits() == 0
    }

    pub(crate) fn close(&self) {
        self.permits.close();
    }

    #[cfg(feature = "sqlite")]
    pub(crate) fn is_closed(&self) -> bool {
        self.permits.is_closed()
    }
}

struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, SeqCst);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}
