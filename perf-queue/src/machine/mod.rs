//! The queue as a pure state machine: no clock, no runtime, no locks. It is told the time and
//! decides which job starts. Every key is in exactly one place (see [`key::Place`]), so a job that
//! must wait for its key is never looked at, and delays no other key.

mod change;
mod claimed;
#[cfg(feature = "sqlite")]
mod gate;
mod grants;
mod jobs;
#[cfg(feature = "sqlite")]
mod kept;
mod key;
mod limiter;
mod list;
mod places;
mod store;
#[cfg(test)]
mod tests;
mod time;
mod timers;

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

use slab::Slab;

use change::Past;
pub(crate) use claimed::{Batch, Claimed, NewJob, Return, Ticket};
#[cfg(feature = "sqlite")]
pub(crate) use gate::Ask;
use jobs::{Job, Jobs};
#[cfg(feature = "sqlite")]
pub(crate) use kept::{KnownKeys, stable_hash};
use key::{Key, Place};
pub(crate) use limiter::{Limiter, Pace};
use list::Side;
pub(crate) use time::Time;
use timers::Timers;

use crate::Scope;

/// Timer events handled in one go before a job is handed out, so that 50,000 jobs that fall due in
/// the same instant do not make the first worker wait for all of them.
const PROMOTE_AT_ONCE: usize = 256;

/// Unused keys looked at by one operation: more than one operation can add.
const SWEEP_AT_ONCE: usize = 4;

/// What holds jobs back.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Rules {
    pub(crate) queue: Option<Pace>,
    /// For all keys that have none of their own.
    pub(crate) key: Option<Pace>,
    pub(crate) concurrency_per_key: Option<u32>,
}

/// How many jobs are where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Depth {
    pub(crate) ready: usize,
    pub(crate) scheduled: usize,
    pub(crate) limited: usize,
    pub(crate) in_flight: usize,
    pub(crate) oldest_due: Option<Time>,
}

/// Times that a job had to wait for a limit or a penalty only.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Limited {
    pub(crate) by_queue: u64,
    pub(crate) by_key: u64,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Job(u32),
    Key(u32),
}

#[derive(Debug)]
pub(crate) struct Machine<T, K> {
    rules: Rules,
    jobs: Jobs<T>,
    keys: Slab<Key<K>>,
    names: HashMap<K, u32>,
    ring: VecDeque<u32>,
    /// Jobs in the lists of the keys that are `Ready`.
    ready: usize,
    in_flight: usize,
    timers: Timers<Event>,
    /// Unused keys by the time at which they can be dropped.
    fades: Timers<u32>,
    limiter: Limiter,
    /// No job of any key starts before.
    hold: Time,
    paused: bool,
    #[cfg(feature = "sqlite")]
    gate: gate::Gate,
    past: Past,
    /// The next grant has been put off already, and counted.
    put_off: bool,
    limited: Limited,
}

impl<T, K: Hash + Eq + Clone> Machine<T, K> {
    pub(crate) fn new(rules: Rules) -> Self {
        Self {
            rules,
            jobs: Jobs::new(),
            keys: Slab::new(),
            names: HashMap::new(),
            ring: VecDeque::new(),
            ready: 0,
            in_flight: 0,
            timers: Timers::new(),
            fades: Timers::new(),
            limiter: Limiter::default(),
            hold: Time::ZERO,
            paused: false,
            #[cfg(feature = "sqlite")]
            gate: gate::Gate::default(),
            past: Past::new(),
            put_off: false,
            limited: Limited::default(),
        }
    }

    /// Adds a job that may run from its time on. Jobs that are due already keep, within their key
    /// and priority, the order in which they are added. If the key panics, nothing has changed.
    pub(crate) fn push(&mut self, job: NewJob<T, K>, now: Time) {
        let (name, job) = job.split();
        let key = self.enter(name, job.pace, now);
        self.push_to(key, job, now);
    }

    /// The number of a key, which has to be given a job at once. If it panics, nothing has changed.
    #[inline(always)]
    pub(crate) fn enter(&mut self, name: K, pace: Option<Pace>, now: Time) -> u32 {
        self.sweep(now, SWEEP_AT_ONCE);
        self.key(name, pace, now)
    }

