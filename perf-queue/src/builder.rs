use std::fmt;
use std::hash::Hash;
use std::ops::RangeInclusive;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

use crate::backend::{KeyOf, Limits, Parts, QueueBackend, Ready};
use crate::job_error::chain;
use crate::machine::Rules;
use crate::metrics::Meters;
use crate::panics::{contained, log};
use crate::queue::Shared;
use crate::signals::Signals;
use crate::{Backoff, BuildError, Memory, Queue, Rate, RatePerKey};

/// How often the gauges are set. Scrapers come every few seconds.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);

/// How often dead letters are looked at that may be too old.
const PURGE_EVERY: Duration = Duration::from_secs(60);

/// How long a job is leased to a process that does not say that it is still at it.
const LEASE: Duration = Duration::from_secs(30);

/// Shorter ones would be over before a sign of life has reached the server; longer ones are as good as
/// none.
const LEASES: RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(365 * 86_400);

/// The bytes that a job may take where a backend keeps bytes. Beyond, a reference to the data is what
/// belongs into a queue.
const MAX_PAYLOAD: usize = 256 << 10;

/// Builds a [`Queue`]; from [`Queue::builder`]. `K` is the type of the keys, `B` the backend.
#[must_use]
pub struct QueueBuilder<T, K = (), B = Memory> {
    name: String,
    backend: B,
    key: KeyOf<T, K>,
    keyed: bool,
    lease: Duration,
    max_payload: usize,
    dead_letters: Option<usize>,
    dead_letters_for: Option<Duration>,
    rate: Option<Rate>,
    rate_per_key: Option<RatePerKey<T>>,
    concurrency_per_key: Option<u32>,
    backoff: Backoff,
}

impl<T: Send + 'static> QueueBuilder<T> {
    pub(crate) fn new(name: String) -> Self {
        Self {
            name,
            backend: Memory::default(),
            key: Arc::new(|_| ()),
            keyed: false,
            lease: LEASE,
            max_payload: MAX_PAYLOAD,
            dead_letters: None,
            dead_letters_for: None,
            rate: None,
            rate_per_key: None,
            concurrency_per_key: None,
            backoff: Backoff::default(),
        }
    }
}

