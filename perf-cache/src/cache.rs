use std::error::Error;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::builder::Builder;
use crate::error::LoadError;
use crate::load::Load;
use crate::meters::Meters;
use crate::stats::Stats;
use crate::table::{Entered, Table};

/// A cache of `V` by `K` that loads what it misses, each key once, and is never stale after an
/// invalidation.
///
/// A clone is another handle of the same cache, and cheap. Values are kept as they are, behind an
/// [`Arc`]: a hit decodes nothing and copies nothing.
///
/// The cache owns the tasks of its loads. They end with [`shutdown`](Self::shutdown), or when the
/// last handle is dropped.
///
/// `Hash`, `Eq`, `Clone` and the destructor of a `K` must not call a cache; they run under its
/// locks. The destructor of a `V` may: the cache lets go of a value when it holds no lock. If it
/// panics then, the panic hook reports it, and whoever was using the cache is not disturbed.
pub struct Cache<K, V> {
    inner: Arc<Inner<K, V>>,
}

struct Inner<K, V> {
    table: Arc<Table<K, V>>,
    meters: Arc<Meters>,
    /// A place for each load that may run.
    places: Arc<Semaphore>,
    tasks: TaskTracker,
    stop: CancellationToken,
    /// Where the loads of callers outside a runtime run.
    runtime: Handle,
}

impl<K, V> Drop for Inner<K, V> {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl<K, V> Cache<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    /// Starts to set up a cache. The name tells caches apart in metrics, where it is the label
    /// `cache`, and in traces.
    pub fn builder(name: impl Into<String>) -> Builder<K, V> {
        Builder::new(name.into().into())
    }

