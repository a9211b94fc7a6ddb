use std::collections::VecDeque;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::crew::Crew;
use crate::backend::{Backend, Claim, Closed, Ended, Role, Started};
use crate::machine::{Claimed, Machine, NewJob, Return, Rules, Time};
use crate::metrics::{Meters, Outcome};
use crate::panics::contained;
use crate::signals::Signals;
use crate::{DeadLetter, JobId, Memory, Stats};

/// Jobs of a batch added under one lock, so that a large batch does not stop the workers.
const PUSH_AT_ONCE: usize = 256;

/// What a store needs beside the function that finds a job's key.
pub(crate) struct Settings {
    pub(crate) memory: Memory,
    pub(crate) rules: Rules,
    pub(crate) signals: Arc<Signals>,
    pub(crate) meters: Arc<Meters>,
}

/// The machine behind a lock, with a clock.
pub(crate) struct Store<T, K, F> {
    settings: Settings,
    key: F,
    start: Instant,
    /// The random half of the ids.
    queue: u64,
    state: Mutex<State<T, K>>,
}

struct State<T, K> {
    machine: Machine<T, K>,
    crew: Crew,
    dead: VecDeque<DeadLetter<T>>,
    closed: bool,
    next_seq: u64,
    tally: Tally,
}

#[derive(Default)]
struct Tally {
    completed: u64,
    retried: u64,
    snoozed: u64,
    discarded: u64,
    died: u64,
    dead_dropped: u64,
}