    /// Adds a job of the key of this number. (A call of its own would move the job once more.)
    #[inline(always)]
    pub(crate) fn push_to(&mut self, key: u32, job: NewJob<T, ()>, now: Time) {
        let due = job.due;
        if job.blocks && due > now {
            self.hold_back(Job::new(job, key), now);
            return;
        }
        let id = self.jobs.insert(Job::new(job, key));
        if due > now {
            self.schedule(id, key, due);
        } else {
            self.catch_up(key, now);
            self.join(id, key, now);
        }
    }

    /// Adds jobs that may run at once, without a look at each. If the key panics, nothing has changed.
    pub(crate) fn push_batch(&mut self, jobs: Batch<T, K>, now: Time) {
        let key = self.enter(jobs.key, None, now);
        let jobs = Batch {
            seq: jobs.seq,
            count: jobs.count,
            key: (),
            payloads: jobs.payloads,
        };
        let id = self.jobs.insert(Job::batch(jobs, key, now));
        self.catch_up(key, now);
        self.join(id, key, now);
    }

    /// Jobs of the key that fell due while nobody asked for one come before one that is added.
    fn catch_up(&mut self, key: u32, now: Time) {
        while self.keys[key as usize].scheduled > 0 && self.promote(now) {}
    }

    /// The next job that may start at `now`, if any; it counts as started at that instant. Its payload goes
    /// to `to`: a value that is returned is moved by each function on the way.
    pub(crate) fn claim_to(&mut self, now: Time, to: &mut Option<T>) -> Option<Ticket> {
        self.sweep(now, SWEEP_AT_ONCE);
        while self.promote(now) && self.ready == 0 {}
        if self.ready == 0 || self.paused {
            return None;
        }
        if self.open_at() > now {
            self.limited.by_queue += u64::from(!self.put_off);
            self.put_off = true;
            return None;
        }
        #[cfg(feature = "sqlite")]
        if !self.gate.lets_start() {
            return None;
        }
        loop {
            let id = self.ring.pop_front()?;
            let key = &mut self.keys[id as usize];
            key.in_ring = false;
            if key.place == Place::Ready {
                #[cfg(feature = "sqlite")]
                if self.gate.has_suspects() && self.asks_first(id) {
                    return None;
                }
                return self.grant(id, now, to);
            }
            self.place(id, now);
        }
    }

    fn grant(&mut self, id: u32, now: Time, to: &mut Option<T>) -> Option<Ticket> {
        let key = &mut self.keys[id as usize];
        let ticket = self.jobs.take_front(&mut key.list, now, to)?;
        self.ready -= 1;
        key.in_flight += 1;
        self.in_flight += 1;
        let wanted = ticket.due.max(key.unparked);
        if let Some(pace) = &self.rules.queue {
            let open_at = key.open_at(self.rules.key.as_ref());
            self.limiter.grant(pace, now, wanted.max(open_at));
        }
        if let Some(pace) = key.pace.as_deref().or(self.rules.key.as_ref()) {
            key.limiter.grant(pace, now, wanted.max(key.hold));
        }
        self.past.granted(now);
        self.put_off = false;
        self.place(id, now);
        Some(ticket)
    }

    /// The job is done with, whatever became of it.
    pub(crate) fn finish(&mut self, ticket: Ticket, now: Time) {
        self.leave_flight(ticket.key);
        self.place(ticket.key, now);
    }

    /// The job comes back, to run as the attempt number `attempt`.
    pub(crate) fn put_back(&mut self, job: Claimed<T>, attempt: u32, how: Return, now: Time) {
        let key = job.ticket.key;
        self.leave_flight(key);
        let due = match how {
            Return::After(wait) => now.plus(wait),
            Return::Now | Return::Penalty(..) => now,
        };
        let mut job = Job::again(job, attempt, due);
        job.blocks = self.rules.concurrency_per_key == Some(1);
        let blocks = job.blocks;
        let id = self.jobs.insert(job);
        if let Return::Penalty(scope, wait) = how {
            self.penalize(scope, key, now.plus(wait));
        }
        match how {
            Return::After(_) if !blocks => {
                self.schedule(id, key, due);
                self.place(key, now);
                return;
            }
            Return::After(_) => {
                let key = &mut self.keys[key as usize];
                key.hold = key.hold.max(due);
            }
            Return::Now | Return::Penalty(..) => self.jobs.link_due(id),
        }
        let state = &mut self.keys[key as usize];
        self.jobs.add(&mut state.list, id, Side::First);
        if state.place == Place::Ready {
            self.ready += 1;
        }
        self.place(key, now);
    }

