//! Asking for one key.

use std::error::Error;
use std::future::Future;
use std::hash::Hash;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use crate::cache::{Cache, Inner};
use crate::error::LoadError;
use crate::flight::Outcome;
use crate::load::{Cause, Loader, load, look, shared};
use crate::policy::State;
use crate::table::Asked;
use crate::value::{LoadContext, Value};

impl<K, V> Cache<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    /// The value of `key`: from memory, else from the shared tier, else by `loader`, whose value is
    /// then kept in both.
    ///
    /// However many callers ask for a missing key, it is loaded once: one of them starts the
    /// load, the others wait for the same load, and all get the same value or error. The load
    /// runs in a task of its own, on the runtime of the caller that started it, so it goes on
    /// when that caller, or all of them, stop waiting. Only the one `loader` that starts the load
    /// is called. It may ask the cache for other keys (see
    /// [`max_concurrent_loads`](crate::Builder::max_concurrent_loads)), but not for its own: it would
    /// wait for itself.
    ///
    /// A value that is about to expire, or has and may still be served, is returned at once, and
    /// loaded again behind it: see [`refresh_ahead`](crate::Builder::refresh_ahead) and
    /// [`stale_while_revalidate`](crate::Builder::stale_while_revalidate). One that is kept for
    /// failing loaders is returned if the load fails, or takes longer than the
    /// [`soft_timeout`](crate::Builder::soft_timeout).
    ///
    /// If the key is [invalidated](Self::invalidate) or [inserted](Self::insert) while it is
    /// loaded, those who already wait get the loaded value, but it is not kept, and whoever asks
    /// from then on does not get it.
    ///
    /// # Errors
    ///
    /// An error is not kept, unless [`negative_ttl`](crate::Builder::negative_ttl) says so: the next
    /// caller starts a new load.
    ///
    /// - [`LoadError::Failed`]: the loader said so; `source()` and
    ///   [`downcast_ref`](LoadError::downcast_ref) give its error.
    /// - [`LoadError::Panicked`]: the loader panicked.
    /// - [`LoadError::TimedOut`]: the load takes too long.
    /// - [`LoadError::Closed`]: the cache is shut down, or the runtime of the load.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops the waiting, not the load, whose value is kept for the next
    /// caller. A load that still waits for its turn under
    /// [`max_concurrent_loads`](crate::Builder::max_concurrent_loads) when nobody waits for it any
    /// more is not started.
    pub async fn get_or_load<F, Fut, E>(&self, key: &K, loader: F) -> Result<Arc<V>, LoadError>
    where
        F: FnOnce(K) -> Fut + Send + 'static,
        Fut: Future<Output = Result<V, E>> + Send + 'static,
        E: Into<Box<dyn Error + Send + Sync>> + 'static,
    {
        match self.inner.table.get(key) {
            State::Fresh(value) => {
                self.inner.env.meters.hit();
                Ok(value)
            }
            // Boxed: a hit, which needs none of it, then moves a small future.
            state => {
                let loader: Loader<K, V> = Box::new(move |key, _| {
                    let load = loader(key);
                    Box::pin(async move { shared(load.await).map(Value::new) })
                });
                Box::pin(self.inner.go_on(key, state, loader)).await
            }
        }
    }

    /// As [`get_or_load`](Self::get_or_load), with a loader that knows the value that it is to
    /// replace, and can say more of the new one: its own time to live, tags, an entity tag.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # #[derive(Clone)] struct Db; struct User { org: u64 }
    /// # impl Db { async fn user(&self, _: u64) -> Result<User, std::io::Error> { Ok(User { org: 7 }) } }
    /// # async fn example(users: perf_cache::Cache<u64, User>, db: Db) -> Result<(), perf_cache::LoadError> {
    /// let user = users.get_or_load_with(&42, move |id, cx| async move {
    ///     let user = db.user(id).await?;
    ///     let org = format!("org:{}", user.org);
    ///     Ok::<_, std::io::Error>(cx.value(user).ttl(Duration::from_secs(60)).tag(org))
    /// }).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`get_or_load`](Self::get_or_load).
    ///
    /// # Cancel safety
    ///
    /// As [`get_or_load`](Self::get_or_load).
    pub async fn get_or_load_with<F, Fut, E>(&self, key: &K, loader: F) -> Result<Arc<V>, LoadError>
    where
        F: FnOnce(K, LoadContext<V>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<Value<V>, E>> + Send + 'static,
        E: Into<Box<dyn Error + Send + Sync>> + 'static,
    {
        match self.inner.table.get(key) {
            State::Fresh(value) => {
                self.inner.env.meters.hit();
                Ok(value)
            }
            state => {
                let loader: Loader<K, V> = Box::new(move |key, context| {
                    let load = loader(key, context);
                    Box::pin(async move { shared(load.await) })
                });
                Box::pin(self.inner.go_on(key, state, loader)).await
            }
        }
    }

    /// The value of `key` if it is in memory or in the shared tier. A value that may be served
    /// stale is; nothing is loaded.
    ///
    /// With a shared tier, a load of the key that is in flight is waited for, no longer than for the
    /// [`hard_timeout`](crate::Builder::hard_timeout).
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    pub async fn get(&self, key: &K) -> Option<Arc<V>> {
        match self.inner.table.get(key) {
            State::Fresh(value) => {
                self.inner.env.meters.hit();
                Some(value)
            }
            state => Box::pin(self.inner.look(key, state)).await,
        }
    }
}