impl<T: Send + 'static, K, B> QueueBuilder<T, K, B> {
    /// Where the jobs are kept. Defaults to `Memory::bounded(100_000)`.
    pub fn backend<C>(self, backend: C) -> QueueBuilder<T, K, C> {
        QueueBuilder {
            name: self.name,
            backend,
            key: self.key,
            keyed: self.keyed,
            lease: self.lease,
            max_payload: self.max_payload,
            dead_letters: self.dead_letters,
            dead_letters_for: self.dead_letters_for,
            rate: self.rate,
            rate_per_key: self.rate_per_key,
            concurrency_per_key: self.concurrency_per_key,
            backoff: self.backoff,
        }
    }

    /// Says which jobs belong together: the user, the chat, the account. Jobs of a key start in the
    /// order in which they were enqueued, limits per key apply to it, and workers go round the keys,
    /// so that a key with 10,000 jobs does not delay a key with one.
    ///
    /// The key is taken once, at the enqueue, in the thread that enqueues. It needs to be `Clone`,
    /// and is kept for as long as the key has jobs or limits that bind it. A backend that keeps bytes
    /// keeps it as JSON.
    ///
    /// Defaults to no keys: all jobs are one stream, started in order, run side by side by all
    /// workers.
    pub fn key<L>(self, key: impl Fn(&T) -> L + Send + Sync + 'static) -> QueueBuilder<T, L, B>
    where
        L: Hash + Eq + Clone + Send + 'static,
    {
        QueueBuilder {
            name: self.name,
            backend: self.backend,
            key: Arc::new(key),
            keyed: true,
            lease: self.lease,
            max_payload: self.max_payload,
            dead_letters: self.dead_letters,
            dead_letters_for: self.dead_letters_for,
            rate: self.rate,
            rate_per_key: self.rate_per_key,
            concurrency_per_key: self.concurrency_per_key,
            backoff: self.backoff,
        }
    }

    /// How long a job is leased to this process: if the process dies, the job runs again this long
    /// after the last sign of life, which is given every third of it. For backends that several
    /// processes share; from 100 ms to a year. Defaults to 30 s.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// How many bytes a job may take in a backend that keeps bytes. Defaults to 256 KiB.
    pub fn max_payload(mut self, bytes: usize) -> Self {
        self.max_payload = bytes;
        self
    }

    /// Keeps up to `letters` dead letters, beside the bound of the queue itself. When there are more, the
    /// oldest is dropped and counted ([`Stats::dead_dropped`](crate::Stats)); 0 keeps none. Each
    /// process goes by its own setting. Defaults to what the backend is set to, 1,000.
    pub fn keep_dead_letters(mut self, letters: usize) -> Self {
        self.dead_letters = Some(letters);
        self
    }

    /// Drops dead letters this long after their job failed for good, or up to a minute later. Defaults to
    /// keeping them whatever their age.
    pub fn keep_dead_letters_for(mut self, time: Duration) -> Self {
        self.dead_letters_for = Some(time);
        self
    }

    /// How many jobs may start over all. Defaults to no limit.
    pub fn rate_limit(mut self, rate: Rate) -> Self {
        self.rate = Some(rate);
        self
    }

    /// How many jobs of one key may start: a [`Rate`], or a closure that finds it by the job (see
    /// [`RatePerKey`]). A key that waits for its limit holds no worker, and delays no other key.
    /// Defaults to no limit. Needs [`key`](Self::key).
    pub fn rate_limit_per_key(mut self, rate: impl Into<RatePerKey<T>>) -> Self {
        self.rate_per_key = Some(rate.into());
        self
    }

    /// How many jobs of one key may run at the same time. With 1, jobs of a key run strictly one
    /// after another, and one that is to be retried or snoozed blocks its key until it is done with;
    /// with more, it steps aside, and rejoins its key at the end when its wait is over. Defaults to
    /// no limit. Needs [`key`](Self::key).
    pub fn concurrency_per_key(mut self, jobs: u32) -> Self {
        self.concurrency_per_key = Some(jobs);
        self
    }

    /// When and how often a failed job is tried again. Defaults to [`Backoff::default`].
    pub fn retry(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Builds the queue. Workers run on the tokio runtime in which this is called.
    ///
    /// # Errors
    ///
    /// [`BuildError`] if the settings do not fit together, or without a tokio runtime that has
    /// timers.
    ///
    /// # Cancel safety
    ///
    /// A dropped future has built nothing.
    pub async fn build(self) -> Result<Queue<T>, BuildError>
    where
        B: QueueBackend<T, K>,
    {
        self.backoff.check()?;
        if !LEASES.contains(&self.lease) {
            let [min, max] = [*LEASES.start(), *LEASES.end()];
            let lease = self.lease;
            return Err(BuildError::Lease { lease, min, max });
        }
        let limits = self.limits()?;
        let runtime = Handle::try_current().map_err(|_| BuildError::NoRuntime)?;
        contained(|| drop(interval(SAMPLE_EVERY))).ok_or(BuildError::NoTimers)?;
        let signals = Arc::new(Signals::new());
        let meters = Arc::new(Meters::new(&self.name));
        let parts = Parts {
            name: self.name.clone(),
            key: self.key,
            keyed: self.keyed,
            limits,
            rate_per_key: self.rate_per_key.filter(|rate| rate.same().is_none()),
            lease: self.lease,
            backoff: self.backoff.clone(),
            max_payload: self.max_payload,
            dead_letters: self.dead_letters,
            signals: Arc::clone(&signals),
            meters: Arc::clone(&meters),
        };
        let Ready(backend) = self.backend.open(parts).await?;
        let ticks = interval(backend.sample_every());
        let shared = Arc::new(Shared {
            name: self.name,
            backend,
            signals,
            meters,
            backoff: self.backoff,
            runtime: runtime.clone(),
            sampler: OnceLock::new(),
        });
        let sampler = sample(Arc::downgrade(&shared), ticks, self.dead_letters_for);
        let sampler = runtime.spawn(sampler);
        shared.sampler.get_or_init(|| sampler.abort_handle());
        Ok(Queue { shared })
    }

    fn limits(&self) -> Result<Limits, BuildError> {
        let per_key = [
            ("rate_limit_per_key", self.rate_per_key.is_some()),
            ("concurrency_per_key", self.concurrency_per_key.is_some()),
        ];
        if let Some((option, _)) = per_key.into_iter().find(|(_, set)| *set && !self.keyed) {
            return Err(BuildError::KeyRequired { option });
        }
        if self.concurrency_per_key == Some(0) {
            return Err(BuildError::Bound {
                option: "concurrency_per_key",
                value: 0,
                max: u32::MAX as usize,
            });
        }
        let limits = Limits {
            queue: self.rate,
            key: self.rate_per_key.as_ref().and_then(RatePerKey::same),
            concurrency_per_key: self.concurrency_per_key,
        };
        limits.rules()?;
        Ok(limits)
    }
}

impl Limits {
    /// As the machine wants them.
    pub(crate) fn rules(&self) -> Result<Rules, BuildError> {
        Ok(Rules {
            queue: self.queue.map(|rate| rate.pace("rate_limit")).transpose()?,
            key: self
                .key
                .map(|rate| rate.pace("rate_limit_per_key"))
                .transpose()?,
            concurrency_per_key: self.concurrency_per_key,
        })
    }
}

/// Sets the gauges, and tidies up, for as long as there is a queue.
async fn sample<T: Send + 'static>(
    shared: Weak<Shared<T>>,
    mut ticks: Interval,
    letters_for: Option<Duration>,
) {
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut purged: Option<Instant> = None;
    loop {
        ticks.tick().await;
        let Some(shared) = shared.upgrade() else {
            return;
        };
        shared.backend.tidy();
        if let Some(time) = letters_for
            && purged.is_none_or(|at| at.elapsed() >= time.min(PURGE_EVERY))
        {
            purged = Some(Instant::now());
            if let Err(error) = shared.backend.purge(time).await {
                let error = chain(&error);
                log!(
                    debug,
                    queue = shared.name,
                    error,
                    "no old dead letters dropped"
                );
            }
        }
        match shared.backend.stats().await {
            Ok(stats) => shared.meters.sample(&stats),
            Err(error) => {
                let error = chain(&error);
                log!(debug, queue = shared.name, error, "no stats");
            }
        }
    }
}

impl<T, K, B: fmt::Debug> fmt::Debug for QueueBuilder<T, K, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueBuilder")
            .field("name", &self.name)
            .field("backend", &self.backend)
            .field("keyed", &self.keyed)
            .field("rate_limit", &self.rate)
            .field("rate_limit_per_key", &self.rate_per_key)
            .field("concurrency_per_key", &self.concurrency_per_key)
            .field("retry", &self.backoff)
            .finish_non_exhaustive()
    }
}