impl<T, K, F> Store<T, K, F>
where
    K: Hash + Eq + Clone,
{
    pub(crate) fn new(settings: Settings, key: F) -> Self {
        let machine = Machine::new(settings.rules);
        Self {
            settings,
            key,
            start: Instant::now(),
            // Keyed by the system's randomness. The generator of `fastrand` would not do: it is seeded
            // by the clock since the boot, or by the application.
            queue: RandomState::new().build_hasher().finish(),
            state: Mutex::new(State {
                machine,
                crew: Crew::default(),
                dead: VecDeque::new(),
                closed: false,
                next_seq: 0,
                tally: Tally::default(),
            }),
        }
    }

    /// The state is whole whenever user code can panic (in `Hash` or `Eq` of a key), so a poisoned
    /// lock is as good as any.
    fn lock(&self) -> MutexGuard<'_, State<T, K>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Read under the lock, so that the machine never sees time go back.
    fn now(&self) -> Time {
        Time::at(self.start.elapsed())
    }

    fn instant(&self, at: Time) -> Instant {
        // Beyond what an instant can hold is as good as never; whoever sleeps looks again then.
        const FAR: Duration = Duration::from_secs(86_400 * 365);
        self.start + at.elapsed().min(self.start.elapsed() + FAR)
    }

    fn time(&self, at: Instant) -> Time {
        Time::at(at.saturating_duration_since(self.start))
    }

    fn id(&self, seq: u64) -> JobId {
        JobId::new(self.queue, seq)
    }

    /// Ends an operation: lets go of the lock, then does what need not be done under it.
    fn finish(&self, mut state: MutexGuard<'_, State<T, K>>, now: Time, outcome: Option<Outcome>) {
        let wake = state.crew.must_wake(state.machine.next_at(), now);
        let limited = state.machine.take_limited();
        let emptied = outcome.is_some() && state.machine.is_empty();
        drop(state);
        if wake {
            self.settings.signals.workers.notify_one();
        }
        self.settings.meters.limited(limited);
        if let Some(Outcome::Completed | Outcome::Discarded | Outcome::Dead) = outcome {
            self.settings.signals.room.add_permits(1);
        }
        if emptied {
            self.settings.signals.emptied();
        }
    }

    /// Ends a job; what is returned with the outcome is dropped by the caller, outside of the lock.
    fn end(
        &self,
        state: &mut State<T, K>,
        ended: Ended<T>,
        now: Time,
    ) -> (Outcome, Duration, Option<DeadLetter<T>>) {
        let State {
            machine,
            tally,
            dead,
            ..
        } = state;
        let again = |machine: &mut Machine<T, K>, job: Claimed<T>, attempt, how| {
            let took = now.since(job.ticket.granted);
            machine.put_back(job, attempt, how, now);
            took
        };
        match ended {
            Ended::Completed(ticket) => {
                tally.completed += 1;
                machine.finish(ticket, now);
                (Outcome::Completed, now.since(ticket.granted), None)
            }
            Ended::Discarded(ticket) => {
                tally.discarded += 1;
                machine.finish(ticket, now);
                (Outcome::Discarded, now.since(ticket.granted), None)
            }
            Ended::Retry(job, wait) => {
                tally.retried += 1;
                let attempt = job.ticket.attempt.saturating_add(1);
                let took = again(machine, job, attempt, Return::After(wait));
                (Outcome::Retried, took, None)
            }
            Ended::Snooze(job, wait, penalty) => {
                tally.snoozed += 1;
                let how = match penalty {
                    Some(scope) => Return::Penalty(scope, wait),
                    None => Return::After(wait),
                };
                let attempt = job.ticket.attempt;
                (Outcome::Snoozed, again(machine, job, attempt, how), None)
            }
            Ended::Released(job) => {
                let attempt = job.ticket.attempt;
                let took = again(machine, job, attempt, Return::Now);
                (Outcome::Released, took, None)
            }
            Ended::Dead(job, error) => {
                tally.died += 1;
                let Claimed { payload, ticket } = job;
                machine.finish(ticket, now);
                dead.push_back(DeadLetter {
                    id: self.id(ticket.seq),
                    job: payload,
                    attempts: ticket.attempt,
                    error,
                    age: now.since(ticket.enqueued),
                });
                let dropped = if dead.len() > self.settings.memory.dead_capacity() {
                    tally.dead_dropped += 1;
                    dead.pop_front()
                } else {
                    None
                };
                (Outcome::Dead, now.since(ticket.granted), dropped)
            }
        }
    }

    /// Moves jobs whose time has come to where they are counted as due; while all workers are busy,
    /// or there are none, nobody else does.
    fn promote(&self) {
        loop {
            let mut state = self.lock();
            let now = self.now();
            if !state.machine.promote(now) {
                return;
            }
            self.finish(state, now, None);
        }
    }

    fn report(&self, end: Option<(Outcome, Duration, Option<DeadLetter<T>>)>) {
        let Some((outcome, took, dropped)) = end else {
            return;
        };
        self.settings.meters.ended(outcome, took);
        if let Some(letter) = dropped {
            tracing::warn!(job = %letter.id, error = letter.error, "dead letter dropped: no room");
            contained(|| drop(letter));
        }
    }
}

