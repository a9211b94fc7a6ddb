//! The machine in memory, with its jobs in the file.

use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::TryAcquireError;

use super::state::Setting;
use super::suspects::Suspects;
use super::told::{Told, tell};
use super::{Added, End, Journal, Place, RowId, Sqlite, Stored};
use crate::backend::{
    Backend, Boxed, Ended, Hold, Limits, Open, Parts, QueueBackend, Ready, Submission, Taken, Why,
};
use crate::machine::Ask;
use crate::memory::{Past, Restored, Settings, Store};
use crate::panics::{contained, log};
use crate::remote::codec::{decode, encode};
use crate::remote::{NewJob, Rules};
use crate::signals::Signals;
use crate::{BuildError, EnqueueOptions, JobId, Memory, Scope};

/// A queue in a file.
pub(super) struct Durable<T, K: Hash> {
    pub(super) store: Store<T, K>,
    pub(super) journal: Arc<Journal>,
    pub(super) signals: Arc<Signals>,
    pub(super) told: Arc<Told>,
    capacity: usize,
    max_payload: usize,
    max_attempts: u32,
    /// The limits as the file has them.
    pub(super) rules: tokio::sync::Mutex<Rules>,
    /// Jobs of a key run one at a time, and so keep their place while they wait for a retry.
    one_by_one: bool,
    /// Held while jobs of the file are put into the machine, so that they are there in its order.
    pub(super) arriving: Mutex<()>,
    /// Jobs that may have killed the process before.
    suspects: Mutex<Suspects>,
    /// The random half of the ids.
    queue: u64,
    next: AtomicU64,
}