    pub(crate) fn new(
        table: Table<K, V>,
        meters: Arc<Meters>,
        runtime: Handle,
        max_concurrent_loads: usize,
    ) -> Self {
        let places = max_concurrent_loads.min(Semaphore::MAX_PERMITS);
        let inner = Inner {
            table: Arc::new(table),
            meters,
            places: Arc::new(Semaphore::new(places)),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            runtime,
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// The value of `key`: from memory, else by `loader`, whose value is then kept.
    ///
    /// However many callers ask for a missing key, it is loaded once: one of them starts the
    /// load, the others wait for the same load, and all get the same value or error. The load
    /// runs in a task of its own, on the runtime of the caller that started it, so it goes on
    /// when that caller, or all of them, stop waiting. Only the one `loader` that starts the load
    /// is called. It may ask the cache for other keys (see
    /// [`max_concurrent_loads`](Builder::max_concurrent_loads)), but not for its own: it would wait
    /// for itself.
    ///
    /// If the key is [invalidated](Self::invalidate) or [inserted](Self::insert) while it is
    /// loaded, those who already wait get the loaded value, but it is not kept, and whoever asks
    /// from then on does not get it.
    ///
    /// # Errors
    ///
    /// An error is not kept: the next caller starts a new load.
    ///
    /// - [`LoadError::Failed`]: the loader said so; `source()` and
    ///   [`downcast_ref`](LoadError::downcast_ref) give its error.
    /// - [`LoadError::Panicked`]: the loader panicked.
    /// - [`LoadError::Closed`]: the cache is shut down, or the runtime of the load.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops the waiting, not the load, whose value is kept for the next
    /// caller. A caller that was waiting for its turn under
    /// [`max_concurrent_loads`](Builder::max_concurrent_loads) has started nothing.
    pub async fn get_or_load<F, Fut, E>(&self, key: &K, loader: F) -> Result<Arc<V>, LoadError>
    where
        F: FnOnce(K) -> Fut + Send + 'static,
        Fut: Future<Output = Result<V, E>> + Send + 'static,
        E: Into<Box<dyn Error + Send + Sync>> + 'static,
    {
        if let Some(value) = self.inner.table.get(key) {
            self.inner.meters.hit();
            return Ok(value);
        }
        self.inner.meters.miss();
        // Boxed: a hit, which needs none of it, then moves a small future.
        let outcome = Box::pin(self.load(key, loader)).await;
        self.inner.meters.answered(outcome.is_ok());
        outcome
    }

    async fn load<F, Fut, E>(&self, key: &K, loader: F) -> Result<Arc<V>, LoadError>
    where
        F: FnOnce(K) -> Fut + Send + 'static,
        Fut: Future<Output = Result<V, E>> + Send + 'static,
        E: Into<Box<dyn Error + Send + Sync>> + 'static,
    {
        let inner = &*self.inner;
        let mut place = None;
        loop {
            let take_place = || {
                place
                    .take()
                    .or_else(|| Arc::clone(&inner.places).try_acquire_owned().ok())
            };
            match inner.table.enter(key, take_place) {
                Entered::Found(value) => return Ok(value),
                Entered::Joined(waiter) => {
                    // Only a load holds a place, not those who wait for it.
                    drop(place);
                    return waiter.outcome().await;
                }
                Entered::Leads(ticket, waiter, place) => {
                    let load = Load::new(ticket, &inner.table, &inner.meters, place);
                    let task = load.run(loader, inner.stop.clone()).in_current_span();
                    let runtime = Handle::try_current();
                    let runtime = runtime.as_ref().unwrap_or(&inner.runtime);
                    inner.tasks.spawn_on(task, runtime);
                    return waiter.outcome().await;
                }
                // The key may be there, or on its way, by the time there is a place; so look
                // again, with the place in hand.
                Entered::NoPermit => match Arc::clone(&inner.places).acquire_owned().await {
                    Ok(free) => place = Some(free),
                    Err(_closed) => return Err(LoadError::Closed),
                },
            }
        }
    }

    /// The value of `key` if it is in memory.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    pub async fn get(&self, key: &K) -> Option<Arc<V>> {
        let value = self.inner.table.get(key);
        match value {
            Some(_) => self.inner.meters.hit(),
            None => self.inner.meters.miss(),
        }
        value
    }

    /// Stores `value`, in place of what is there. A load of `key` that is in flight will not
    /// overwrite it.
    ///
    /// # Cancel safety
    ///
    /// The value is stored once the future has been polled; before that, dropping it does
    /// nothing.
    pub async fn insert(&self, key: K, value: V) {
        self.inner.table.insert(key, Arc::new(value));
    }

    /// Removes `key`. Whoever asks after this has returned never gets a value whose load began
    /// before: the entry is gone, and a load in flight serves only those who already wait for it.
    ///
    /// Write to the database first, then invalidate.
    ///
    /// # Cancel safety
    ///
    /// The key is invalidated once the future has been polled; before that, dropping it does
    /// nothing.
    pub async fn invalidate(&self, key: &K) {
        self.inner.table.invalidate(key);
        self.inner.meters.invalidated();
    }

    /// Removes every key, with the promise of [`invalidate`](Self::invalidate) for each of them.
    /// Its cost does not grow with the number of entries; their memory is reclaimed as the cache
    /// is used.
    ///
    /// # Cancel safety
    ///
    /// The keys are invalidated once the future has been polled; before that, dropping it does
    /// nothing.
    pub async fn invalidate_all(&self) {
        self.inner.table.invalidate_all();
        self.inner.meters.invalidated();
    }

    /// What the cache has done and what it holds. Finishes outstanding evictions first, so this
    /// is for reports, not for every request.
    pub fn stats(&self) -> Stats {
        self.inner.table.settle();
        self.inner.meters.stats()
    }

    /// Ends the loads in flight and starts no more; returns when their tasks have ended, which a
    /// loader that blocks its thread delays. Whoever waits for one gets [`LoadError::Closed`], as
    /// does whoever needs a load from now on. What is in memory is still served. May be called
    /// more than once.
    ///
    /// # Cancel safety
    ///
    /// Once polled the cache is shut down; a dropped future only stops the waiting for the tasks.
    pub async fn shutdown(&self) {
        self.inner.places.close();
        self.inner.stop.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }
}

impl<K, V> Clone for Cache<K, V> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<K, V> fmt::Debug for Cache<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("name", &self.inner.meters.cache())
            .finish_non_exhaustive()
    }
}
