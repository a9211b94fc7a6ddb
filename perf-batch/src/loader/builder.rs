use std::any::type_name;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::hash::Hash;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::Loader;

type BoxError = Box<dyn Error + Send + Sync>;
type Values<V> = Pin<Box<dyn Future<Output = Result<Vec<V>, BoxError>> + Send>>;
type Query<K, V> = Box<dyn Fn(Vec<K>) -> Values<V> + Send + Sync>;

/// What a loader and all its [fresh](Loader::fresh) ones have in common.
pub(super) struct Config<K, V> {
    pub(super) name: Arc<str>,
    pub(super) query: Query<K, V>,
    pub(super) key: Box<dyn Fn(&V) -> K + Send + Sync>,
    pub(super) max_batch_size: usize,
    pub(super) max_concurrent_batches: usize,
    pub(super) max_kept: usize,
    pub(super) delay: Duration,
}

/// Sets up a [`Loader`]; made by [`Loader::builder`].
///
/// `F` is the function that tells the key of a value; `()` as long as [`key`](Self::key) is to
/// come.
#[must_use = "a builder does nothing until it is built"]
pub struct LoaderBuilder<K, V, F = ()> {
    query: Query<K, V>,
    key: F,
    name: Option<Arc<str>>,
    max_batch_size: usize,
    max_concurrent_batches: usize,
    max_kept: usize,
    delay: Duration,
}

impl<K, V> LoaderBuilder<K, V> {
    pub(super) fn new<D, Q, Fut, E>(db: D, query: Q) -> Self
    where
        D: Clone + Send + Sync + 'static,
        Q: Fn(D, Vec<K>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Vec<V>, E>> + Send + 'static,
        E: Into<BoxError>,
    {
        let query = move |keys| -> Values<V> {
            let values = query(db.clone(), keys);
            Box::pin(async move { values.await.map_err(Into::into) })
        };
        Self {
            query: Box::new(query),
            key: (),
            name: None,
            max_batch_size: 1_000,
            max_concurrent_batches: 4,
            max_kept: 10_000,
            delay: Duration::ZERO,
        }
    }
}

impl<K, V, F> LoaderBuilder<K, V, F> {
    /// Tells the key under which a value was asked for. Required.
    ///
    /// It must give the very key of the question (by `Eq`): where the database compares in
    /// another way, say without case, ask for keys in one spelling and give the same here. A
    /// value with a key that was not asked for is dropped.
    pub fn key<G>(self, key: G) -> LoaderBuilder<K, V, G>
    where
        G: Fn(&V) -> K + Send + Sync + 'static,
    {
        LoaderBuilder {
            query: self.query,
            key,
            name: self.name,
            max_batch_size: self.max_batch_size,
            max_concurrent_batches: self.max_concurrent_batches,
            max_kept: self.max_kept,
            delay: self.delay,
        }
    }

    /// Tells loaders apart in traces. Defaults to the name of the value's type.
    pub fn name(mut self, name: &str) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The most keys that one query is asked for; the keys beyond go to further queries.
    ///
    /// Defaults to 1,000: well below the number of values that a statement may bind (65,535 on
    /// Postgres, 32,766 on SQLite, 65,535 on MySQL), and enough that a query's own cost no longer
    /// counts beside that of its rows. 0 counts as 1.
    pub fn max_batch_size(mut self, keys: usize) -> Self {
        self.max_batch_size = keys.max(1);
        self
    }

    /// The most queries of this loader that run at the same time; batches beyond wait for their
    /// turn, and the one that is not full yet takes further keys meanwhile. Each
    /// [fresh](Loader::fresh) loader counts for itself.
    ///
    /// Defaults to 4, so that one large `load_many` does not take every connection of a small
    /// pool. 0 counts as 1. A query that loads from its own loader holds its own place meanwhile.
    pub fn max_concurrent_batches(mut self, batches: usize) -> Self {
        self.max_concurrent_batches = batches.max(1);
        self
    }

    /// The most values to keep; a key that is known to have none counts as one value. When they
    /// are that many, what is loaded beyond is answered but not kept, so it is queried again when
    /// it is asked for again. Nothing is evicted.
    ///
    /// With 0 nothing is kept: callers who ask at the same time still share one query.
    ///
    /// Defaults to 10,000.
    pub fn max_kept(mut self, values: usize) -> Self {
        self.max_kept = values;
        self
    }

    /// How long a batch waits for further keys, unless it is full before. It needs the timer of
    /// the tokio runtime, and is the latency of a lone load.
    ///
    /// Defaults to zero: a batch goes once the tasks that are ready have had their turns and brought
    /// no further key, see [`Loader`].
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Builds the loader.
    #[must_use]
    pub fn build(self) -> Loader<K, V>
    where
        F: Fn(&V) -> K + Send + Sync + 'static,
        K: Hash + Eq + Clone + Send + Sync + 'static,
        V: Send + Sync + 'static,
    {
        Loader::new(Arc::new(Config {
            name: self.name.unwrap_or_else(|| type_name::<V>().into()),
            query: self.query,
            key: Box::new(self.key),
            max_batch_size: self.max_batch_size,
            max_concurrent_batches: self.max_concurrent_batches,
            max_kept: self.max_kept,
            delay: self.delay,
        }))
    }
}

impl<K, V, F> fmt::Debug for LoaderBuilder<K, V, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoaderBuilder")
            .field("name", &self.name)
            .field("max_batch_size", &self.max_batch_size)
            .field("max_concurrent_batches", &self.max_concurrent_batches)
            .field("max_kept", &self.max_kept)
            .field("delay", &self.delay)
            .finish_non_exhaustive()
    }
}
