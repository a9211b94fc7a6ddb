use std::sync::Arc;
use std::time::Duration;

use super::{Captured, Enqueued};
use crate::backend::{
    Backend, Boxed, Ended, Enqueued as Ids, KeyOf, NotReplayed, Role, Started, Submission,
};
use crate::{BackendError, DeadLetter, JobId, Rate, Scope, Stats};

/// A backend, and a note of what is enqueued.
pub(super) struct Recorder<T, K> {
    inner: Arc<dyn Backend<T>>,
    key: KeyOf<T, K>,
    captured: Captured<T, K>,
}

impl<T, K> Recorder<T, K> {
    pub(super) fn new(
        inner: Arc<dyn Backend<T>>,
        key: KeyOf<T, K>,
        captured: Captured<T, K>,
    ) -> Self {
        Self {
            inner,
            key,
            captured,
        }
    }
}

impl<T, K> Backend<T> for Recorder<T, K>
where
    T: Clone + Send + 'static,
    K: Send + 'static,
{
    fn enqueue(&self, jobs: Vec<Submission<T>>, wait: bool) -> Boxed<'_, Ids<T>> {
        let note = |Submission { job, options }: &Submission<T>| Enqueued {
            id: JobId::default(),
            key: (self.key)(job),
            job: job.clone(),
            delay: options.delay,
            priority: options.priority,
            unique: options.unique.clone(),
            trace: options.trace.as_deref().map(str::to_owned),
        };
        let notes: Vec<_> = jobs.iter().map(note).collect();
        Box::pin(async move {
            let ids = self.inner.enqueue(jobs, wait).await?;
            let mut captured = self.captured.lock();
            for (id, note) in ids.iter().zip(notes) {
                // A name that was taken gives the id of a job that came before.
                let before = note.unique.is_some() && captured.iter().any(|job| job.id == *id);
                if !before {
                    captured.push(Enqueued { id: *id, ..note });
                }
            }
            Ok(ids)
        })
    }

    fn join(&self) {
        self.inner.join();
    }

    fn part(&self) {
        self.inner.part();
    }

    fn claim(&self, ended: &mut Option<Ended<T>>, role: &mut Role, to: &mut Option<Started<T>>) {
        self.inner.claim(ended, role, to);
    }

    fn settle(&self, ended: Ended<T>) {
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

    fn tidy(&self) {
        self.inner.tidy();
    }

    fn sample_every(&self) -> Duration {
        // A paused clock stops at every tick: once a second, a month would take a while.
        Duration::from_secs(3_600)
    }

    fn dead(&self, at_most: usize) -> Boxed<'_, Result<Vec<DeadLetter<T>>, BackendError>> {
        self.inner.dead(at_most)
    }

    fn replay(&self, id: JobId) -> Boxed<'_, Result<bool, NotReplayed>> {
        self.inner.replay(id)
    }

    fn purge(&self, older_than: Duration) -> Boxed<'_, Result<usize, BackendError>> {
        self.inner.purge(older_than)
    }
}
