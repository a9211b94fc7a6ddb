use std::fmt;
use std::hash::Hash;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use crate::cache::Cache;
use crate::error::BuildError;
use crate::meters::Meters;
use crate::store::{Lifetime, Store};
use crate::table::Table;

/// Sets up a [`Cache`]; made by [`Cache::builder`].
#[must_use = "a builder does nothing until it is built"]
pub struct Builder<K, V> {
    name: Arc<str>,
    max_capacity: u64,
    time_to_live: Option<Duration>,
    jitter: f64,
    max_concurrent_loads: usize,
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
            max_capacity: 10_000,
            time_to_live: None,
            jitter: 0.0,
            max_concurrent_loads: 1_024,
            of: PhantomData,
        }
    }

    /// The most entries to keep. When there are more, those go that are used least often and
    /// longest ago (TinyLFU); a new entry that is used less than all others may be the one. For
    /// a moment, while evictions are outstanding, there may be a few hundred more.
    ///
    /// With 0 nothing is kept: callers who ask at the same time still share one load.
    ///
    /// Defaults to 10,000 entries.
    pub fn max_capacity(mut self, entries: u64) -> Self {
        self.max_capacity = entries;
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
        self.time_to_live = Some(ttl);
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
        self.jitter = fraction;
        self
    }

    /// The most loads that run at the same time, over all keys. A caller whose key needs one
    /// more waits for its turn; one whose key is being loaded joins that load, and hits are not
    /// concerned.
    ///
    /// A loader that asks the same cache for another key holds its own place meanwhile, so leave
    /// room for the nesting.
    ///
    /// Defaults to 1,024. With 0 `build` says [`BuildError::NoLoads`].
    pub fn max_concurrent_loads(mut self, loads: usize) -> Self {
        self.max_concurrent_loads = loads;
        self
    }

    /// Builds the cache. The metric handles are fetched here, so install the recorder before.
    ///
    /// # Errors
    ///
    /// [`BuildError`] says which setting cannot be, or that no tokio runtime is running.
    ///
    /// # Cancel safety
    ///
    /// A dropped future has built nothing.
    pub async fn build(self) -> Result<Cache<K, V>, BuildError> {
        if !(0.0..1.0).contains(&self.jitter) {
            let jitter = self.jitter;
            return Err(BuildError::Jitter { jitter });
        }
        if self.max_concurrent_loads == 0 {
            return Err(BuildError::NoLoads);
        }
        let runtime = Handle::try_current().map_err(|_| BuildError::NoRuntime)?;
        let meters = Arc::new(Meters::new(self.name));
        let lifetime = Lifetime {
            ttl: self.time_to_live,
            jitter: self.jitter,
        };
        let store = Store::new(self.max_capacity, lifetime, Arc::clone(&meters));
        let table = Table::new(store);
        Ok(Cache::new(
            table,
            meters,
            runtime,
            self.max_concurrent_loads,
        ))
    }
}

impl<K, V> fmt::Debug for Builder<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("name", &self.name)
            .field("max_capacity", &self.max_capacity)
            .field("time_to_live", &self.time_to_live)
            .field("jitter", &self.jitter)
            .field("max_concurrent_loads", &self.max_concurrent_loads)
            .finish()
    }
}
