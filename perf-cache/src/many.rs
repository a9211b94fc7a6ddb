//! Asking for many keys at once.

use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;

use tokio::time::Instant;

use crate::bulk::load_many;
use crate::cache::{Cache, Inner};
use crate::clock::later;
use crate::core::versions::Stamp;
use crate::error::LoadError;
use crate::flight::{Outcome, Waiter};
use crate::load::{BulkLoader, Cause, shared};
use crate::policy::State;
use crate::table::Asked;
use crate::value::Value;

/// Keys that `warm` loads by one call.
const WARMED_AT_ONCE: usize = 1_000;

impl<K, V> Cache<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    /// The values of many keys: from memory, else from the shared tier in one round trip, else by
    /// one call of `loader` with exactly those that are missing. A key that the loader brings
    /// nothing of is not in the result, and asked for again the next time.
    ///
    /// Loads are shared with other callers as in [`get_or_load`](Self::get_or_load): a key that is
    /// being loaded is waited for and not loaded twice, and callers of single keys wait for this
    /// load. Values that are about to expire, or may be served stale, are loaded again behind the
    /// caller's back, by a call of their own; that is what the loader is cloned for, and for the
    /// rare case that a value which another caller was loading is invalidated meanwhile.
    ///
    /// ```
    /// # #[derive(Clone)] struct Db; struct User;
    /// # impl Db { async fn users(&self, ids: Vec<u64>) -> Result<Vec<(u64, User)>, std::io::Error> { Ok(vec![]) } }
    /// # async fn example(users: perf_cache::Cache<u64, User>, db: Db) -> Result<(), perf_cache::LoadError> {
    /// let found = users.get_many(&[1, 2, 3], move |missing| async move { db.users(missing).await }).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`get_or_load`](Self::get_or_load), if there is a key that has neither a value nor a stale
    /// one to fall back on. What was loaded is kept.
    ///
    /// # Cancel safety
    ///
    /// As [`get_or_load`](Self::get_or_load).
    pub async fn get_many<F, Fut, M, W, E>(
        &self,
        keys: &[K],
        loader: F,
    ) -> Result<HashMap<K, Arc<V>>, LoadError>
    where
        F: FnOnce(Vec<K>) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = Result<M, E>> + Send + 'static,
        M: IntoIterator<Item = (K, W)>,
        W: Into<Value<V>>,
        E: Into<Box<dyn Error + Send + Sync>> + 'static,
    {
        let mut asking = Asking::new(keys.len());
        for key in keys {
            if !asking.is_known(key) {
                self.inner.note(key, &mut asking)?;
            }
        }
        if !asking.behind.is_empty() {
            let behind = std::mem::take(&mut asking.behind);
            self.inner.refresh_many(&behind, boxed(loader.clone()));
        }
        while !asking.missing.is_empty() {
            let load = || boxed(loader.clone());
            Box::pin(self.inner.ask_many(&mut asking, load)).await?;
        }
        Ok(asking.found)
    }

    /// Loads those of the keys that are neither in memory nor in the shared tier, 1,000 at a time,
    /// so that the first requests find them. Says how many of the keys are there now.
    ///
    /// # Errors
    ///
    /// The first that a load ends in; what was loaded before is kept, and the keys after it are not
    /// tried.
    ///
    /// # Cancel safety
    ///
    /// What is being loaded when the future is dropped will be kept; what comes after it is not
    /// loaded.
    pub async fn warm<F, Fut, M, W, E>(
        &self,
        keys: impl IntoIterator<Item = K>,
        loader: F,
    ) -> Result<usize, LoadError>
    where
        F: FnOnce(Vec<K>) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = Result<M, E>> + Send + 'static,
        M: IntoIterator<Item = (K, W)>,
        W: Into<Value<V>>,
        E: Into<Box<dyn Error + Send + Sync>> + 'static,
    {
        let mut keys = keys.into_iter();
        let mut there = 0;
        loop {
            let chunk: Vec<K> = keys.by_ref().take(WARMED_AT_ONCE).collect();
            if chunk.is_empty() {
                return Ok(there);
            }
            there += self.get_many(&chunk, loader.clone()).await?.len();
        }
    }
}

