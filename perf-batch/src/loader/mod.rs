//! Loads by key without N+1 queries.

mod builder;
mod error;
mod run;
mod table;

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Semaphore;

pub use builder::LoaderBuilder;
pub use error::LoadError;

use builder::Config;
use run::Run;
use table::{Answer, Group, Table};

/// Loads values by key: many callers that ask one by one share one query.
///
/// ```
/// use perf_batch::Loader;
///
/// # #[derive(Debug, PartialEq)]
/// struct User { id: i64, name: String }
///
/// # #[derive(Clone)]
/// # struct Db;
/// # impl Db {
/// #     async fn users(&self, ids: Vec<i64>) -> Result<Vec<User>, std::io::Error> {
/// #         Ok(ids.into_iter().map(|id| User { id, name: format!("user {id}") }).collect())
/// #     }
/// # }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), perf_batch::LoadError> {
/// # let db = Db;
/// let users = Loader::builder(db, |db: Db, ids: Vec<i64>| async move { db.users(ids).await })
///     .key(|user: &User| user.id)
///     .build();
///
/// // One query for all three.
/// let (a, b, c) = tokio::join!(users.load(7), users.load(8), users.load(7));
/// assert_eq!(a?, c?);
/// assert_eq!(b?.map(|user| user.name.clone()), Some("user 8".to_owned()));
/// # Ok(())
/// # }
/// ```
///
/// # When a query is sent
///
/// A key that is neither kept nor on its way goes into the batch that is open, or opens one. The
/// batch is sent once all tasks that are ready have had three turns without bringing it a further
/// key, or 32 turns in all. So loads that are joined in one task are one query, and so are, on one
/// thread, the loads of all tasks that are ready or woken together. A lone load waits a few
/// microseconds. On a runtime of several threads only the turns of the thread that runs the batch
/// count, so tasks that are slow to come on other threads may need another query;
/// [`delay`](LoaderBuilder::delay) makes a batch wait for a time instead. It is sent without
/// waiting when it has
/// [`max_batch_size`](LoaderBuilder::max_batch_size) keys. Batches above
/// [`max_concurrent_batches`](LoaderBuilder::max_concurrent_batches) wait for their turn; the open
/// one takes further keys until then.
///
/// The query runs in a task of its own, on the runtime of the caller that opened the batch.
/// Callers do not depend on each other: one that goes away takes nothing from the others. A batch
/// that nobody waits for any more when its turn comes is not sent; one that was sent is finished
/// and kept. So the keys that wait are bounded by the callers who do.
///
/// # What is kept
///
/// What was loaded is kept, also that a key has no value, up to
/// [`max_kept`](LoaderBuilder::max_kept), and never expires: a loader is meant to serve one
/// request. A failure is not kept. A clone is another handle of the same loader, and cheap;
/// [`fresh`](Self::fresh) gives a loader that has kept nothing yet, for the next request.
///
/// `Hash`, `Eq`, `Clone` and the destructor of a `K` must not call the loader; they run under its
/// lock.
pub struct Loader<K, V> {
    inner: Arc<Inner<K, V>>,
}

struct Inner<K, V> {
    config: Arc<Config<K, V>>,
    table: Mutex<Table<K, V>>,
    /// One for each query that may run.
    permits: Semaphore,
}

impl<K, V> Inner<K, V> {
    fn table(&self) -> MutexGuard<'_, Table<K, V>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K, V> Loader<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    /// Starts to set up a loader that asks `query` for the values of some keys.
    ///
    /// `query` gets a clone of `db`, a pool say, and the keys: each once, in the order in which
    /// they were first asked for, at most [`max_batch_size`](LoaderBuilder::max_batch_size) of
    /// them and at least one. It returns all values of them in any order; the values of one key
    /// keep their order among themselves. A key without a value is no error.
    pub fn builder<D, Q, Fut, E>(db: D, query: Q) -> LoaderBuilder<K, V>
    where
        D: Clone + Send + Sync + 'static,
        Q: Fn(D, Vec<K>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Vec<V>, E>> + Send + 'static,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        LoaderBuilder::new(db, query)
    }

