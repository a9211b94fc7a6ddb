use std::collections::VecDeque;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

use super::ends::Left;
use super::names::Names;
#[cfg(feature = "sqlite")]
use super::past::Past;
use crate::backend::{Errors, KeyOf, Limits};
use crate::crew::Crew;
use crate::machine::{Limited, Machine, Rules, Time};
use crate::metrics::{Meters, Outcome};
use crate::panics::{contained, log};
use crate::signals::Signals;
use crate::{DeadLetter, JobId, Memory, RatePerKey, Stats};

/// What a store needs beside the function that finds a job's key.
pub(crate) struct Settings<T> {
    pub(crate) memory: Memory,
    /// `None` where there were none.
    #[cfg(feature = "sqlite")]
    pub(crate) past: Option<Past>,
    pub(crate) limits: Limits,
    /// The same, as the machine has them.
    pub(crate) rules: Rules,
    /// Rates of keys that are not the same for all.
    pub(crate) rate_per_key: Option<RatePerKey<T>>,
    /// Whether dead letters are kept here.
    pub(crate) keeps_letters: bool,
    /// How many.
    pub(crate) dead_letters: usize,
    pub(crate) signals: Arc<Signals>,
    pub(crate) meters: Arc<Meters>,
}

/// A job as the machine has it.
#[derive(Debug)]
pub(crate) struct Stored<T> {
    pub(super) job: T,
    pub(super) id: JobId,
    pub(super) trace: Option<Box<str>>,
    pub(super) errors: Errors,
}

/// A job that is known from elsewhere.
#[cfg(feature = "sqlite")]
#[derive(Debug)]
pub(crate) struct Restored<T> {
    pub(crate) job: T,
    /// Its number there, which its ticket has.
    pub(crate) number: u64,
    pub(crate) id: JobId,
    pub(crate) trace: Option<Box<str>>,
    pub(crate) errors: Errors,
    pub(crate) attempt: u32,
    pub(crate) priority: i8,
    /// Time since its enqueue.
    pub(crate) age: Duration,
    /// Time until it is due.
    pub(crate) due: Duration,
    /// Until then, nothing of its key starts.
    pub(crate) blocks: bool,
}

/// The machine behind a lock, with a clock.
pub(crate) struct Store<T, K> {
    pub(super) settings: Settings<T>,
    pub(super) key: KeyOf<T, K>,
    pub(super) start: Instant,
    /// Jobs that were there before there was room for them.
    owed: AtomicUsize,
    /// The random half of the ids.
    pub(super) queue: u64,
    pub(super) state: Mutex<State<T, K>>,
}

pub(super) struct State<T, K> {
    pub(super) machine: Machine<Stored<T>, K>,
    pub(super) limits: Limits,
    pub(super) crew: Crew,
    pub(super) names: Names,
    /// With the time at which each died.
    pub(super) dead: VecDeque<(Time, DeadLetter<T>)>,
    pub(super) closed: bool,
    /// When the state was last entered.
    pub(super) now: Time,
    pub(super) next_seq: u64,
    pub(super) tally: Tally,
}

/// What an operation has changed for others.
pub(super) struct News {
    wake: bool,
    limited: Limited,
    /// A job has left its room.
    room: bool,
    emptied: bool,
}

#[derive(Default)]
pub(super) struct Tally {
    pub(super) enqueued: u64,
    pub(super) completed: u64,
    pub(super) retried: u64,
    pub(super) snoozed: u64,
    pub(super) discarded: u64,
    pub(super) died: u64,
    pub(super) dead_dropped: u64,
}

