use std::fmt;
use std::future::Future;
use std::hash::Hash;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;
use tracing::Span;

use crate::builder::Builder;
use crate::core::flights::Ticket;
use crate::error::CacheError;
use crate::flight::{Flight, Landing, Outcome};
use crate::load::{Env, Tasks, sweep};
use crate::policy::Times;
use crate::remote::{BoxFuture, Fill, Invalidation, Target};
use crate::stats::Stats;
use crate::table::{Kept, Table};
use crate::value::Value;

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
    pub(crate) inner: Arc<Inner<K, V>>,
}

pub(crate) struct Inner<K, V> {
    pub(crate) table: Arc<Table<K, V>>,
    pub(crate) env: Env<K, V>,
    /// How long callers wait who have something else, no longer than those who have not.
    pub(crate) soft_timeout: Option<Duration>,
    pub(crate) hard_timeout: Option<Duration>,
    pub(crate) tasks: TaskTracker,
    /// Where the tasks of callers outside a runtime run.
    pub(crate) runtime: Handle,
}

impl<K, V> Drop for Inner<K, V> {
    fn drop(&mut self) {
        self.stop();
    }
}

impl<K, V> Inner<K, V> {
    /// Whether it is shut down, by what is cheaper to ask than the token is.
    pub(crate) fn is_closed(&self) -> bool {
        self.env.places.is_closed()
    }

    fn stop(&self) {
        self.env.stop.cancel();
        if let Some(remote) = &self.env.remote {
            remote.end_reads();
        }
    }
}

impl<K, V> Inner<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    /// Runs a load, detached from the caller.
    pub(crate) fn detach(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks().spawn(task);
    }

    /// Where loads run that this caller starts.
    pub(crate) fn tasks(&self) -> Tasks {
        Tasks {
            runtime: Handle::try_current().unwrap_or_else(|_| self.runtime.clone()),
            span: Span::current(),
            token: self.tasks.token(),
        }
    }

    pub(crate) fn landing(&self, ticket: Ticket<K>, flight: Flight<V>) -> Landing<K, V> {
        Landing::new(ticket, flight, &self.table, &self.env)
    }

    /// Does `here` as soon as the shared tier has been told enough that no read of it brings back
    /// what this is about, and then goes on telling.
    async fn tell(
        &self,
        telling: BoxFuture<'_, Result<Invalidation, CacheError>>,
        here: impl FnOnce(),
    ) -> Result<Invalidation, CacheError> {
        let mut telling = pin!(telling);
        let first = std::future::poll_fn(|cx| Poll::Ready(telling.as_mut().poll(cx))).await;
        here();
        let told = match first {
            Poll::Ready(told) => told,
            Poll::Pending => telling.await,
        };
        if let Ok(how) = told {
            self.env.meters.invalidated(how);
        }
        told
    }

    async fn invalidate(
        &self,
        target: Target<'_, K>,
        here: impl FnOnce(),
    ) -> Result<Invalidation, CacheError> {
        match &self.env.remote {
            Some(remote) => self.tell(remote.invalidate(target), here).await,
            None => {
                here();
                self.env.meters.invalidated(Invalidation::Applied);
                Ok(Invalidation::Applied)
            }
        }
    }
}