fn boxed<K, V, F, Fut, M, W, E>(loader: F) -> BulkLoader<K, V>
where
    F: FnOnce(Vec<K>) -> Fut + Send + 'static,
    Fut: Future<Output = Result<M, E>> + Send + 'static,
    M: IntoIterator<Item = (K, W)>,
    W: Into<Value<V>>,
    E: Into<Box<dyn Error + Send + Sync>> + 'static,
    K: Send + 'static,
    V: Send + Sync + 'static,
{
    Box::new(move |keys| {
        let load = loader(keys);
        Box::pin(async move {
            let loaded = shared(load.await)?;
            Ok(loaded.into_iter().map(|(k, v)| (k, v.into())).collect())
        })
    })
}

/// What is known and to be known of many keys.
struct Asking<K, V> {
    found: HashMap<K, Arc<V>>,
    /// To be loaded or waited for.
    missing: Vec<K>,
    seen: HashSet<K>,
    fallbacks: HashMap<K, Arc<V>>,
    /// Found, and to be loaded again.
    behind: Vec<K>,
    since: Instant,
}

impl<K: Hash + Eq, V> Asking<K, V> {
    fn new(keys: usize) -> Self {
        Self {
            found: HashMap::with_capacity(keys),
            missing: Vec::new(),
            seen: HashSet::new(),
            fallbacks: HashMap::new(),
            behind: Vec::new(),
            since: Instant::now(),
        }
    }

    fn is_known(&self, key: &K) -> bool {
        self.found.contains_key(key) || self.seen.contains(key)
    }
}