impl<T, K> Durable<T, K>
where
    T: Serialize + DeserializeOwned + Send + 'static,
    K: Hash + Eq + Clone + Send + 'static,
{
    async fn open(sqlite: Sqlite, parts: Parts<T, K>) -> Result<Arc<Self>, BuildError> {
        let dead_letters = parts.dead_letters.unwrap_or(sqlite.dead_letters);
        let sqlite = sqlite.dead_letters(dead_letters);
        sqlite.check()?;
        let (mut journal, stored) = sqlite.start(&parts.name).await?;
        // As on a server: who names limits sets those in which the code has changed.
        let before = journal.state.rules;
        let mut kept = before;
        if let Some(built) = parts.rules() {
            kept.build(built, journal.state.built);
            let rules = kept;
            if rules != before {
                journal.set(Setting::Changing).await?;
            }
            journal.set(Setting::Built { rules, built }).await?;
        }
        let limits = Limits::from(kept);
        let rules = limits.rules()?;
        let capacity = sqlite.bound();
        parts.signals.room.add_permits(capacity);
        let own = parts.rate_per_key.is_some();
        let mut changed = kept != before;
        let past = match journal.state.past.take() {
            None => None,
            Some(past) => {
                // Also where it is not known any more when they last changed, or the clock says later.
                changed |= own != past.own || past.unchanged.is_none_or(|past| past.is_zero());
                let before = Limits::from(before).rules()?;
                Some(Past {
                    paces: [before.queue, before.key],
                    quiet: past.quiet,
                    unchanged: past.unchanged,
                    own: past.own,
                    keys: past.keys,
                })
            }
        };
        let settings = Settings {
            past,
            memory: Memory::bounded(capacity),
            limits,
            rules,
            rate_per_key: parts.rate_per_key,
            keeps_letters: false,
            dead_letters,
            signals: Arc::clone(&parts.signals),
            meters: parts.meters,
        };
        let durable = Arc::new(Self {
            store: Store::new(settings, parts.key),
            journal: Arc::new(journal),
            told: Arc::new(Told::new(own)),
            signals: parts.signals,
            capacity,
            max_payload: parts.max_payload,
            max_attempts: parts.backoff.attempts(),
            one_by_one: kept.concurrency_per_key == Some(1),
            rules: tokio::sync::Mutex::new(kept),
            arriving: Mutex::new(()),
            suspects: Mutex::default(),
            queue: RandomState::new().build_hasher().finish(),
            next: AtomicU64::new(0),
        });
        if changed {
            durable.journal.set(Setting::Changed).await?;
        }
        durable.store.hold(durable.journal.state.hold);
        if durable.journal.state.paused {
            durable.store.pause(true).await?;
        }
        durable.store.shut();
        durable.take_in(stored);
        let journal = Arc::clone(&durable.journal);
        tokio::spawn(take_in_arrivals(journal, Arc::downgrade(&durable)));
        tokio::spawn(tell(Arc::downgrade(&durable)));
        Ok(durable)
    }

    /// Puts jobs of the file into the machine; those that are none go to the dead letters.
    pub(super) fn take_in(&self, stored: Vec<Stored>) {
        let mut jobs = Vec::with_capacity(stored.len());
        let mut suspects = Vec::new();
        for job in stored {
            self.store.take_room();
            if job.attempt > self.max_attempts {
                log!(warn, job = %job.id, "a job whose last attempt ended with the process");
                let error = "the process ended while the job ran".to_owned();
                self.journal.end(job.row, End::Dead { error });
                self.store.leave_room();
                continue;
            }
            match decode::<T>(job.payload) {
                Ok(decoded) => {
                    if job.suspect {
                        suspects.push(job.row);
                    }
                    jobs.push(Restored {
                        job: decoded,
                        number: job.row.to_u64(),
                        id: job.id,
                        trace: (!job.trace.is_empty()).then(|| job.trace.into_boxed_str()),
                        errors: job.errors.into(),
                        attempt: job.attempt,
                        priority: job.priority,
                        age: job.age,
                        due: job.due,
                        blocks: job.blocks,
                    });
                }
                Err(error) => {
                    log!(warn, job = %job.id, %error, "a job that cannot be decoded");
                    let error = error.to_string();
                    self.journal.end(job.row, End::Dead { error });
                    self.store.leave_room();
                }
            }
        }
        self.suspects().add(&suspects);
        self.store.suspect(suspects.into_iter().map(RowId::to_u64));
        self.restore(jobs);
    }

    /// Puts jobs into the machine. One whose key panics is a dead letter, and takes no other along.
    fn restore(&self, jobs: Vec<Restored<T>>) {
        for number in self.store.restore(jobs) {
            let row = RowId::from_u64(number);
            log!(warn, number, "a job whose key panics");
            self.suspects().granted(row);
            self.store.answer(Ask::Suspect(number));
            let error = "its key panics".to_owned();
            self.journal.end(row, End::Dead { error });
            self.store.leave_room();
        }
    }

    /// Takes in what others committed.
    fn take_in_arrived(&self) {
        let _arriving = self.arriving.lock().unwrap_or_else(PoisonError::into_inner);
        self.take_in_what_is_there();
    }

    pub(super) fn take_in_what_is_there(&self) {
        while let Some(stored) = self.journal.arrived() {
            self.take_in(stored);
        }
    }

    pub(super) fn new_job(&self, job: &T, options: &EnqueueOptions) -> Result<NewJob, Why> {
        Ok(NewJob {
            id: JobId::new(self.queue, self.next.fetch_add(1, Relaxed)),
            // Found again in the job itself.
            key: Vec::new(),
            payload: encode(job, self.max_payload)?,
            delay: options.delay,
            priority: options.priority,
            unique: options.unique.clone(),
            // Found again in the job, too.
            rate: None,
            trace: options.trace.as_deref().unwrap_or_default().to_owned(),
        })
    }

    pub(super) async fn add(
        &self,
        jobs: &mut Vec<Submission<T>>,
        new: Vec<NewJob>,
        wait: bool,
    ) -> Result<Vec<JobId>, Why> {
        let capacity = self.capacity;
        let count = match u32::try_from(new.len()) {
            Ok(count) if new.len() <= capacity => count,
            _ => return Err(Why::TooMany { capacity }),
        };
        let room = &self.signals.room;
        let room = if wait {
            room.acquire_many(count).await.map_err(|_| Why::Closed)?
        } else {
            room.try_acquire_many(count).map_err(|error| match error {
                TryAcquireError::NoPermits => Why::Full,
                TryAcquireError::Closed => Why::Closed,
            })?
        };
        let added = self.journal.append(new).await.map_err(Why::Backend)?;
        room.forget();
        let jobs = std::mem::take(jobs);
        let ids = added.iter().map(|added| added.id).collect();
        let _arriving = self.arriving.lock().unwrap_or_else(PoisonError::into_inner);
        self.take_in_what_is_there();
        let jobs = jobs.into_iter().zip(added);
        let jobs: Vec<Restored<T>> = jobs
            .filter_map(|(job, added)| self.kept(job, added))
            .collect();
        self.store.enqueued(jobs.len());
        self.restore(jobs);
        Ok(ids)
    }

    /// The job as it is in the file, if it is.
    fn kept(
        &self,
        Submission { job, options }: Submission<T>,
        added: Added,
    ) -> Option<Restored<T>> {
        let Some(row) = added.row else {
            self.store.leave_room();
            contained(|| drop(job));
            return None;
        };
        Some(Restored {
            job,
            number: row.to_u64(),
            id: added.id,
            trace: options.trace,
            errors: crate::backend::Errors::default(),
            attempt: 1,
            priority: options.priority,
            age: Duration::ZERO,
            due: options.delay,
            blocks: false,
        })
    }

    /// Tells the file how a job ended.
    pub(super) fn tell(&self, ended: &Ended<T>) {
        let place = if self.one_by_one {
            Place::Kept
        } else {
            Place::Rejoins
        };
        let (hold, end) = match ended {
            Ended::Completed(_, hold) | Ended::Discarded(_, hold) => (hold, End::Done),
            Ended::Retry(taken, after, error) => {
                let Some(attempt) = attempt(taken) else {
                    return;
                };
                let end = End::Retry {
                    attempt: attempt.saturating_add(1),
                    after: *after,
                    place,
                    error: error.clone(),
                };
                (&taken.hold, end)
            }
            Ended::Snooze(taken, after, penalty) => {
                let place = match penalty {
                    Some(Scope::Queue) => Place::HoldsAll,
                    Some(Scope::Key) => Place::Kept,
                    None => place,
                };
                let after = *after;
                (&taken.hold, End::Snooze { after, place })
            }
            Ended::Dead(taken, error) => {
                let error = error.clone();
                (&taken.hold, End::Dead { error })
            }
            Ended::Released(taken) => (&taken.hold, End::Released),
        };
        if let Some(row) = row(hold) {
            self.journal.end(row, end);
        }
    }
}