impl<K, V> Cache<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    /// Starts to set up a cache. The name tells caches apart in metrics, where it is the label
    /// `cache`, in traces and in the shared tier.
    pub fn builder(name: impl Into<String>) -> Builder<K, V> {
        Builder::new(name.into().into())
    }

    /// Stores `value`, a plain one or a [`Value`] with its own time to live and tags, in place of
    /// what is there: here and in the shared tier; other processes let go of theirs. A load of
    /// `key` that is in flight will not overwrite it.
    ///
    /// # Errors
    ///
    /// As [`invalidate`](Self::invalidate); the value is stored in this process.
    ///
    /// # Cancel safety
    ///
    /// Once polled, the value is stored in this process. If the future is dropped then, the shared
    /// tier and the other processes may not have been told; this process tells them later.
    pub async fn insert(
        &self,
        key: K,
        value: impl Into<Value<V>>,
    ) -> Result<Invalidation, CacheError> {
        let inner = &*self.inner;
        let value = value.into();
        let kept = Kept {
            value: Arc::clone(&value.value),
            tags: inner.table.tags(&value.tags),
            etag: value.etag.clone(),
            times: Times {
                own: value.ttl,
                ..Times::default()
            },
            began: inner.table.now(),
        };
        if inner.table.is_sweep_due() {
            inner.detach(sweep(Arc::clone(&inner.table)));
        }
        let Some(remote) = &inner.env.remote else {
            inner.table.insert(key, kept);
            return Ok(Invalidation::Applied);
        };
        // Listed as a load is: if another process invalidates the key, or replaces the value, as
        // soon as the tier has been told, and its word is here before the next line, that holds.
        let (ticket, flight) = inner.table.begin_insert(&key, kept.began);
        let mut landing = inner.landing(ticket, flight);
        let fill = Fill {
            key,
            value: value.value,
            tags: value.tags,
            etag: value.etag,
            ttl: value.ttl,
            load_time: Duration::ZERO,
            lease: None,
        };
        let outcome = Outcome::Loaded(Arc::clone(&kept.value), kept.tags.clone());
        let here = || {
            landing.end(outcome, |table, ticket, _| {
                table.is_some_and(|table| table.keep(ticket, kept))
            });
        };
        inner.tell(remote.insert(fill), here).await
    }

    /// Removes `key`. Whoever asks after this has returned never gets a value whose load began
    /// before: the entry is gone, in the shared tier as well, and a load in flight serves only those
    /// who already wait for it.
    ///
    /// Write to the database first, then invalidate.
    ///
    /// When the shared tier cannot be told, the answer is [`Invalidation::Deferred`]: this process
    /// serves no older value from now on, and tells the others when it can.
    ///
    /// # Errors
    ///
    /// In this process the key is invalidated whatever happens.
    ///
    /// - [`CacheError::Key`]: the shared tier cannot have such a key.
    /// - [`CacheError::Closed`]: the cache is shut down.
    ///
    /// # Cancel safety
    ///
    /// Once polled, the key is invalidated in this process. If the future is dropped then, the
    /// other processes may not have been told; this process tells them later.
    pub async fn invalidate(&self, key: &K) -> Result<Invalidation, CacheError> {
        let here = || self.inner.table.invalidate(key);
        self.inner.invalidate(Target::Key(key), here).await
    }

    /// As [`invalidate`](Self::invalidate), but keeps the value for loaders that fail
    /// ([`stale_if_error`](Builder::stale_if_error)): whoever asks next loads it again, and gets
    /// the old one if that does not work.
    ///
    /// # Errors
    ///
    /// As [`invalidate`](Self::invalidate).
    ///
    /// # Cancel safety
    ///
    /// As [`invalidate`](Self::invalidate).
    pub async fn expire(&self, key: &K) -> Result<Invalidation, CacheError> {
        let here = || self.inner.table.expire(key);
        self.inner.invalidate(Target::Expire(key), here).await
    }

    /// Removes every value that has the tag, with the promise of
    /// [`invalidate`](Self::invalidate) for each of them. Its cost does not grow with their number.
    ///
    /// # Errors
    ///
    /// As [`invalidate`](Self::invalidate).
    ///
    /// # Cancel safety
    ///
    /// As [`invalidate`](Self::invalidate).
    pub async fn invalidate_tag(&self, tag: &str) -> Result<Invalidation, CacheError> {
        let here = || self.inner.table.invalidate_tag(tag);
        self.inner.invalidate(Target::Tag(tag), here).await
    }

    /// Removes every key, with the promise of [`invalidate`](Self::invalidate) for each of them.
    /// Its cost does not grow with the number of entries; their memory is reclaimed as the cache
    /// is used.
    ///
    /// # Errors
    ///
    /// As [`invalidate`](Self::invalidate).
    ///
    /// # Cancel safety
    ///
    /// As [`invalidate`](Self::invalidate).
    pub async fn invalidate_all(&self) -> Result<Invalidation, CacheError> {
        let here = || self.inner.table.invalidate_all();
        self.inner.invalidate(Target::All, here).await
    }

    /// What the cache has done and what it holds. Finishes outstanding evictions first, so this
    /// is for reports, not for every request.
    pub fn stats(&self) -> Stats {
        self.inner.table.settle();
        self.inner.env.meters.stats()
    }

    /// Ends the loads in flight and starts no more; returns when their tasks have ended, which a
    /// loader that blocks its thread delays. Whoever waits for one gets
    /// [`LoadError::Closed`](crate::LoadError::Closed), as does whoever needs a load from now on.
    /// What is in memory is still served. May be called more than once.
    ///
    /// # Cancel safety
    ///
    /// Once polled the cache is shut down; a dropped future only stops the waiting for the tasks.
    pub async fn shutdown(&self) {
        let inner = &*self.inner;
        inner.env.places.close();
        inner.stop();
        inner.tasks.close();
        inner.tasks.wait().await;
        if let Some(remote) = &inner.env.remote {
            remote.shutdown().await;
        }
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
            .field("name", &self.inner.env.meters.cache())
            .finish_non_exhaustive()
    }
}
