use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::backend::Backend;
use crate::machine::Rules;
use crate::memory::{Settings, Store};
use crate::metrics::Meters;
use crate::panics::contained;
use crate::queue::Shared;
use crate::signals::Signals;
use crate::{Backoff, BuildError, Memory, Queue, Rate};

/// How often the gauges are set. Scrapers come every few seconds.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);

type Open<T> = Box<dyn FnOnce(Settings) -> Box<dyn Backend<T>> + Send + Sync>;

/// Builds a [`Queue`]; from [`Queue::builder`].
#[must_use]
pub struct QueueBuilder<T> {
    name: String,
    memory: Memory,
    open: Open<T>,
    keyed: bool,
    rate: Option<Rate>,
    rate_per_key: Option<Rate>,
    concurrency_per_key: Option<u32>,
    backoff: Backoff,
}

impl<T: Send + 'static> QueueBuilder<T> {
    pub(crate) fn new(name: String) -> Self {
        Self {
            name,
            memory: Memory::default(),
            open: Box::new(|settings| Box::new(Store::new(settings, |_: &T| ()))),
            keyed: false,
            rate: None,
            rate_per_key: None,
            concurrency_per_key: None,
            backoff: Backoff::default(),
        }
    }

    /// Where the jobs are kept. Defaults to `Memory::bounded(100_000)`.
    pub fn backend(mut self, backend: Memory) -> Self {
        self.memory = backend;
        self
    }

    /// Says which jobs belong together: the user, the chat, the account. Jobs of a key start in the
    /// order in which they were enqueued, limits per key apply to it, and workers go round the keys,
    /// so that a key with 10,000 jobs does not delay a key with one.
    ///
    /// The key is taken once, at the enqueue, in the thread that enqueues. It needs to be `Clone`,
    /// and is kept for as long as the key has jobs or limits that bind it.
    ///
    /// Defaults to no keys: all jobs are one stream, started in order, run side by side by all
    /// workers.
    pub fn key<K>(mut self, key: impl Fn(&T) -> K + Send + Sync + 'static) -> Self
    where
        K: Hash + Eq + Clone + Send + 'static,
    {
        self.open = Box::new(|settings| Box::new(Store::new(settings, key)));
        self.keyed = true;
        self
    }

    /// How many jobs may start over all. Defaults to no limit.
    pub fn rate_limit(mut self, rate: Rate) -> Self {
        self.rate = Some(rate);
        self
    }

    /// How many jobs of one key may start. A key that waits for its limit holds no worker, and
    /// delays no other key. Defaults to no limit. Needs [`key`](Self::key).
    pub fn rate_limit_per_key(mut self, rate: Rate) -> Self {
        self.rate_per_key = Some(rate);
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
    pub async fn build(self) -> Result<Queue<T>, BuildError> {
        self.memory.check()?;
        self.backoff.check()?;
        let rules = self.rules()?;
        let runtime = Handle::try_current().map_err(|_| BuildError::NoRuntime)?;
        let ticks = contained(|| interval(SAMPLE_EVERY)).ok_or(BuildError::NoTimers)?;
        let signals = Arc::new(Signals::new(self.memory.capacity()));
        let meters = Arc::new(Meters::new(&self.name));
        let capacity = self.memory.capacity();
        let backend = (self.open)(Settings {
            memory: self.memory,
            rules,
            signals: Arc::clone(&signals),
            meters: Arc::clone(&meters),
        });
        let shared = Arc::new(Shared {
            name: self.name,
            backend,
            signals,
            meters,
            capacity,
            backoff: self.backoff,
            runtime: runtime.clone(),
            sampler: OnceLock::new(),
        });
        let sampler = runtime.spawn(sample(Arc::downgrade(&shared), ticks));
        shared.sampler.get_or_init(|| sampler.abort_handle());
        Ok(Queue { shared })
    }

    fn rules(&self) -> Result<Rules, BuildError> {
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
        Ok(Rules {
            queue: self.rate.map(|rate| rate.pace("rate_limit")).transpose()?,
            key: self
                .rate_per_key
                .map(|rate| rate.pace("rate_limit_per_key"))
                .transpose()?,
            concurrency_per_key: self.concurrency_per_key,
        })
    }
}

/// Sets the gauges, and tidies up, for as long as there is a queue.
async fn sample<T: Send + 'static>(shared: Weak<Shared<T>>, mut ticks: Interval) {
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(shared) = shared.upgrade() else {
            return;
        };
        shared.backend.tidy();
        shared.meters.sample(&shared.backend.stats());
    }
}

impl<T> fmt::Debug for QueueBuilder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueBuilder")
            .field("name", &self.name)
            .field("backend", &self.memory)
            .field("keyed", &self.keyed)
            .field("rate_limit", &self.rate)
            .field("rate_limit_per_key", &self.rate_per_key)
            .field("concurrency_per_key", &self.concurrency_per_key)
            .field("retry", &self.backoff)
            .finish_non_exhaustive()
    }
}
