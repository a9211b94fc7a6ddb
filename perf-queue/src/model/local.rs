//! A backend of this process.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::{Differs, How, LONG, New, Run, Sizes, System};
use crate::backend::{Backend, Ended, KeyOf, Limits, Parts, Ready, Role, Submission, Taken};
use crate::metrics::Meters;
use crate::signals::Signals;
use crate::{Backoff, EnqueueOptions, JobId, Scope};

/// Its key and its number.
pub(crate) type Task = (u8, u64);

/// What a backend is opened with.
pub(crate) fn parts(concurrency: Option<u32>) -> Parts<Task, u8> {
    let key: KeyOf<Task, u8> = Arc::new(|task: &Task| task.0);
    Parts {
        name: "model".to_owned(),
        key,
        keyed: true,
        limits: Limits {
            concurrency_per_key: concurrency,
            ..Limits::default()
        },
        rate_per_key: None,
        lease: Duration::from_secs(30),
        backoff: Backoff::default().max_attempts(u32::MAX),
        dead_letters: None,
        max_payload: 1_000,
        signals: Arc::new(Signals::new()),
        meters: Arc::new(Meters::new("model")),
    }
}

pub(crate) struct Local<O> {
    /// Opens it, again where it outlives its handles.
    open: O,
    backend: Option<Arc<dyn Backend<Task>>>,
    differs: Differs,
    /// Whether its clock is the runtime's, which is paused.
    has_clock: bool,
    held: BTreeMap<u64, Taken<Task>>,
    ids: BTreeMap<u64, JobId>,
}

impl<O, F> Local<O>
where
    O: Fn() -> F,
    F: Future<Output = Ready<Task>>,
{
    pub(crate) async fn new(open: O, differs: Differs, has_clock: bool) -> Self {
        Self {
            backend: Some(open().await.0),
            open,
            differs,
            has_clock,
            held: BTreeMap::new(),
            ids: BTreeMap::new(),
        }
    }

    /// What is to wait for a clock that cannot be moved waits for longer than the test takes.
    const fn later(&self, seconds: u64) -> Duration {
        let stands_still = !self.has_clock && seconds > 0;
        Duration::from_secs(if stands_still { LONG } else { seconds })
    }

    async fn could_start(&self) -> bool {
        let stats = self.backend().stats().await.unwrap();
        self.differs.one_owner && stats.ready > 0 && !stats.paused
    }

    fn backend(&self) -> &Arc<dyn Backend<Task>> {
        self.backend.as_ref().unwrap()
    }
}

impl<O, F> System for Local<O>
where
    O: Fn() -> F,
    F: Future<Output = Ready<Task>>,
{
    fn differs(&self) -> Differs {
        self.differs
    }

    async fn enqueue(&mut self, jobs: &[New]) -> bool {
        let new = jobs.iter().map(|new| Submission {
            job: (new.key, new.number),
            options: EnqueueOptions::new()
                .delay(self.later(new.delay))
                .priority(new.priority),
        });
        let added = self.backend().enqueue(new.collect(), false).await;
        let Ok(ids) = added else {
            return false;
        };
        self.ids.extend(jobs.iter().map(|new| new.number).zip(ids));
        true
    }

    async fn end(&mut self, ended: &[(u64, How)]) {
        for (number, how) in ended {
            let taken = Box::new(self.held.remove(number).unwrap());
            let after = self.later(how.after().unwrap_or(0));
            let error = "no".to_owned();
            self.backend().settle(match how {
                How::Done => Ended::Completed(taken.id, taken.hold),
                How::Retry(_) => Ended::Retry(taken, after, error),
                How::Snooze(_) => Ended::Snooze(taken, after, None),
                How::Penalty(_) => Ended::Snooze(taken, after, Some(Scope::Key)),
                How::Dead => Ended::Dead(taken, error),
                How::Released => Ended::Released(taken),
            });
        }
    }

    async fn claim(&mut self, want: usize) -> Vec<Run> {
        let mut runs = Vec::new();
        for _ in 0..want {
            let mut started = None;
            while started.is_none() {
                self.backend()
                    .claim(&mut None, &mut Role::Working, &mut started);
                // It may have to be told somewhere that jobs start.
                if started.is_none() && !self.could_start().await {
                    break;
                }
                tokio::task::yield_now().await;
            }
            let Some(started) = started else {
                break;
            };
            if let Some(first) = started.first {
                first.await;
            }
            let number = started.taken.job.1;
            assert_eq!(self.ids[&number], started.taken.id);
            runs.push(Run {
                number,
                attempt: started.attempt,
                token: 0,
            });
            self.held.insert(number, started.taken);
        }
        runs
    }

    async fn crash(&mut self, want: usize) -> Option<Vec<Run>> {
        if !self.differs.one_owner {
            return None;
        }
        let runs = self.claim(want).await;
        self.backend().flush().await.unwrap();
        self.held.clear();
        self.backend = None;
        self.backend = Some((self.open)().await.0);
        Some(runs)
    }

    async fn advance(&mut self, seconds: u64) -> bool {
        if self.has_clock {
            tokio::time::advance(Duration::from_secs(seconds)).await;
        }
        self.has_clock
    }

    async fn replay(&mut self, number: u64) -> bool {
        let replayed = self.backend().replay(self.ids[&number]);
        replayed.await.unwrap_or_else(|why| panic!("{why:?}"))
    }

    async fn purge(&mut self) -> u64 {
        self.backend().purge(Duration::ZERO).await.unwrap() as u64
    }

    async fn pause(&mut self, paused: bool) {
        self.backend().pause(paused).await.unwrap();
    }

    async fn sizes(&mut self) -> Sizes {
        // What became of jobs is told to the file in the background.
        self.backend().flush().await.unwrap();
        let stats = self.backend().stats().await.unwrap();
        let dead = self.backend().dead(usize::from(u16::MAX)).await.unwrap();
        let numbers = dead.into_iter().map(|it| it.job.unwrap().1);
        Sizes {
            waiting: (stats.ready + stats.limited + stats.scheduled) as u64,
            in_flight: stats.in_flight as u64,
            dead: numbers.collect(),
        }
    }
}
