//! The store as a backend.

use std::future::ready;
use std::hash::Hash;
use std::time::Duration;

use tokio::sync::{SemaphorePermit, TryAcquireError};

use super::store::Store;
use crate::backend::{
    Backend, Boxed, Ended, Enqueued, Hold, NotReplayed, Rejected, Role, Started, Submission, Taken,
    Why, rejected,
};
use crate::panics::contained;
use crate::{BackendError, DeadLetter, JobId, Rate, Scope, Stats};

#[cfg(feature = "sqlite")]
impl<T, K: Hash + Eq + Clone> Store<T, K> {
    /// No job starts until after this time, of a penalty that is not over.
    pub(crate) fn hold(&self, time: Duration) {
        let (mut state, now) = self.enter();
        let until = now.plus(time);
        state.machine.hold_until(until);
    }
}

impl<T, K> Store<T, K> {
    /// Room for so many jobs.
    async fn room(&self, jobs: usize, wait: bool) -> Result<SemaphorePermit<'_>, Why> {
        let capacity = self.settings.memory.capacity();
        let count = match u32::try_from(jobs) {
            Ok(count) if jobs <= capacity => count,
            _ => return Err(Why::TooMany { capacity }),
        };
        let room = &self.settings.signals.room;
        if wait {
            return room.acquire_many(count).await.map_err(|_| Why::Closed);
        }
        room.try_acquire_many(count).map_err(|error| match error {
            TryAcquireError::NoPermits => Why::Full,
            TryAcquireError::Closed => Why::Closed,
        })
    }
}