impl<K, V> Inner<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    /// Notes what memory has of a key.
    fn note(&self, key: &K, asking: &mut Asking<K, V>) -> Result<(), LoadError> {
        let meters = &self.env.meters;
        match self.table.get(key) {
            State::Fresh(value) => {
                meters.hit();
                asking.found.insert(key.clone(), value);
                return Ok(());
            }
            State::Refresh { value, stale } => {
                if stale {
                    meters.stale();
                } else {
                    meters.hit();
                }
                asking.behind.push(key.clone());
                asking.found.insert(key.clone(), value);
                return Ok(());
            }
            State::Retained(value) => {
                meters.stale();
                asking.found.insert(key.clone(), value);
                return Ok(());
            }
            State::Failed(error) => {
                meters.hit();
                return Err(error);
            }
            State::Fallback(value) => {
                asking.fallbacks.insert(key.clone(), value);
            }
            State::Useless => (),
        }
        meters.miss(|| self.table.now());
        asking.seen.insert(key.clone());
        asking.missing.push(key.clone());
        Ok(())
    }

    fn refresh_many(&self, keys: &[K], loader: BulkLoader<K, V>) {
        let Ok(place) = Arc::clone(&self.env.places).try_acquire_owned() else {
            return;
        };
        let landings: Vec<_> = keys
            .iter()
            .filter_map(|key| self.table.ask_behind(key))
            .map(|(ticket, flight)| self.landing(ticket, flight))
            .collect();
        if !landings.is_empty() {
            let env = self.env.clone();
            self.detach(load_many(landings, Cause::Behind(place), loader, env));
        }
    }

    /// Waits for the missing keys, those by a load of ours that nobody is loading. What is missing
    /// afterwards is to be asked for once more.
    async fn ask_many(
        &self,
        asking: &mut Asking<K, V>,
        loader: impl FnOnce() -> BulkLoader<K, V>,
    ) -> Result<(), LoadError> {
        if self.is_closed() {
            return Err(LoadError::Closed);
        }
        let asked = self.table.versions().now();
        let (mut landings, mut waiting) = (Vec::new(), Vec::new());
        let mut failed = None;
        for key in std::mem::take(&mut asking.missing) {
            match self.table.ask(&key) {
                Asked::Found(Ok(value)) => {
                    asking.found.insert(key, value);
                }
                Asked::Found(Err(error)) => {
                    let settled = self.settle(asking, key, Err(error));
                    failed = failed.or(settled.err());
                }
                Asked::Joined(waiter, stamp) => waiting.push((key, waiter, Some(stamp))),
                Asked::Leads(ticket, flight, waiter) => {
                    landings.push(self.landing(ticket, flight));
                    waiting.push((key, waiter, None));
                }
            }
        }
        if !landings.is_empty() {
            let env = self.env.clone();
            self.detach(load_many(landings, Cause::Missing, loader(), env));
        }
        // Not before: others may wait for these loads by now.
        if let Some(error) = failed {
            return Err(error);
        }
        for (key, waiter, joined) in waiting {
            let outcome = self.wait(asking, &key, waiter).await;
            match (outcome, joined) {
                (Ok(Outcome::Loaded(value, tags)), joined) => {
                    if self.is_usable(joined, asked, &tags) {
                        self.settle(asking, key, Ok(value))?;
                    } else {
                        asking.missing.push(key);
                    }
                }
                (Ok(Outcome::Absent), Some(_)) => asking.missing.push(key),
                (Ok(Outcome::Absent), None) => (),
                (Ok(Outcome::Failed(error)) | Err(error), _) => {
                    self.settle(asking, key, Err(error))?;
                }
            }
        }
        Ok(())
    }

    /// Whether a value that others were loading when we asked is not one that was invalidated by
    /// a tag before.
    fn is_usable(
        &self,
        joined: Option<Stamp>,
        asked: Stamp,
        tags: &[Arc<crate::core::versions::Tag>],
    ) -> bool {
        joined.is_none_or(|stamp| stamp >= asked || self.table.are_current(stamp, tags))
    }

    async fn wait(
        &self,
        asking: &Asking<K, V>,
        key: &K,
        mut waiter: Waiter<V>,
    ) -> Result<Outcome<V>, LoadError> {
        let limit = match asking.fallbacks.contains_key(key) {
            true => self.soft_timeout,
            false => self.hard_timeout,
        };
        let Some(after) = limit else {
            return Ok(waiter.outcome().await);
        };
        let until = later(asking.since, after);
        let outcome = tokio::time::timeout_at(until, waiter.outcome()).await;
        outcome.map_err(|_| LoadError::TimedOut { after })
    }

    fn settle(
        &self,
        asking: &mut Asking<K, V>,
        key: K,
        outcome: Result<Arc<V>, LoadError>,
    ) -> Result<(), LoadError> {
        let meters = &self.env.meters;
        meters.answered(outcome.is_ok());
        let value = match (outcome, asking.fallbacks.remove(&key)) {
            (Ok(value), _) => value,
            (Err(LoadError::Closed), _) => return Err(LoadError::Closed),
            (Err(_), Some(value)) => {
                meters.stale();
                value
            }
            (Err(error), None) => return Err(error),
        };
        asking.found.insert(key, value);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// It failed between the look at what is in memory and the look for loads in flight.
    #[tokio::test]
    async fn a_key_that_has_just_failed_does_not_end_the_loads_of_the_others() {
        let cache = Cache::<u64, u64>::builder("test");
        let cache = cache.negative_ttl(std::time::Duration::from_secs(60));
        let cache = cache.build().await.unwrap();
        let mut asking = Asking::new(2);
        for key in [1, 2] {
            cache.inner.note(&key, &mut asking).unwrap();
        }
        let fails = |_| async { Err::<u64, _>("down") };
        cache.get_or_load(&2, fails).await.unwrap_err();
        let load = |keys: Vec<u64>| async move {
            let rows = keys.into_iter().map(|key| (key, key * 10));
            Ok::<_, &str>(rows.collect::<Vec<_>>())
        };
        let asked = cache.inner.ask_many(&mut asking, || boxed(load)).await;
        assert!(matches!(asked, Err(LoadError::Failed(_))));
        // Joins what was just started.
        let unused = |_| async { Err::<u64, _>("another load") };
        assert_eq!(*cache.get_or_load(&1, unused).await.unwrap(), 10);
    }
}
