//! What handles and workers ask.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep};

use super::super::buffer::Waiting;
use super::super::{Quota, Remote};
use super::{Leased, ROOM_AGAIN};
use crate::backend::{
    Backend, Boxed, Ended, Enqueued, Hold, NotReplayed, Role, Started, Submission, rejected,
};
use crate::{BackendError, DeadLetter, JobId, Rate, Scope, Stats};

impl<T, K, R> Backend<T> for Leased<T, K, R>
where
    T: Serialize + DeserializeOwned + Send + 'static,
    K: Serialize + Send + 'static,
    R: Remote,
{
    fn enqueue(&self, jobs: Vec<Submission<T>>, wait: bool) -> Boxed<'_, Enqueued<T>> {
        let new = self.new_jobs(&jobs);
        Box::pin(async move {
            let added = match new {
                Ok(new) => self.add(new, wait).await,
                Err(why) => Err(why),
            };
            added.map_err(|why| rejected(jobs, why))
        })
    }

    fn join(&self) {
        self.inner.lock().buffer.workers += 1;
        self.inner.enqueued.store(true, Relaxed);
        self.inner.news.notify_one();
    }

    fn part(&self) {
        let mut state = self.inner.lock();
        state.buffer.workers = state.buffer.workers.saturating_sub(1);
        if state.buffer.workers == 0 {
            state.buffer.release();
        }
        drop(state);
        self.inner.news.notify_one();
    }

    fn claim(&self, ended: &mut Option<Ended<T>>, role: &mut Role, to: &mut Option<Started<T>>) {
        let inner = &*self.inner;
        let mut state = inner.lock();
        let now = Instant::now();
        match std::mem::replace(role, Role::Registered) {
            Role::Working => *role = Role::Working,
            Role::Registered => {}
            Role::Follower => state.crew.leave(None),
            Role::Leader(at) => state.crew.leave(Some(inner.time(at))),
        }
        let end = ended
            .take()
            .and_then(|ended| self.end(&mut state, ended, now));
        let started = state.buffer.start(now);
        if started.is_none() && *role != Role::Working {
            let next = state.buffer.next_at();
            *role = match state.crew.join(next.map(|at| inner.time(at))) {
                Some(_) => next.map_or(Role::Follower, Role::Leader),
                None => Role::Follower,
            };
        }
        let tell = state.buffer.has_ended();
        inner.finish(state, now);
        if tell {
            inner.news.notify_one();
        }
        // Before anybody is told anything: whatever becomes of that, the worker has the job.
        let waited = started.map(|job| {
            let held = now - job.received;
            let waited = job.due_before + held;
            let Waiting {
                mut taken, lease, ..
            } = job;
            taken.hold = Hold::Lease {
                token: lease.token,
                since: now,
            };
            *to = Some(Started {
                taken,
                attempt: job.attempt,
                waited,
                age: job.enqueued_before + held,
                first: None,
            });
            waited
        });
        self.report(end);
        if let Some(waited) = waited {
            inner.meters.started(waited);
        }
    }

    fn settle(&self, ended: Ended<T>) {
        let mut state = self.inner.lock();
        let now = Instant::now();
        let end = self.end(&mut state, ended, now);
        self.inner.finish(state, now);
        self.inner.news.notify_one();
        self.report(end);
    }

    fn leave(&self, role: Role) {
        let lead = match role {
            Role::Working | Role::Registered => return,
            Role::Follower => None,
            Role::Leader(at) => Some(self.inner.time(at)),
        };
        let mut state = self.inner.lock();
        state.crew.leave(lead);
        self.inner.finish(state, Instant::now());
    }

    fn close(&self) {
        self.closed.store(true, Relaxed);
    }

    fn drained(&self) -> Boxed<'_, Result<(), BackendError>> {
        Box::pin(async move {
            loop {
                let mut quiet = std::pin::pin!(self.inner.quiet.notified());
                quiet.as_mut().enable();
                let is_quiet = {
                    let state = self.inner.lock();
                    state.buffer.is_quiet() && !state.telling
                };
                if is_quiet {
                    let counts = self.inner.ask(|| self.inner.remote.counts()).await?;
                    if counts.ready + counts.scheduled + counts.limited + counts.in_flight == 0 {
                        return Ok(());
                    }
                }
                tokio::select! {
                    () = quiet => {}
                    // Other processes do not tell.
                    () = sleep(Duration::from_millis(100)) => {}
                }
            }
        })
    }

    fn flush(&self) -> Boxed<'_, Result<(), BackendError>> {
        Box::pin(async move {
            loop {
                {
                    let state = self.inner.lock();
                    if !state.buffer.has_ended() && !state.telling {
                        return Ok(());
                    }
                }
                self.inner.news.notify_one();
                sleep(Duration::from_millis(1)).await;
            }
        })
    }

    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    fn enqueue_in<'a>(
        &'a self,
        conn: crate::Connection<'a>,
        job: &T,
        options: crate::EnqueueOptions,
    ) -> Boxed<'a, Result<JobId, crate::EnqueueInError>> {
        let new = self.new_job(job, &options);
        Box::pin(async move {
            if self.closed.load(Relaxed) {
                return Err(crate::EnqueueInError::Closed);
            }
            let added = self.inner.remote.enqueue_in(conn, &new?).await;
            added.map_err(|error| match error {
                crate::EnqueueInError::Backend { source } => crate::EnqueueInError::Backend {
                    source: source.at(self.inner.remote.address()),
                },
                error => error,
            })
        })
    }

    fn stats(&self) -> Boxed<'_, Result<Stats, BackendError>> {
        Box::pin(async move {
            let counts = self.inner.ask(|| self.inner.remote.counts()).await?;
            let rules = self.inner.ask(|| self.inner.remote.rules()).await?;
            Ok(self.look(&counts, rules.unwrap_or_default().into()))
        })
    }

    fn pause(&self, paused: bool) -> Boxed<'_, Result<(), BackendError>> {
        Box::pin(async move {
            self.inner.ask(|| self.inner.remote.pause(paused)).await?;
            if paused {
                self.inner.lock().buffer.recall_all();
            }
            self.inner.enqueued.store(true, Relaxed);
            self.inner.news.notify_one();
            Ok(())
        })
    }

    fn set_rate(&self, scope: Scope, rate: Option<Rate>) -> Boxed<'_, Result<(), BackendError>> {
        Box::pin(async move {
            let quota = rate.map(Quota::from);
            self.inner
                .ask(|| self.inner.remote.set_rate(scope, quota))
                .await?;
            self.inner.enqueued.store(true, Relaxed);
            self.inner.news.notify_one();
            Ok(())
        })
    }

    fn tidy(&self) {
        // Who was woken for a job may be held up behind a handler that blocks their thread.
        self.inner.finish(self.inner.lock(), Instant::now());
    }

    fn sample_every(&self) -> Duration {
        Duration::from_secs(5)
    }

    fn dead(&self, at_most: usize) -> Boxed<'_, Result<Vec<DeadLetter<T>>, BackendError>>
    where
        T: Clone,
    {
        Box::pin(async move {
            let letters = self.inner.ask(|| self.inner.remote.dead(at_most)).await?;
            Ok(letters.into_iter().map(DeadLetter::from).collect())
        })
    }

    fn replay(&self, id: JobId) -> Boxed<'_, Result<bool, NotReplayed>> {
        Box::pin(async move {
            let mut again = ROOM_AGAIN.0;
            loop {
                if self.closed.load(Relaxed) {
                    return Err(NotReplayed::Closed);
                }
                let replayed = self.inner.ask(|| self.inner.remote.replay(id)).await;
                if let Some(replayed) = replayed.map_err(NotReplayed::Backend)? {
                    self.inner.enqueued.store(true, Relaxed);
                    self.inner.news.notify_one();
                    return Ok(replayed);
                }
                sleep(again).await;
                again = (again * 2).min(ROOM_AGAIN.1);
            }
        })
    }

    fn purge(&self, older_than: Duration) -> Boxed<'_, Result<usize, BackendError>> {
        Box::pin(async move {
            let purged = self
                .inner
                .ask(|| self.inner.remote.purge(older_than))
                .await?;
            Ok(usize::try_from(purged).unwrap_or(usize::MAX))
        })
    }
}
