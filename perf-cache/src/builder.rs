#[cfg(feature = "redis")]
mod redis;

use std::fmt;
use std::hash::Hash;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cache::{Cache, Inner};
use crate::clock::Clock;
use crate::engine::{Engine, Engines, Setup, Weigher};
use crate::error::BuildError;
use crate::load::Needs;
use crate::meters::Meters;
use crate::policy::{Policy, RefreshAhead};
use crate::remote::Remote;
use crate::table::Table;
use crate::watch::Watch;

/// A shared tier, and how old entries may be when invalidations can have been missed.
type Opened<K, V> = (Arc<dyn Remote<K, V>>, Option<Duration>);

/// Sets up a [`Cache`]; made by [`Cache::builder`].
#[must_use = "a builder does nothing until it is built"]
pub struct Builder<K, V> {
    name: Arc<str>,
    engine: Engine,
    capacity: u64,
    weighted: bool,
    weigher: Option<Weigher<K, V>>,
    policy: Policy,
    soft_timeout: Option<Duration>,
    hard_timeout: Option<Duration>,
    load_timeout: Duration,
    max_concurrent_loads: usize,
    hit_ratio: Option<(f64, f64)>,
    #[cfg(feature = "redis")]
    redis: redis::Settings<K, V>,
    remote: Option<Opened<K, V>>,
    of: PhantomData<fn() -> (K, V)>,
}