    /// Puts a job first of its key, where it blocks the others until it is due.
    fn hold_back(&mut self, mut job: Job<T>, now: Time) {
        let (key, due) = (job.key, job.due);
        job.blocks = self.rules.concurrency_per_key == Some(1);
        let waits = job.blocks;
        let id = self.jobs.insert(job);
        if !waits {
            // What the others wait for is a penalty.
            self.jobs.link_due(id);
        }
        let state = &mut self.keys[key as usize];
        state.hold = state.hold.max(due);
        self.jobs.add(&mut state.list, id, Side::First);
        if state.place == Place::Ready {
            self.ready += 1;
        }
        self.place(key, now);
    }

    /// No job of any key starts before.
    #[cfg(feature = "sqlite")]
    pub(crate) fn hold_until(&mut self, until: Time) {
        self.hold = self.hold.max(until);
    }

    /// When a claim can next succeed: now or in the past if it can at once, `None` if only a new
    /// job, the end of a running one or of a pause changes anything, or an answer.
    pub(crate) fn next_at(&self) -> Option<Time> {
        if self.paused {
            return None;
        }
        #[cfg(feature = "sqlite")]
        if self.gate.is_asked() {
            return None;
        }
        if self.ready > 0 {
            return Some(self.open_at());
        }
        self.timers.first()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.jobs.len() == 0 && self.in_flight == 0
    }

    pub(crate) fn depth(&self, now: Time) -> Depth {
        let due = self.jobs.due();
        let ready = if self.open_at() > now { 0 } else { self.ready };
        Depth {
            ready,
            scheduled: self.jobs.len() - due,
            limited: due.saturating_sub(ready),
            in_flight: self.in_flight,
            oldest_due: self.jobs.oldest_due(),
        }
    }

    /// How often jobs were put off since the last call.
    pub(crate) fn take_limited(&mut self) -> Limited {
        std::mem::take(&mut self.limited)
    }

    fn open_at(&self) -> Time {
        match &self.rules.queue {
            Some(pace) => self.hold.max(self.limiter.next_at(pace)),
            None => self.hold,
        }
    }

    fn leave_flight(&mut self, key: u32) {
        self.keys[key as usize].in_flight -= 1;
        self.in_flight -= 1;
    }

    fn penalize(&mut self, scope: Scope, key: u32, until: Time) {
        match scope {
            Scope::Queue => self.hold = self.hold.max(until),
            Scope::Key => {
                let key = &mut self.keys[key as usize];
                key.hold = key.hold.max(until);
                self.limited.by_key += 1;
            }
        }
    }

    fn schedule(&mut self, id: u32, key: u32, due: Time) {
        self.keys[key as usize].scheduled += 1;
        self.timers.add(due, Event::Job(id));
    }

    /// Puts a job that is due at the end of its key's list.
    fn join(&mut self, id: u32, key: u32, now: Time) {
        let state = &mut self.keys[key as usize];
        self.jobs.add(&mut state.list, id, Side::Last);
        self.jobs.link_due(id);
        match state.place {
            Place::Ready => self.ready += self.jobs.get(id).count as usize,
            Place::Idle => self.place(key, now),
            Place::Timer | Place::Parked => {}
        }
    }

    /// Handles timers that have fired, a bounded number; false if there were none.
    pub(crate) fn promote(&mut self, now: Time) -> bool {
        for handled in 0..PROMOTE_AT_ONCE {
            match self.timers.pop_due(now) {
                None => return handled > 0,
                Some((_, Event::Job(id))) => {
                    let key = self.jobs.get(id).key;
                    self.keys[key as usize].scheduled -= 1;
                    self.join(id, key, now);
                }
                Some((at, Event::Key(id))) => {
                    // The key may be gone, or its number be another's by now: looking at a key
                    // once too often changes nothing.
                    if let Some(key) = self.keys.get_mut(id as usize) {
                        if key.timer == at {
                            key.timer = Time::NEVER;
                        }
                        self.place(id, now);
                    }
                }
            }
        }
        true
    }
}