impl<T, K, F> Backend<T> for Store<T, K, F>
where
    T: Send,
    K: Hash + Eq + Clone + Send,
    F: Fn(&T) -> K + Send + Sync,
{
    fn push(&self, job: T, delay: Duration) -> Result<JobId, T> {
        let key = (self.key)(&job);
        let mut state = self.lock();
        if state.closed {
            return Err(job);
        }
        let now = self.now();
        let seq = state.next_seq;
        state.next_seq += 1;
        let job = NewJob::new(seq, key, job, now, now.plus(delay));
        state.machine.push(job, now);
        self.finish(state, now, None);
        self.settings.meters.enqueued(1);
        Ok(self.id(seq))
    }

    fn push_batch(&self, jobs: Vec<T>) -> Result<Vec<JobId>, Vec<T>> {
        let keys: Vec<K> = jobs.iter().map(&self.key).collect();
        let count = jobs.len();
        let mut ids = Vec::with_capacity(count);
        let mut state = self.lock();
        if state.closed {
            return Err(jobs);
        }
        let mut rest = keys.into_iter().zip(jobs);
        loop {
            let now = self.now();
            for (key, job) in rest.by_ref().take(PUSH_AT_ONCE) {
                let seq = state.next_seq;
                state.next_seq += 1;
                ids.push(self.id(seq));
                let job = NewJob::new(seq, key, job, now, now);
                state.machine.push(job, now);
            }
            self.finish(state, now, None);
            if ids.len() == count {
                break;
            }
            // Not asked again whether the queue is closed: the batch goes in whole.
            state = self.lock();
        }
        self.settings.meters.enqueued(count);
        Ok(ids)
    }

    fn claim(&self, ended: Option<Ended<T>>, role: Role) -> Claim<T> {
        let mut state = self.lock();
        let now = self.now();
        match role {
            Role::Working | Role::Registered => {}
            Role::Follower => state.crew.leave(None),
            Role::Leader(at) => state.crew.leave(Some(self.time(at))),
        }
        let end = ended.map(|ended| self.end(&mut state, ended, now));
        let claimed = state.machine.claim(now);
        let mut wait = Role::Registered;
        if claimed.is_none() && role != Role::Working {
            let next = state.machine.next_at();
            wait = match state.crew.join(next.map(|at| self.time(self.instant(at)))) {
                Some(at) => Role::Leader(self.instant(at)),
                None => Role::Follower,
            };
        }
        self.finish(state, now, end.as_ref().map(|(outcome, ..)| *outcome));
        self.report(end);
        match claimed {
            Some(job) => {
                let id = self.id(job.ticket.seq);
                let waited = now.since(job.ticket.due);
                self.settings.meters.started(waited);
                Claim::Job(Started { job, id })
            }
            None => Claim::Wait(wait),
        }
    }

    fn settle(&self, ended: Ended<T>) {
        let mut state = self.lock();
        let now = self.now();
        let end = self.end(&mut state, ended, now);
        self.finish(state, now, Some(end.0));
        self.report(Some(end));
    }

    fn leave(&self, role: Role) {
        let lead = match role {
            Role::Working | Role::Registered => return,
            Role::Follower => None,
            Role::Leader(at) => Some(self.time(at)),
        };
        let mut state = self.lock();
        state.crew.leave(lead);
        let now = self.now();
        self.finish(state, now, None);
    }

    fn close(&self) {
        self.lock().closed = true;
        self.settings.signals.room.close();
    }

    fn is_empty(&self) -> bool {
        self.lock().machine.is_empty()
    }

    fn stats(&self) -> Stats {
        self.promote();
        let state = self.lock();
        let now = self.now();
        let depth = state.machine.depth(now);
        Stats {
            ready: depth.ready,
            scheduled: depth.scheduled,
            limited: depth.limited,
            in_flight: depth.in_flight,
            dead: state.dead.len(),
            dead_dropped: state.tally.dead_dropped,
            capacity: self.settings.memory.capacity(),
            oldest_age: depth.oldest_due.map(|due| now.since(due)),
            workers_idle: state.crew.idle(),
            workers_busy: depth.in_flight,
            enqueued: state.next_seq,
            completed: state.tally.completed,
            retried: state.tally.retried,
            snoozed: state.tally.snoozed,
            discarded: state.tally.discarded,
            died: state.tally.died,
        }
    }

    fn tidy(&self) {
        let mut state = self.lock();
        let now = self.now();
        state.machine.tidy(now);
    }

    fn dead(&self, at_most: usize) -> Vec<DeadLetter<T>>
    where
        T: Clone,
    {
        self.lock().dead.iter().take(at_most).cloned().collect()
    }

    fn replay(&self, id: JobId) -> Result<bool, Closed> {
        let mut state = self.lock();
        if state.closed {
            return Err(Closed);
        }
        let at = state.dead.iter().position(|letter| letter.id == id);
        let Some(letter) = at.and_then(|at| state.dead.remove(at)) else {
            return Ok(false);
        };
        drop(state);
        let key = (self.key)(&letter.job);
        let mut state = self.lock();
        let now = self.now();
        let seq = letter.id.seq();
        let job = NewJob::new(seq, key, letter.job, now, now);
        state.machine.push(job, now);
        self.finish(state, now, None);
        Ok(true)
    }

    fn purge(&self) -> usize {
        let letters = std::mem::take(&mut self.lock().dead);
        letters.len()
    }
}
