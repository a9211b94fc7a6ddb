//! A queue whose jobs are on a server: what its handles and workers ask goes to the buffer of leased
//! jobs, or to the server.

mod backend;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::buffer::Buffer;
use super::codec::{encode, encode_key};
use super::inner::{Inner, State, Tally};
use super::{How, Lease, NewJob, Remote, pump};
use crate::backend::{Ended, Hold, KeyOf, Limits, Parts, Ready, Submission, Taken, Why};
use crate::crew::Crew;
use crate::metrics::Outcome;
use crate::panics::contained;
use crate::{EnqueueOptions, JobId, RatePerKey, Stats};

/// How often a producer that waits for room asks again, at first and at most.
const ROOM_AGAIN: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(500));

/// An end, how long the job ran, and what is left of it here.
type Told<T> = (Outcome, Duration, Option<Box<Taken<T>>>);

/// A backend on a server.
pub(crate) struct Leased<T, K, R: Remote> {
    inner: Arc<Inner<T, R>>,
    key: KeyOf<T, K>,
    keyed: bool,
    /// Rates of keys that are not the same for all.
    rate_per_key: Option<RatePerKey<T>>,
    capacity: usize,
    max_payload: usize,
    closed: AtomicBool,
    /// The random half of the ids.
    queue: u64,
    next: AtomicU64,
}

impl<T, K, R> Leased<T, K, R>
where
    T: Serialize + DeserializeOwned + Send + 'static,
    K: Serialize + Send + 'static,
    R: Remote,
{
    /// Starts the pump on the runtime here.
    pub(crate) fn start(remote: R, capacity: usize, parts: Parts<T, K>) -> Ready<T> {
        let inner = Arc::new(Inner {
            remote,
            lease: parts.lease,
            max_attempts: parts.backoff.attempts(),
            signals: parts.signals,
            meters: parts.meters,
            state: Mutex::new(State {
                buffer: Buffer::new(),
                crew: Crew::default(),
                telling: false,
                tally: Tally::default(),
            }),
            news: Notify::new(),
            enqueued: AtomicBool::new(true),
            quiet: Notify::new(),
            stop: AtomicBool::new(false),
            start: Instant::now(),
        });
        tokio::spawn(pump::run(Arc::clone(&inner)));
        tokio::spawn(pump::beat(Arc::downgrade(&inner)));
        Ready(Arc::new(Self {
            inner,
            key: parts.key,
            keyed: parts.keyed,
            rate_per_key: parts.rate_per_key,
            capacity,
            max_payload: parts.max_payload,
            closed: AtomicBool::new(false),
            queue: RandomState::new().build_hasher().finish(),
            next: AtomicU64::new(0),
        }))
    }

    fn new_job(&self, job: &T, options: &EnqueueOptions) -> Result<NewJob, Why> {
        Ok(NewJob {
            id: JobId::new(self.queue, self.next.fetch_add(1, Relaxed)),
            key: encode_key(&(self.key)(job), self.keyed)?,
            payload: encode(job, self.max_payload)?,
            delay: options.delay,
            priority: options.priority,
            unique: options.unique.clone(),
            rate: self.rate_per_key.as_ref().and_then(|rate| rate.quota(job)),
            trace: options.trace.as_deref().unwrap_or_default().to_owned(),
        })
    }

    fn new_jobs(&self, jobs: &[Submission<T>]) -> Result<Vec<NewJob>, Why> {
        if jobs.len() > self.capacity {
            let capacity = self.capacity;
            return Err(Why::TooMany { capacity });
        }
        jobs.iter()
            .map(|job| self.new_job(&job.job, &job.options))
            .collect()
    }

    /// Adds the jobs; waits for room, or does not.
    async fn add(&self, new: Vec<NewJob>, wait: bool) -> Result<Vec<JobId>, Why> {
        if new.is_empty() {
            return Ok(Vec::new());
        }
        let mut again = ROOM_AGAIN.0;
        loop {
            if self.closed.load(Relaxed) {
                return Err(Why::Closed);
            }
            let added = self.inner.ask(|| self.inner.remote.enqueue(&new)).await;
            if let Some(ids) = added.map_err(Why::Backend)? {
                // The others' names were taken.
                let added = new.iter().zip(&ids).filter(|(job, id)| job.id == **id);
                let added = added.count() as u64;
                self.inner.lock().tally.enqueued += added;
                self.inner.meters.enqueued(added);
                self.inner.enqueued.store(true, Relaxed);
                self.inner.news.notify_one();
                return Ok(ids);
            }
            if !wait {
                return Err(Why::Full);
            }
            sleep(again.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
            again = (again * 2).min(ROOM_AGAIN.1);
        }
    }

    /// Notes how a job ended; `None` where it was none of a server's. What is returned is to be
    /// reported outside of the lock.
    fn end(&self, state: &mut State<T>, ended: Ended<T>, now: Instant) -> Option<Told<T>> {
        let tally = &mut state.tally;
        tally.ended += 1;
        let (outcome, id, hold, how, taken) = match ended {
            Ended::Completed(id, hold) => {
                tally.completed += 1;
                (Outcome::Completed, id, hold, How::Done, None)
            }
            Ended::Discarded(id, hold) => {
                tally.discarded += 1;
                (Outcome::Discarded, id, hold, How::Done, None)
            }
            Ended::Retry(taken, after, error) => {
                tally.retried += 1;
                let how = How::Retry { after, error };
                (Outcome::Retried, taken.id, taken.hold, how, Some(taken))
            }
            Ended::Snooze(taken, after, penalty) => {
                tally.snoozed += 1;
                let how = How::Snooze { after, penalty };
                (Outcome::Snoozed, taken.id, taken.hold, how, Some(taken))
            }
            Ended::Dead(taken, error) => {
                tally.died += 1;
                let how = How::Dead { error };
                (Outcome::Dead, taken.id, taken.hold, how, Some(taken))
            }
            Ended::Released(taken) => {
                let (id, hold) = (taken.id, taken.hold);
                (Outcome::Released, id, hold, How::Released, Some(taken))
            }
        };
        let took = match hold {
            Hold::Lease { token, since } => {
                state.buffer.end(Lease { id, token }, how);
                now - since
            }
            Hold::Ticket(_) => return None,
        };
        Some((outcome, took, taken))
    }

    /// The server has the job: here it is dropped, which is the user's code.
    fn report(&self, end: Option<Told<T>>) {
        if let Some((outcome, took, taken)) = end {
            self.inner.meters.ended(outcome, took);
            contained(|| drop(taken));
        }
    }

    fn look(&self, counts: &super::Counts, limits: Limits) -> Stats {
        let state = self.inner.lock();
        let size = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        Stats {
            ready: size(counts.ready),
            scheduled: size(counts.scheduled),
            limited: size(counts.limited),
            in_flight: size(counts.in_flight),
            dead: size(counts.dead),
            dead_dropped: counts.dropped,
            capacity: self.capacity,
            paused: counts.paused,
            rate_limit: limits.queue,
            rate_limit_per_key: limits.key,
            concurrency_per_key: limits.concurrency_per_key,
            oldest_age: counts.oldest,
            workers_idle: state.crew.idle(),
            workers_busy: state.buffer.running(),
            enqueued: state.tally.enqueued,
            completed: state.tally.completed,
            retried: state.tally.retried,
            snoozed: state.tally.snoozed,
            discarded: state.tally.discarded,
            died: state.tally.died,
        }
    }
}

impl<T, K, R: Remote> Drop for Leased<T, K, R> {
    fn drop(&mut self) {
        self.inner.stop.store(true, Relaxed);
        self.inner.news.notify_one();
    }
}