impl<K, V> Inner<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    /// What is not simply fresh.
    async fn go_on(
        &self,
        key: &K,
        state: State<V>,
        loader: Loader<K, V>,
    ) -> Result<Arc<V>, LoadError> {
        let meters = &self.env.meters;
        let fallback = match state {
            State::Fresh(value) => return Ok(value),
            State::Refresh { value, stale } => {
                self.refresh(key, loader);
                if stale {
                    meters.stale();
                } else {
                    meters.hit();
                }
                return Ok(value);
            }
            State::Retained(value) => {
                meters.stale();
                return Ok(value);
            }
            State::Failed(error) => {
                meters.hit();
                return Err(error);
            }
            State::Fallback(value) => Some(value),
            State::Useless => None,
        };
        meters.miss(|| self.table.now());
        let outcome = self.wait_or_load(key, loader, fallback.is_some()).await;
        meters.answered(outcome.is_ok());
        match (outcome, fallback) {
            (
                Err(LoadError::Failed(_) | LoadError::Panicked(_) | LoadError::TimedOut { .. }),
                Some(value),
            ) => {
                meters.stale();
                Ok(value)
            }
            (outcome, _) => outcome,
        }
    }

    /// Loads a key again whose value is still served, if nobody does and there is a place.
    fn refresh(&self, key: &K, loader: Loader<K, V>) {
        let Ok(place) = Arc::clone(&self.env.places).try_acquire_owned() else {
            return;
        };
        if let Some((ticket, flight)) = self.table.ask_behind(key) {
            let landing = self.landing(ticket, flight);
            load(key, landing, Cause::Behind(place), loader, self.tasks());
        }
    }

    async fn wait_or_load(
        &self,
        key: &K,
        loader: Loader<K, V>,
        has_fallback: bool,
    ) -> Result<Arc<V>, LoadError> {
        if self.is_closed() {
            return Err(LoadError::Closed);
        }
        let limit = match has_fallback {
            true => self.soft_timeout,
            false => self.hard_timeout,
        };
        within(limit, pin!(self.wait_or_load_for_ever(key, loader))).await
    }

    async fn wait_or_load_for_ever(
        &self,
        key: &K,
        loader: Loader<K, V>,
    ) -> Result<Arc<V>, LoadError> {
        let mut loader = Some(loader);
        let asked = self.table.versions().now();
        loop {
            // The waiter alone is kept while it waits, so that the future is small.
            let (mut waiter, joined) = match self.table.ask(key) {
                Asked::Found(found) => return found,
                Asked::Joined(waiter, stamp) => (waiter, Some(stamp)),
                Asked::Leads(ticket, flight, waiter) => {
                    let landing = self.landing(ticket, flight);
                    let Some(loader) = loader.take() else {
                        return Err(LoadError::Closed);
                    };
                    load(key, landing, Cause::Missing, loader, self.tasks());
                    (waiter, None)
                }
            };
            match (waiter.outcome().await, joined) {
                (Outcome::Loaded(value, _), None) => return Ok(value),
                // One that began after we asked is as good as our own. Of an older one a tag
                // may have been invalidated before we asked.
                (Outcome::Loaded(value, tags), Some(stamp))
                    if stamp >= asked || self.table.are_current(stamp, &tags) =>
                {
                    return Ok(value);
                }
                (Outcome::Failed(error), _) => return Err(error),
                // A lookup that found nothing; a load brings a value or an error.
                (Outcome::Absent, None) => return Err(LoadError::Closed),
                (Outcome::Loaded(..) | Outcome::Absent, Some(_)) => (),
            }
        }
    }

    async fn look(&self, key: &K, state: State<V>) -> Option<Arc<V>> {
        let meters = &self.env.meters;
        match state {
            State::Fresh(value)
            | State::Refresh {
                value,
                stale: false,
            } => {
                meters.hit();
                return Some(value);
            }
            State::Refresh { value, .. } | State::Retained(value) => {
                meters.stale();
                return Some(value);
            }
            State::Failed(_) => {
                meters.hit();
                return None;
            }
            State::Fallback(_) | State::Useless => meters.miss(|| self.table.now()),
        }
        if self.env.remote.is_none() || self.is_closed() {
            return None;
        }
        let looking = async { self.look_further(key).await.ok_or(LoadError::Closed) };
        within(self.hard_timeout, pin!(looking)).await.ok()
    }

    async fn look_further(&self, key: &K) -> Option<Arc<V>> {
        let asked = self.table.versions().now();
        let (mut waiter, joined) = match self.table.ask(key) {
            Asked::Found(found) => return found.ok(),
            Asked::Joined(waiter, stamp) => (waiter, Some(stamp)),
            Asked::Leads(ticket, flight, waiter) => {
                let landing = self.landing(ticket, flight);
                look(key, landing, self.tasks());
                (waiter, None)
            }
        };
        match waiter.outcome().await {
            Outcome::Loaded(value, tags) => {
                let current = |stamp| stamp >= asked || self.table.are_current(stamp, &tags);
                joined.is_none_or(current).then_some(value)
            }
            Outcome::Failed(_) | Outcome::Absent => None,
        }
    }
}

/// Stops waiting after a while. Pinned by the caller: else there would be room for it several times over.
async fn within<T>(
    limit: Option<Duration>,
    waiting: Pin<&mut impl Future<Output = Result<T, LoadError>>>,
) -> Result<T, LoadError> {
    let Some(after) = limit else {
        return waiting.await;
    };
    match tokio::time::timeout(after, waiting).await {
        Ok(outcome) => outcome,
        Err(_) => Err(LoadError::TimedOut { after }),
    }
}