impl<T, K> Store<T, K>
where
    K: Hash + Eq + Clone,
{
    pub(crate) fn new(
        #[cfg_attr(
            not(feature = "sqlite"),
            expect(unused_mut, reason = "taken from elsewhere")
        )]
        mut settings: Settings<T>,
        key: KeyOf<T, K>,
    ) -> Self {
        #[cfg(feature = "sqlite")]
        let machine = Past::machine(&mut settings);
        #[cfg(not(feature = "sqlite"))]
        let machine = Machine::new(settings.rules);
        let limits = settings.limits;
        Self {
            settings,
            key,
            start: Instant::now(),
            owed: AtomicUsize::new(0),
            // Keyed by the system's randomness. The generator of `fastrand` would not do: it is seeded
            // by the clock since the boot, or by the application.
            queue: RandomState::new().build_hasher().finish(),
            state: Mutex::new(State {
                machine,
                limits,
                crew: Crew::default(),
                names: Names::default(),
                dead: VecDeque::new(),
                closed: false,
                now: Time::ZERO,
                next_seq: 0,
                tally: Tally::default(),
            }),
        }
    }

    pub(super) fn instant(&self, at: Time) -> Instant {
        // Beyond what an instant can hold is as good as never; whoever sleeps looks again then.
        const FAR: Duration = Duration::from_secs(86_400 * 365);
        self.start + at.elapsed().min(self.start.elapsed() + FAR)
    }

    pub(super) fn time(&self, at: Instant) -> Time {
        Time::at(at.saturating_duration_since(self.start))
    }

    pub(super) fn id(&self, seq: u64) -> JobId {
        JobId::new(self.queue, seq)
    }

    /// Ends an operation: lets go of the lock, then does what need not be done under it.
    pub(super) fn finish(
        &self,
        state: MutexGuard<'_, State<T, K>>,
        now: Time,
        outcome: Option<Outcome>,
    ) {
        let news = self.unlock(state, now, outcome);
        self.tell(news);
    }

    /// Lets go of the lock. What it returns is to be told.
    #[inline]
    pub(super) fn unlock(
        &self,
        mut state: MutexGuard<'_, State<T, K>>,
        now: Time,
        outcome: Option<Outcome>,
    ) -> News {
        News {
            wake: state.crew.must_wake(state.machine.next_at(), now),
            limited: state.machine.take_limited(),
            room: matches!(
                outcome,
                Some(Outcome::Completed | Outcome::Discarded | Outcome::Dead)
            ),
            emptied: outcome.is_some() && state.machine.is_empty(),
        }
    }

    #[inline]
    pub(super) fn tell(&self, news: News) {
        if news.wake {
            self.settings.signals.workers.notify_one();
        }
        self.settings.meters.limited(news.limited);
        if news.room {
            self.leave_room();
        }
        if news.emptied {
            self.settings.signals.emptied();
        }
    }

    /// A job is gone, or did not come: another has its room.
    pub(crate) fn leave_room(&self) {
        let less = |owed: usize| owed.checked_sub(1);
        if self.owed.fetch_update(SeqCst, SeqCst, less).is_err() {
            self.settings.signals.room.leave();
        }
    }

    /// A job is there for which nobody asked for room.
    #[cfg(feature = "sqlite")]
    pub(crate) fn take_room(&self) {
        match self.settings.signals.room.try_acquire() {
            Ok(room) => room.forget(),
            Err(_) => {
                self.owed.fetch_add(1, SeqCst);
            }
        }
    }

    /// Jobs were enqueued that come by [`restore`](Self::restore).
    #[cfg(feature = "sqlite")]
    pub(crate) fn enqueued(&self, jobs: usize) {
        self.lock().tally.enqueued += jobs as u64;
        self.settings.meters.enqueued(jobs as u64);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().machine.is_empty()
    }

    /// Moves jobs whose time has come to where they are counted as due; while all workers are busy,
    /// or there are none, nobody else does.
    fn promote(&self) {
        loop {
            let (mut state, now) = self.enter();
            if !state.machine.promote(now) {
                return;
            }
            self.finish(state, now, None);
        }
    }

    pub(super) fn report(&self, end: Option<(Outcome, Duration, Option<Left<T>>)>) {
        let Some((outcome, took, left)) = end else {
            return;
        };
        self.settings.meters.ended(outcome, took);
        match left {
            Some(Left::Letter(letter)) => {
                log!(warn, job = %letter.id, error = letter.error(), "dead letter dropped: no room");
                contained(|| drop(letter));
            }
            Some(Left::Job(job)) => {
                contained(|| drop(job));
            }
            None => {}
        }
    }

    pub(super) fn look(&self) -> Stats {
        self.promote();
        let (state, now) = self.enter();
        let depth = state.machine.depth(now);
        Stats {
            ready: depth.ready,
            scheduled: depth.scheduled,
            limited: depth.limited,
            in_flight: depth.in_flight,
            dead: state.dead.len(),
            dead_dropped: state.tally.dead_dropped,
            capacity: self.settings.memory.capacity(),
            paused: state.machine.is_paused(),
            rate_limit: state.limits.queue,
            rate_limit_per_key: state.limits.key,
            concurrency_per_key: state.limits.concurrency_per_key,
            oldest_age: depth.oldest_due.map(|due| now.since(due)),
            workers_idle: state.crew.idle(),
            workers_busy: depth.in_flight,
            enqueued: state.tally.enqueued,
            completed: state.tally.completed,
            retried: state.tally.retried,
            snoozed: state.tally.snoozed,
            discarded: state.tally.discarded,
            died: state.tally.died,
        }
    }
}
