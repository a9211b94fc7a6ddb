//! The pump against a server that is a list, with the clock paused: it waits for jobs to end, to tell of
//! many at once, only where nobody waits for it.

use std::collections::VecDeque;
use std::future::{Future, pending, ready};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep, timeout};

use super::*;
use crate::backend::{Boxed, Open, Parts, QueueBackend, Ready};
use crate::{BuildError, JobContext, Queue};

/// How long an exchange takes.
const TRIP: Duration = Duration::from_millis(1);

/// More than two trips and the timer's lateness, and less than the pump waits where it does.
const SOON: Duration = Duration::from_millis(6);

const WORKERS: usize = 20;

/// So many that the pump knows how fast the workers are.
const QUICK: u32 = 4_000;

/// Numbers from here on are jobs that run until they are stopped.
const LONG: u32 = 1_000_000;

#[derive(Default)]
struct List {
    jobs: VecDeque<NewJob>,
    leased: usize,
    /// Ends of exchanges.
    exchanges: Vec<Instant>,
}

/// A server that is nothing but a list of jobs.
#[derive(Clone, Default)]
struct Local(Arc<Mutex<List>>);

impl Local {
    fn counts(&self) -> Counts {
        let list = self.0.lock().unwrap();
        Counts {
            ready: list.jobs.len() as u64,
            in_flight: list.leased as u64,
            ..Counts::default()
        }
    }

    fn exchanges(&self) -> usize {
        self.0.lock().unwrap().exchanges.len()
    }

    fn last_exchange(&self) -> Instant {
        *self.0.lock().unwrap().exchanges.last().unwrap()
    }
}

impl Remote for Local {
    const NEXT_IS_EARLY: bool = false;

    fn address(&self) -> &str {
        "here"
    }

    async fn enqueue(&self, jobs: &[NewJob]) -> Result<Option<Vec<JobId>>, BackendError> {
        self.0.lock().unwrap().jobs.extend(jobs.iter().cloned());
        Ok(Some(jobs.iter().map(|job| job.id).collect()))
    }

    async fn exchange(&self, ended: &[Ended], want: Want) -> Result<Exchange, BackendError> {
        sleep(TRIP).await;
        let mut list = self.0.lock().unwrap();
        list.exchanges.push(Instant::now());
        list.leased -= ended.len();
        let n = want.jobs.min(list.jobs.len());
        list.leased += n;
        let granted = list.jobs.drain(..n).map(|job| Granted {
            lease: Lease {
                id: job.id,
                token: 1,
            },
            key: job.key,
            payload: job.payload,
            trace: job.trace,
            attempt: 1,
            errors: Vec::new(),
            starts: Duration::ZERO,
            limited: false,
            age: Duration::ZERO,
            waited: Duration::ZERO,
        });
        Ok(Exchange {
            granted: granted.collect(),
            ..Exchange::default()
        })
    }

    async fn extend(&self, _: &[Lease], _: Duration) -> Result<Vec<JobId>, BackendError> {
        Ok(Vec::new())
    }

    async fn counts(&self) -> Result<Counts, BackendError> {
        Ok(Self::counts(self))
    }

    async fn set_rules(&self, _: &Rules) -> Result<(), BackendError> {
        Ok(())
    }

    async fn set_rate(&self, _: Scope, _: Option<Quota>) -> Result<(), BackendError> {
        Ok(())
    }

    async fn rules(&self) -> Result<Option<Rules>, BackendError> {
        Ok(None)
    }

    async fn pause(&self, _: bool) -> Result<(), BackendError> {
        Ok(())
    }

    async fn dead(&self, _: usize) -> Result<Vec<Letter>, BackendError> {
        Ok(Vec::new())
    }

    async fn replay(&self, _: JobId) -> Result<Option<bool>, BackendError> {
        Ok(Some(false))
    }

    fn purge(&self, _: Duration) -> impl Future<Output = Result<u64, BackendError>> + Send {
        ready(Ok(0))
    }

    fn woken(&self) -> impl Future<Output = ()> + Send {
        pending()
    }
}

impl<T, K> QueueBackend<T, K> for Local
where
    T: Serialize + DeserializeOwned + Send + 'static,
    K: Serialize + Send + 'static,
{
}

impl<T, K> Open<T, K> for Local
where
    T: Serialize + DeserializeOwned + Send + 'static,
    K: Serialize + Send + 'static,
{
    fn open(self, parts: Parts<T, K>) -> Boxed<'static, Result<Ready<T>, BuildError>> {
        Box::pin(ready(Ok(Leased::start(self, 1_000_000, parts))))
    }
}

type Started = Arc<Mutex<VecDeque<(u32, Instant)>>>;

