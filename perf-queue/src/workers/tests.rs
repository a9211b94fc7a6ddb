//! Workers whose backend panics, and whose service does as it is cloned.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use crate::backend::{
    Backend, Boxed, Ended, Enqueued, NotReplayed, Open, Parts, QueueBackend, Ready, Role, Started,
    Submission,
};
use crate::{BackendError, BuildError, DeadLetter, JobId, Memory, Queue, Rate, Scope, Stats};

/// A backend in memory that panics once, after a worker that was woken has asked it for a job.
struct Panics;

impl QueueBackend<u32, ()> for Panics {}

impl Open<u32, ()> for Panics {
    fn open(self, parts: Parts<u32, ()>) -> Boxed<'static, Result<Ready<u32>, BuildError>> {
        Box::pin(async move {
            let Ready(inner) = Memory::bounded(10).open(parts).await?;
            let armed = AtomicBool::new(true);
            Ok(Ready(Arc::new(Armed { inner, armed }) as Arc<_>))
        })
    }
}

struct Armed {
    inner: Arc<dyn Backend<u32>>,
    armed: AtomicBool,
}

impl Backend<u32> for Armed {
    fn claim(
        &self,
        ended: &mut Option<Ended<u32>>,
        role: &mut Role,
        to: &mut Option<Started<u32>>,
    ) {
        let woken = *role == Role::Follower;
        self.inner.claim(ended, role, to);
        assert!(!woken || !self.armed.swap(false, SeqCst), "a claim panics");
    }

    fn enqueue(&self, jobs: Vec<Submission<u32>>, wait: bool) -> Boxed<'_, Enqueued<u32>> {
        self.inner.enqueue(jobs, wait)
    }

    fn join(&self) {
        self.inner.join();
    }

    fn part(&self) {
        self.inner.part();
    }

    fn settle(&self, ended: Ended<u32>) {
        self.inner.settle(ended);
    }

    fn leave(&self, role: Role) {
        self.inner.leave(role);
    }

    fn close(&self) {
        self.inner.close();
    }

    fn drained(&self) -> Boxed<'_, Result<(), BackendError>> {
        self.inner.drained()
    }

    fn flush(&self) -> Boxed<'_, Result<(), BackendError>> {
        self.inner.flush()
    }

    fn stats(&self) -> Boxed<'_, Result<Stats, BackendError>> {
        self.inner.stats()
    }

    fn pause(&self, paused: bool) -> Boxed<'_, Result<(), BackendError>> {
        self.inner.pause(paused)
    }

    fn set_rate(&self, scope: Scope, rate: Option<Rate>) -> Boxed<'_, Result<(), BackendError>> {
        self.inner.set_rate(scope, rate)
    }

    fn tidy(&self) {}

    fn dead(&self, at_most: usize) -> Boxed<'_, Result<Vec<DeadLetter<u32>>, BackendError>> {
        self.inner.dead(at_most)
    }

    fn replay(&self, id: JobId) -> Boxed<'_, Result<bool, NotReplayed>> {
        self.inner.replay(id)
    }

    fn purge(&self, older_than: Duration) -> Boxed<'_, Result<usize, BackendError>> {
        self.inner.purge(older_than)
    }
}

/// It left twice, as if two workers had waited.
#[tokio::test(start_paused = true)]
async fn a_worker_that_panics_as_it_asks_for_a_job_leaves_once_and_gives_the_job_back() {
    let queue = Queue::<u32>::builder("q")
        .backend(Panics)
        .build()
        .await
        .unwrap();
    let workers = queue.workers(1, |_, _| async { Ok(()) }).spawn();
    while queue.stats().await.unwrap().workers_idle == 0 {
        tokio::task::yield_now().await;
    }
    queue.enqueue(1).await.unwrap();
    workers.shutdown(Duration::from_secs(1)).await;
    let stats = queue.stats().await.unwrap();
    assert_eq!(
        (stats.workers_idle, stats.in_flight, stats.ready),
        (0, 0, 1)
    );
    let others = queue.workers(1, |_, _| async { Ok(()) }).spawn();
    queue.drain().await.unwrap();
    assert_eq!(queue.stats().await.unwrap().completed, 1);
    drop(others);
}

/// Panics at its first clone but so many.
struct Clones(Arc<AtomicUsize>);

impl Clone for Clones {
    fn clone(&self) -> Self {
        assert!(self.0.fetch_sub(1, SeqCst) != 1, "a clone panics");
        Self(Arc::clone(&self.0))
    }
}

/// Those that were not spawned counted as there, and were missing for good.
#[tokio::test(start_paused = true)]
async fn workers_whose_service_could_not_be_cloned_can_be_spawned_later() {
    let queue = Queue::<u32>::builder("q").build().await.unwrap();
    let clones = Clones(Arc::new(AtomicUsize::new(3)));
    let workers = queue
        .workers(0, move |_, _| {
            let _ = &clones;
            async { Ok(()) }
        })
        .spawn();
    let more = || workers.set_concurrency(5);
    assert!(catch_unwind(AssertUnwindSafe(more)).is_err());
    workers.set_concurrency(5);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(queue.stats().await.unwrap().workers_idle, 5);
    workers.shutdown(Duration::from_secs(1)).await;
}