impl<K, V> Builder<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    pub(crate) fn new(name: Arc<str>) -> Self {
        Self {
            name,
            engine: Engine::default(),
            capacity: 10_000,
            weighted: false,
            weigher: None,
            policy: Policy {
                time_to_live: None,
                jitter: 0.0,
                time_to_idle: None,
                stale_while_revalidate: Duration::ZERO,
                stale_if_error: Duration::ZERO,
                refresh_ahead: RefreshAhead::Never,
                negative_ttl: Duration::ZERO,
                retry_failed_after: Duration::from_secs(1),
            },
            soft_timeout: None,
            hard_timeout: None,
            load_timeout: Duration::from_secs(60),
            max_concurrent_loads: 1_024,
            hit_ratio: None,
            #[cfg(feature = "redis")]
            redis: redis::Settings::new(),
            remote: None,
            of: PhantomData,
        }
    }

    /// Which library holds the entries in memory.
    ///
    /// Defaults to [`Engine::Moka`].
    pub fn engine(mut self, engine: Engine) -> Self {
        self.engine = engine;
        self
    }

    /// The most entries to keep. When there are more, those go that are used least often and
    /// longest ago; a new entry that is used less than all others may be the one. For
    /// a moment, while moka's evictions are outstanding, there may be a few hundred more.
    ///
    /// With 0 nothing is kept: callers who ask at the same time still share one load.
    ///
    /// Defaults to 10,000 entries.
    pub fn max_capacity(mut self, entries: u64) -> Self {
        self.capacity = entries;
        self.weighted = false;
        self
    }

    /// The most that all entries may weigh together, by the [`weigher`](Self::weigher), instead of
    /// a [`max_capacity`](Self::max_capacity). An entry that weighs more than all is not kept.
    ///
    /// Without a weigher `build` says [`BuildError::NoWeigher`].
    pub fn max_weight(mut self, weight: u64) -> Self {
        self.capacity = weight;
        self.weighted = true;
        self
    }

    /// What an entry weighs, in the unit of [`max_weight`](Self::max_weight): bytes, say. Called
    /// once when an entry is stored, or more often, so it must be cheap and always say the same. None
    /// weighs less than 1.
    ///
    /// Defaults to 1 for each entry.
    pub fn weigher(mut self, weigher: impl Fn(&K, &V) -> u32 + Send + Sync + 'static) -> Self {
        self.weigher = Some(Arc::new(weigher));
        self
    }

    /// How long an entry is served, counted from when it was stored; see also
    /// [`jitter`](Self::jitter).
    ///
    /// With [`Duration::ZERO`] nothing is kept: callers who ask at the same time still share one
    /// load.
    ///
    /// Defaults to no limit: an entry stays until it is invalidated or evicted.
    pub fn time_to_live(mut self, ttl: Duration) -> Self {
        self.policy.time_to_live = Some(ttl);
        self
    }

    /// Shortens the time to live of each entry by a random part of up to this fraction, so that
    /// entries stored together are not loaded again together: with a time to live of 300 s and a
    /// jitter of 0.1 entries live for 270 s to 300 s. It never lengthens, so no entry is served
    /// beyond the time to live.
    ///
    /// Defaults to 0.0, none. From 0.0 up to, not including, 1.0; else `build` says
    /// [`BuildError::Jitter`].
    pub fn jitter(mut self, fraction: f64) -> Self {
        self.policy.jitter = fraction;
        self
    }

    /// How long an entry is served that nobody asks for: it goes when this has passed since it was
    /// last asked for, or stored.
    ///
    /// Defaults to no limit.
    pub fn time_to_idle(mut self, tti: Duration) -> Self {
        self.policy.time_to_idle = Some(tti);
        self
    }

    /// How long after its time to live an entry is still served, at once, while it is loaded again
    /// behind it (RFC 5861). An invalidated entry never is.
    ///
    /// Defaults to zero: who asks then waits for the load.
    pub fn stale_while_revalidate(mut self, time: Duration) -> Self {
        self.policy.stale_while_revalidate = time;
        self
    }

    /// How long after its time to live an entry is still served if the load fails (RFC 5861), or
    /// takes longer than the [`soft_timeout`](Self::soft_timeout). It is then served for
    /// [`retry_failed_after`](Self::retry_failed_after) without another try. An invalidated entry
    /// never is; an [expired](Cache::expire) one is.
    ///
    /// Defaults to zero: who asks then gets the error.
    pub fn stale_if_error(mut self, time: Duration) -> Self {
        self.policy.stale_if_error = time;
        self
    }

    /// How long a stale value is served without another try, after a load of it failed.
    ///
    /// Defaults to 1 s.
    pub fn retry_failed_after(mut self, time: Duration) -> Self {
        self.policy.retry_failed_after = time;
        self
    }

    /// When to load a value again before it expires, so that nobody waits for it.
    ///
    /// Defaults to [`RefreshAhead::Never`]. A beta that is no positive number, or a fraction that
    /// is none, is [`BuildError::RefreshAhead`].
    pub fn refresh_ahead(mut self, when: RefreshAhead) -> Self {
        self.policy.refresh_ahead = when;
        self
    }

    /// How long the failure of a load is remembered: whoever asks gets the same error, and no new
    /// load is started. Only where there is no stale value to serve.
    ///
    /// Defaults to zero: the next caller starts a new load.
    pub fn negative_ttl(mut self, ttl: Duration) -> Self {
        self.policy.negative_ttl = ttl;
        self
    }

    /// How long a caller waits for a load if there is a stale value that it can have instead
    /// ([`stale_if_error`](Self::stale_if_error)). The load goes on.
    ///
    /// Defaults to the [`hard_timeout`](Self::hard_timeout), and is never longer.
    pub fn soft_timeout(mut self, timeout: Duration) -> Self {
        self.soft_timeout = Some(timeout);
        self
    }

    /// How long a caller waits for a load at most; then it gets
    /// [`LoadError::TimedOut`](crate::LoadError::TimedOut). The load goes on, and its value is
    /// there for the next one.
    ///
    /// Defaults to no limit but the [`load_timeout`](Self::load_timeout).
    pub fn hard_timeout(mut self, timeout: Duration) -> Self {
        self.hard_timeout = Some(timeout);
        self
    }

    /// How long a loader may take; then it is dropped, and whoever waits for it gets
    /// [`LoadError::TimedOut`](crate::LoadError::TimedOut). So a loader that hangs does not hold
    /// its key, and its place among the [`max_concurrent_loads`](Self::max_concurrent_loads), for
    /// ever.
    ///
    /// Defaults to 60 s. With zero `build` says [`BuildError::NoTime`].
    pub fn load_timeout(mut self, timeout: Duration) -> Self {
        self.load_timeout = timeout;
        self
    }

    /// The most loads that run at the same time, over all keys; a call for many keys is one. A load
    /// that would be one too many waits for its turn, unless nobody waits for it any more; one behind
    /// a value that is still served is left to the next who asks. Hits are not concerned.
    ///
    /// A loader that asks the same cache for another key holds its own place meanwhile, so leave
    /// room for the nesting.
    ///
    /// Defaults to 1,024. With 0 `build` says [`BuildError::NoLoads`].
    pub fn max_concurrent_loads(mut self, loads: usize) -> Self {
        self.max_concurrent_loads = loads;
        self
    }

    /// The hit ratios, from 0.0 to 1.0, below which the cache traces a warning and an error, at
    /// most once a minute, about the last minute or longer if it had at least 1,000 requests.
    /// Customary are 0.8 and 0.7.
    ///
    /// Defaults to none. If they are no ratios, or the second is above the first, `build` says
    /// [`BuildError::HitRatio`].
    pub fn hit_ratio_thresholds(mut self, warn_below: f64, alert_below: f64) -> Self {
        self.hit_ratio = Some((warn_below, alert_below));
        self
    }

    #[cfg(test)]
    pub(crate) fn remote(
        mut self,
        remote: Arc<dyn Remote<K, V>>,
        untrusted_age: Option<Duration>,
    ) -> Self {
        self.remote = Some((remote, untrusted_age));
        self
    }

    /// Builds the cache. The metric handles are fetched here, so install the recorder before.
    ///
    /// With a bus it returns when it hears the other processes, or, where Redis does not answer, after
    /// the bus's heartbeat and timeout, and 5 s at most: what is loaded before is not kept.
    ///
    /// # Errors
    ///
    /// [`BuildError`] says which setting cannot be, or that no tokio runtime is running.
    ///
    /// # Cancel safety
    ///
    /// A dropped future has built nothing.
    pub async fn build(self) -> Result<Cache<K, V>, BuildError> {
        self.check()?;
        let runtime = Handle::try_current().map_err(|_| BuildError::NoRuntime)?;
        #[cfg(feature = "redis")]
        let opened = self.redis.open(&self.name);
        #[cfg(not(feature = "redis"))]
        let opened = None;
        let (remote, untrusted_age) = match self.remote.or(opened) {
            Some((remote, untrusted_age)) => (Some(remote), untrusted_age),
            None => (None, None),
        };
        let watch = (self.hit_ratio).map(|(warn, alert)| Watch::new(warn, alert));
        let meters = Arc::new(Meters::new(self.name, watch));
        let clock = Clock::start();
        let policy = self.policy;
        let setup = Setup {
            capacity: self.capacity,
            weigher: self.weigher,
            meters: Arc::clone(&meters),
        };
        let engine = Engines::new(self.engine, setup);
        let keeps = self.capacity > 0;
        let table = Arc::new(Table::new(
            engine,
            keeps,
            policy,
            clock,
            untrusted_age,
            Arc::clone(&meters),
        ));
        if let Some(remote) = &remote {
            let local = Arc::downgrade(&table);
            remote.listen(local);
        }
        let places = self.max_concurrent_loads.min(Semaphore::MAX_PERMITS);
        let env = Needs {
            meters,
            remote,
            places: Arc::new(Semaphore::new(places)),
            load_timeout: self.load_timeout,
            stop: CancellationToken::new(),
        };
        let inner = Inner {
            table,
            env: env.into(),
            soft_timeout: shorter(self.soft_timeout, self.hard_timeout),
            hard_timeout: self.hard_timeout,
            tasks: TaskTracker::new(),
            runtime,
        };
        if let Some(remote) = &inner.env.remote {
            remote.listening().await;
        }
        Ok(Cache {
            inner: Arc::new(inner),
        })
    }

    fn check(&self) -> Result<(), BuildError> {
        let jitter = self.policy.jitter;
        if !(0.0..1.0).contains(&jitter) {
            return Err(BuildError::Jitter { jitter });
        }
        let refused = match self.policy.refresh_ahead {
            RefreshAhead::Never => None,
            RefreshAhead::XFetch { beta } => (!(beta > 0.0 && beta.is_finite())).then_some(beta),
            RefreshAhead::Fraction(part) => (!(0.0..=1.0).contains(&part)).then_some(part),
        };
        if let Some(value) = refused {
            return Err(BuildError::RefreshAhead { value });
        }
        if let Some((warn_below, alert_below)) = self.hit_ratio {
            // In this order, so that what is no number is refused as well.
            let fit = 0.0 <= alert_below && alert_below <= warn_below && warn_below <= 1.0;
            if !fit {
                return Err(BuildError::HitRatio {
                    warn_below,
                    alert_below,
                });
            }
        }
        if self.load_timeout.is_zero() {
            let setting = "load_timeout";
            return Err(BuildError::NoTime { setting });
        }
        if self.max_concurrent_loads == 0 {
            return Err(BuildError::NoLoads);
        }
        if self.weighted && self.weigher.is_none() {
            return Err(BuildError::NoWeigher);
        }
        #[cfg(feature = "redis")]
        self.redis.check()?;
        Ok(())
    }
}

/// The shorter of two times that may have no end.
fn shorter(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    one.into_iter().chain(other).min()
}

impl<K, V> fmt::Debug for Builder<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("name", &self.name)
            .field("engine", &self.engine)
            .field("capacity", &self.capacity)
            .field("policy", &self.policy)
            .field("soft_timeout", &self.soft_timeout)
            .field("hard_timeout", &self.hard_timeout)
            .field("load_timeout", &self.load_timeout)
            .field("max_concurrent_loads", &self.max_concurrent_loads)
            .finish()
    }
}