/// Workers that have a thousand jobs done in 50 ms, and what they have started.
async fn busy(local: &Local) -> (Queue<u32>, crate::Workers, Started) {
    let queue = Queue::<u32>::builder("test").backend(local.clone());
    let queue = queue.build().await.unwrap();
    let started = Started::default();
    let starts = Arc::clone(&started);
    let workers = queue.workers(WORKERS, move |n: u32, _: JobContext| {
        starts.lock().unwrap().push_back((n, Instant::now()));
        async move {
            sleep(Duration::from_millis(1)).await;
            if n >= LONG {
                pending::<()>().await;
            }
            Ok(())
        }
    });
    let workers = workers.spawn();
    queue.enqueue_batch((0..QUICK).collect()).await.unwrap();
    (queue, workers, started)
}

async fn until(what: impl Fn() -> bool) {
    let wait = async {
        while !what() {
            sleep(TRIP).await;
        }
    };
    timeout(Duration::from_secs(10), wait).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn busy_workers_are_told_of_in_few_exchanges() {
    let local = Local::default();
    let (_queue, _workers, started) = busy(&local).await;
    let began = Instant::now();
    until(|| started.lock().unwrap().len() == QUICK as usize).await;
    let took = began.elapsed();
    assert!(took > 10 * SOON, "{took:?}");
    let (exchanges, trips) = (local.exchanges(), took.as_millis() / TRIP.as_millis());
    assert!(exchanges as u128 * 3 < trips, "{exchanges} in {took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_lone_job_starts_at_once_also_right_after_many() {
    let local = Local::default();
    let (queue, _workers, started) = busy(&local).await;
    until(|| local.counts().ready + local.counts().in_flight == 0).await;
    let now = Instant::now();
    assert!(now - local.last_exchange() <= 2 * TRIP);
    queue.enqueue(LONG).await.unwrap();
    until(|| started.lock().unwrap().back().unwrap().0 == LONG).await;
    let took = started.lock().unwrap().back().unwrap().1 - now;
    assert!(took < SOON, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_stop_is_told_at_once_also_right_after_many() {
    let local = Local::default();
    let (queue, workers, started) = busy(&local).await;
    let all = (LONG..).take(WORKERS).collect();
    queue.enqueue_batch(all).await.unwrap();
    // All workers have something to do, and what they did before is told.
    until(|| {
        let started = started.lock().unwrap();
        let long = started.iter().filter(|(n, _)| *n >= LONG).count();
        long == WORKERS && local.counts().in_flight == WORKERS as u64
    })
    .await;
    let now = Instant::now();
    assert!(now - local.last_exchange() <= 2 * TRIP);
    let drain = workers.shutdown(Duration::ZERO).await;
    assert_eq!(drain.released, WORKERS);
    let counts = local.counts();
    assert_eq!(counts.in_flight, 0, "{counts:?}");
    let took = now.elapsed();
    assert!(took < SOON, "{took:?}");
}

/// A job whose `Drop` panics, but for the handler's copy of it.
#[derive(Debug, Serialize, serde::Deserialize)]
struct Bomb {
    number: u32,
    #[serde(skip)]
    copy: bool,
}

impl Clone for Bomb {
    fn clone(&self) -> Self {
        Self {
            number: self.number,
            copy: true,
        }
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(self.copy || std::thread::panicking(), "dropped");
    }
}

/// The server was never told of its end, and the lease was prolonged for ever.
#[tokio::test(start_paused = true)]
async fn the_end_of_a_job_whose_drop_panics_is_told() {
    let local = Local::default();
    let queue = Queue::<Bomb>::builder("test")
        .backend(local.clone())
        .retry(crate::Backoff::default().max_attempts(2));
    let queue = queue.build().await.unwrap();
    let workers = queue.workers(1, |job: Bomb, _: JobContext| async move {
        match job.number {
            0 => Err(crate::JobError::retry("no")),
            1 => Err(crate::JobError::retry_after(Duration::ZERO)),
            2 => Err(crate::JobError::discard("no")),
            _ => Ok(()),
        }
    });
    let workers = workers.spawn();
    // What is enqueued is dropped by who enqueued it.
    let jobs = (0..4).map(|number| Bomb { number, copy: true });
    queue.enqueue_batch(jobs.collect()).await.unwrap();
    until(|| local.counts().ready + local.counts().in_flight == 0).await;
    let stats = queue.stats().await.unwrap();
    let ends = [
        stats.completed,
        stats.retried,
        stats.snoozed,
        stats.discarded,
    ];
    assert_eq!(ends, [1, 1, 1, 1]);
    assert_eq!((stats.workers_busy, stats.workers_idle), (0, 1));
    workers.shutdown(Duration::ZERO).await;
}