impl<T, K: Hash> Durable<T, K> {
    pub(super) fn suspects(&self) -> std::sync::MutexGuard<'_, Suspects> {
        self.suspects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn row(hold: &Hold) -> Option<RowId> {
    match hold {
        Hold::Ticket(ticket) => Some(RowId::from_u64(ticket.seq)),
        #[cfg(any(feature = "postgres", feature = "redis"))]
        Hold::Lease { .. } => None,
    }
}

fn attempt<T>(taken: &Taken<T>) -> Option<u32> {
    match &taken.hold {
        Hold::Ticket(ticket) => Some(ticket.attempt),
        #[cfg(any(feature = "postgres", feature = "redis"))]
        Hold::Lease { .. } => None,
    }
}

/// Takes in the jobs of the application's own transactions, for as long as there is a queue.
async fn take_in_arrivals<T, K>(journal: Arc<Journal>, durable: Weak<Durable<T, K>>)
where
    T: Serialize + DeserializeOwned + Send + 'static,
    K: Hash + Eq + Clone + Send + 'static,
{
    while journal.arrival().await {
        let Some(durable) = durable.upgrade() else {
            return;
        };
        durable.take_in_arrived();
    }
}

impl<T, K> QueueBackend<T, K> for Sqlite
where
    T: Serialize + DeserializeOwned + Send + 'static,
    K: Hash + Eq + Clone + Send + 'static,
{
}

impl<T, K> Open<T, K> for Sqlite
where
    T: Serialize + DeserializeOwned + Send + 'static,
    K: Hash + Eq + Clone + Send + 'static,
{
    fn open(self, parts: Parts<T, K>) -> Boxed<'static, Result<Ready<T>, BuildError>> {
        Box::pin(async move {
            let durable: Arc<dyn Backend<T>> = Durable::open(self, parts).await?;
            Ok(Ready(durable))
        })
    }
}
