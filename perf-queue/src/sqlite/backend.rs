//! The durable machine as a backend.

use std::hash::Hash;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::durable::{Durable, row};
use super::state::Setting;
use super::suspects::Known;
use super::told::mark;
use crate::backend::{
    Backend, Boxed, Ended, Enqueued, NotReplayed, Role, Started, Submission, Why, rejected,
};
use crate::remote::{NewJob, Quota};
use crate::{
    BackendError, Connection, DeadLetter, EnqueueInError, EnqueueOptions, JobId, Rate, Scope, Stats,
};

impl<T, K> Backend<T> for Durable<T, K>
where
    T: Serialize + DeserializeOwned + Send + 'static,
    K: Hash + Eq + Clone + Send + 'static,
{
    fn enqueue(&self, jobs: Vec<Submission<T>>, wait: bool) -> Boxed<'_, Enqueued<T>> {
        let new: Result<Vec<NewJob>, Why> = jobs
            .iter()
            .map(|job| self.new_job(&job.job, &job.options))
            .collect();
        Box::pin(async move {
            let mut jobs = jobs;
            let added = match new {
                Ok(new) => self.add(&mut jobs, new, wait).await,
                Err(why) => Err(why),
            };
            added.map_err(|why| rejected(jobs, why))
        })
    }

    fn join(&self) {}

    fn part(&self) {}

    fn claim(&self, ended: &mut Option<Ended<T>>, role: &mut Role, to: &mut Option<Started<T>>) {
        if let Some(ended) = ended {
            self.tell(ended);
        }
        self.store.claim(ended, role, to);
        if let Some(started) = to
            && let Some(row) = row(&started.taken.hold)
        {
            match self.suspects().granted(row) {
                Known::Marked => {}
                Known::Suspect => {
                    let journal = Arc::clone(&self.journal);
                    started.first = Some(Box::pin(async move { mark(&journal, row).await }));
                }
                Known::No => self.journal.started(row),
            }
        }
    }

    fn settle(&self, ended: Ended<T>) {
        self.tell(&ended);
        self.store.settle(ended);
    }

    fn leave(&self, role: Role) {
        self.store.leave(role);
    }

    fn close(&self) {
        self.store.close();
    }

    fn drained(&self) -> Boxed<'_, Result<(), BackendError>> {
        Box::pin(async move {
            self.store.drained().await?;
            self.journal.flush().await?;
            // Where no more jobs come, this may be the last that is asked.
            match self.signals.room.is_closed() {
                true => self.leave_behind().await,
                false => Ok(()),
            }
        })
    }

    fn flush(&self) -> Boxed<'_, Result<(), BackendError>> {
        Box::pin(async move {
            self.journal.flush().await?;
            self.leave_behind().await
        })
    }

    fn enqueue_in<'a>(
        &'a self,
        conn: Connection<'a>,
        job: &T,
        options: EnqueueOptions,
    ) -> Boxed<'a, Result<JobId, EnqueueInError>> {
        let new = self.new_job(job, &options);
        Box::pin(async move {
            if self.signals.room.is_closed() {
                return Err(EnqueueInError::Closed);
            }
            match conn {
                Connection::Sqlite(conn) => self.journal.enqueue_in(conn, new?).await,
                #[cfg(feature = "postgres")]
                Connection::Postgres(_) => Err(EnqueueInError::OtherDatabase),
            }
        })
    }

    fn stats(&self) -> Boxed<'_, Result<Stats, BackendError>> {
        Box::pin(async move {
            let mut stats = self.store.stats().await?;
            let size = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
            let [kept, dropped] = self.journal.letters();
            (stats.dead, stats.dead_dropped) = (size(kept), dropped);
            Ok(stats)
        })
    }

    fn pause(&self, paused: bool) -> Boxed<'_, Result<(), BackendError>> {
        Box::pin(async move {
            self.journal.set(Setting::Paused(paused)).await?;
            self.store.pause(paused).await
        })
    }

    fn set_rate(&self, scope: Scope, rate: Option<Rate>) -> Boxed<'_, Result<(), BackendError>> {
        Box::pin(async move {
            let mut rules = self.rules.lock().await;
            let mut new = *rules;
            new.limit(scope, rate.map(Quota::from));
            self.journal.set(Setting::Rules(new)).await?;
            *rules = new;
            self.store.set_rate(scope, rate).await?;
            self.journal.set(Setting::Changed).await
        })
    }

    fn tidy(&self) {
        self.store.tidy();
    }

    fn dead(&self, at_most: usize) -> Boxed<'_, Result<Vec<DeadLetter<T>>, BackendError>>
    where
        T: Clone,
    {
        Box::pin(async move {
            let letters = self.journal.dead(at_most).await?;
            Ok(letters.into_iter().map(DeadLetter::from).collect())
        })
    }

    fn replay(&self, id: JobId) -> Boxed<'_, Result<bool, NotReplayed>> {
        Box::pin(async move {
            // What is not there waits for no room.
            let full = self.signals.room.is_full();
            if full
                && !self
                    .journal
                    .is_dead(id)
                    .await
                    .map_err(NotReplayed::Backend)?
            {
                return Ok(false);
            }
            let room = self.signals.room.acquire().await;
            // Given back below, where the job takes its own.
            let room = room.map_err(|_| NotReplayed::Closed)?;
            let replayed = self.journal.replay(id).await;
            drop(room);
            let Some(stored) = replayed.map_err(NotReplayed::Backend)? else {
                return Ok(false);
            };
            let _arriving = self.arriving.lock().unwrap_or_else(PoisonError::into_inner);
            self.take_in_what_is_there();
            self.take_in(vec![stored]);
            Ok(true)
        })
    }

    fn purge(&self, older_than: Duration) -> Boxed<'_, Result<usize, BackendError>> {
        Box::pin(async move {
            let purged = self.journal.purge(older_than).await?;
            Ok(usize::try_from(purged).unwrap_or(usize::MAX))
        })
    }
}