impl<T, K> Backend<T> for Store<T, K>
where
    T: Send + 'static,
    K: Hash + Eq + Clone + Send + 'static,
{
    fn enqueue(&self, jobs: Vec<Submission<T>>, wait: bool) -> Boxed<'_, Enqueued<T>> {
        Box::pin(async move {
            let room = match self.room(jobs.len(), wait).await {
                Ok(room) => room,
                Err(why) => return Err(rejected(jobs, why)),
            };
            let keyed = self.keyed(jobs.iter().map(|job| &job.job));
            self.push(jobs, keyed, room, |job| job)
                .map_err(|jobs| rejected(jobs, Why::Closed))
        })
    }

    fn enqueue_batch(&self, jobs: Vec<T>) -> Boxed<'_, Enqueued<T>> {
        Box::pin(async move {
            let room = match self.room(jobs.len(), true).await {
                Ok(room) => room,
                Err(why) => return Err(Rejected { jobs, why }),
            };
            let keyed = self.keyed(jobs.iter());
            let why = Why::Closed;
            self.push_batch(jobs, keyed, room)
                .map_err(|jobs| Rejected { jobs, why })
        })
    }

    fn join(&self) {}

    fn part(&self) {}

    fn claim(&self, ended: &mut Option<Ended<T>>, role: &mut Role, to: &mut Option<Started<T>>) {
        let (mut state, now) = self.enter();
        match std::mem::replace(role, Role::Registered) {
            Role::Working => *role = Role::Working,
            Role::Registered => {}
            Role::Follower => state.crew.leave(None),
            Role::Leader(at) => state.crew.leave(Some(self.time(at))),
        }
        let end = self.end(&mut state, ended, now);
        let mut payload = None;
        let claimed = state.machine.claim_to(now, &mut payload);
        #[cfg(feature = "sqlite")]
        if claimed.is_none() && state.machine.take_asked() {
            self.settings.signals.asked.notify_one();
        }
        if claimed.is_none() && *role != Role::Working {
            let next = state.machine.next_at();
            *role = match state.crew.join(next.map(|at| self.time(self.instant(at)))) {
                Some(at) => Role::Leader(self.instant(at)),
                None => Role::Follower,
            };
        }
        let news = self.unlock(state, now, end.as_ref().map(|(outcome, ..)| *outcome));
        // Before anybody is told anything: whatever becomes of that, the worker has the job.
        let mut waited = None;
        if let (Some(ticket), Some(payload)) = (claimed, payload) {
            let since_due = now.since(ticket.due);
            waited = Some(since_due);
            *to = Some(Started {
                attempt: ticket.attempt,
                waited: since_due,
                age: now.since(ticket.enqueued),
                first: None,
                taken: Taken {
                    job: payload.job,
                    id: payload.id,
                    trace: payload.trace,
                    errors: payload.errors,
                    hold: Hold::Ticket(ticket),
                },
            });
        }
        self.tell(news);
        self.report(end);
        if let Some(waited) = waited {
            self.settings.meters.started(waited);
        }
    }

    fn settle(&self, ended: Ended<T>) {
        let (mut state, now) = self.enter();
        let end = self.end(&mut state, &mut Some(ended), now);
        self.finish(state, now, end.as_ref().map(|(outcome, ..)| *outcome));
        self.report(end);
    }

    fn leave(&self, role: Role) {
        let lead = match role {
            Role::Working | Role::Registered => return,
            Role::Follower => None,
            Role::Leader(at) => Some(self.time(at)),
        };
        let (mut state, now) = self.enter();
        state.crew.leave(lead);
        self.finish(state, now, None);
    }

    fn close(&self) {
        self.lock().closed = true;
        self.settings.signals.room.close();
    }

    fn drained(&self) -> Boxed<'_, Result<(), BackendError>> {
        Box::pin(async {
            self.settings.signals.drained(|| self.is_empty()).await;
            Ok(())
        })
    }

    fn flush(&self) -> Boxed<'_, Result<(), BackendError>> {
        Box::pin(ready(Ok(())))
    }

    fn stats(&self) -> Boxed<'_, Result<Stats, BackendError>> {
        Box::pin(ready(Ok(self.look())))
    }

    fn pause(&self, paused: bool) -> Boxed<'_, Result<(), BackendError>> {
        let (mut state, now) = self.enter();
        if paused {
            state.machine.pause();
        } else {
            state.machine.resume();
        }
        self.finish(state, now, None);
        Box::pin(ready(Ok(())))
    }

    fn set_rate(&self, scope: Scope, rate: Option<Rate>) -> Boxed<'_, Result<(), BackendError>> {
        // Checked by the caller.
        let pace = rate.and_then(|rate| rate.pace("rate").ok());
        let (mut state, now) = self.enter();
        let mut rules = state.machine.rules();
        match scope {
            Scope::Queue => (rules.queue, state.limits.queue) = (pace, rate),
            Scope::Key => (rules.key, state.limits.key) = (pace, rate),
        }
        state.machine.set_rules(rules, now);
        self.finish(state, now, None);
        Box::pin(ready(Ok(())))
    }

    fn tidy(&self) {
        let (mut state, now) = self.enter();
        state.machine.tidy(now);
        state.names.tidy(now);
        // Who was woken for a job may be held up behind a handler that blocks their thread.
        self.finish(state, now, None);
    }

    fn dead(&self, at_most: usize) -> Boxed<'_, Result<Vec<DeadLetter<T>>, BackendError>>
    where
        T: Clone,
    {
        let state = self.lock();
        let dead = state.dead.iter().take(at_most);
        let dead = dead.map(|(_, letter)| letter.clone()).collect();
        drop(state);
        Box::pin(ready(Ok(dead)))
    }

    fn replay(&self, id: JobId) -> Boxed<'_, Result<bool, NotReplayed>> {
        Box::pin(async move {
            // What is not there waits for no room.
            if !self.is_dead(id) {
                return Ok(false);
            }
            let room = self.settings.signals.room.acquire().await;
            let room = room.map_err(|_| NotReplayed::Closed)?;
            let replayed = self.put_back(id)?;
            if replayed {
                room.forget();
            }
            Ok(replayed)
        })
    }

    fn purge(&self, older_than: Duration) -> Boxed<'_, Result<usize, BackendError>> {
        let (mut state, now) = self.enter();
        let young = state
            .dead
            .iter()
            .position(|(died, _)| died.plus(older_than) > now);
        let young = young.unwrap_or(state.dead.len());
        let letters: Vec<_> = state.dead.drain(..young).collect();
        drop(state);
        let purged = letters.len();
        for letter in letters {
            contained(|| drop(letter));
        }
        Box::pin(ready(Ok(purged)))
    }
}