    fn new(config: Arc<Config<K, V>>) -> Self {
        let permits = config.max_concurrent_batches.min(Semaphore::MAX_PERMITS);
        let inner = Inner {
            table: Mutex::new(Table::new(config.max_kept)),
            permits: Semaphore::new(permits),
            config,
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// A loader with the same query and settings that has kept nothing yet.
    ///
    /// An application holds one loader and takes a fresh one for each request: what one request
    /// loaded is not served to the next, when it may have changed. It costs two allocations.
    #[must_use]
    pub fn fresh(&self) -> Self {
        Self::new(Arc::clone(&self.inner.config))
    }

    /// The value of `key`; `None` where it has none. Where it has several, the first in the order
    /// of the query.
    ///
    /// # Errors
    ///
    /// A [`LoadError`], the same for all callers of the query. The next load of the key tries
    /// anew.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops the waiting and takes nothing from other callers. If nobody else
    /// waits for the query, it is not sent; if it was sent already, its result is kept.
    pub async fn load(&self, key: K) -> Result<Option<Arc<V>>, LoadError> {
        let groups = self.groups(vec![key]).await?;
        Ok(groups.first().and_then(first))
    }

    /// The values of `keys`, in their order, one for each: `None` where a key has none, the same
    /// value again where it is there twice. Where a key has several values, the first in the
    /// order of the query.
    ///
    /// More keys than [`max_batch_size`](LoaderBuilder::max_batch_size) take several queries. No
    /// keys, no query.
    ///
    /// # Errors
    ///
    /// The [`LoadError`] of the first query that failed. What the others loaded is kept, and the
    /// next load of the missing keys tries anew.
    ///
    /// # Cancel safety
    ///
    /// As [`load`](Self::load). `keys` is read in the call, the rest happens when the future is
    /// polled.
    pub fn load_many<I>(
        &self,
        keys: I,
    ) -> impl Future<Output = Result<Vec<Option<Arc<V>>>, LoadError>> + Send
    where
        I: IntoIterator<Item = K>,
    {
        let keys = keys.into_iter().collect();
        async move {
            let groups = self.groups(keys).await?;
            Ok(groups.iter().map(first).collect())
        }
    }

    /// All values of each of `keys`, for one-to-many: a group for each key, in their order, empty
    /// where a key has none; within a group, the order of the query.
    ///
    /// It shares everything with [`load`](Self::load): a loader always keeps whole groups, so
    /// the query must not leave out values of a key.
    ///
    /// # Errors
    ///
    /// As [`load_many`](Self::load_many).
    ///
    /// # Cancel safety
    ///
    /// As [`load_many`](Self::load_many).
    pub fn load_groups<I>(
        &self,
        keys: I,
    ) -> impl Future<Output = Result<Vec<Vec<Arc<V>>>, LoadError>> + Send
    where
        I: IntoIterator<Item = K>,
    {
        let keys = keys.into_iter().collect();
        async move {
            let groups = self.groups(keys).await?;
            Ok(groups.iter().map(|group| group.to_vec()).collect())
        }
    }

    /// Forgets what is kept of `key`, after it was written say: a load that starts from now on
    /// asks a query that starts from now on. Who waits for a query that runs already gets what
    /// that finds, but it is not kept.
    pub fn clear(&self, key: &K) {
        let cleared = self.inner.table().clear(key);
        drop(cleared);
    }

    /// Keeps `value`, which its caller has anyway, as the one value of `key`, in place of what is
    /// kept of it. Where [`max_kept`](LoaderBuilder::max_kept) is reached, it is not kept.
    pub fn prime(&self, key: K, value: impl Into<Arc<V>>) {
        self.prime_all(key, Arc::new([value.into()]));
    }

    /// Keeps `values` as all values of `key`, none included, like [`prime`](Self::prime).
    pub fn prime_group<I>(&self, key: K, values: I)
    where
        I: IntoIterator,
        I::Item: Into<Arc<V>>,
    {
        self.prime_all(key, values.into_iter().map(Into::into).collect());
    }

    fn prime_all(&self, key: K, group: Group<V>) {
        let not_kept = self.inner.table().prime(key, group);
        drop(not_kept);
    }

    /// The group of each key. No future of a caller holds more than its place to wait.
    async fn groups(&self, keys: Vec<K>) -> Result<Vec<Group<V>>, LoadError> {
        let mut waits = BTreeMap::new();
        let mut opened = Vec::new();
        let mut groups = Vec::with_capacity(keys.len());
        {
            let mut table = self.inner.table();
            for key in &keys {
                groups.push(
                    match table.ask(key, self.inner.config.max_batch_size, &mut opened) {
                        Answer::Kept(group) => Ok(group),
                        Answer::Coming(batch) => {
                            // Under the lock, so that no batch is given up that somebody joins.
                            let wait = || batch.outcome.subscribe();
                            waits.entry(batch.id).or_insert_with(wait);
                            Err(batch.id)
                        }
                    },
                );
            }
        }
        for batch in opened {
            Run::start(&self.inner, batch);
        }
        let mut loaded = BTreeMap::new();
        for (id, mut wait) in waits {
            let outcome = match wait.wait_for(Option::is_some).await {
                Ok(outcome) => (*outcome).clone(),
                Err(_) => None,
            };
            loaded.insert(id, outcome.unwrap_or(Err(LoadError::Closed))?);
        }
        let groups = groups.into_iter().zip(&keys).map(|(group, key)| {
            group.unwrap_or_else(|id| {
                let group = loaded.get(&id).and_then(|groups| groups.get(key));
                group.cloned().unwrap_or_default()
            })
        });
        Ok(groups.collect())
    }
}

fn first<V>(group: &Group<V>) -> Option<Arc<V>> {
    group.first().cloned()
}

impl<K, V> Clone for Loader<K, V> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<K: Hash + Eq + Clone, V> fmt::Debug for Loader<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept = self.inner.table().kept();
        f.debug_struct("Loader")
            .field("name", &self.inner.config.name)
            .field("kept", &kept)
            .finish_non_exhaustive()
    }
}
