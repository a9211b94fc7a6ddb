//! The tier that processes share, as the cache sees it.

#[cfg(feature = "redis")]
pub(crate) mod redis;

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::Instant;

use crate::CacheError;

pub(crate) type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Proof that nothing had invalidated a key when a load of it began: the shared tier takes a value
/// only from who holds the lease that is in force, and an invalidation ends it. Without a lease no
/// fill, so a lease that is lost costs a load and never a stale value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lease {
    /// Random. It stands in the shared tier under the key: alone while nothing is there, and in
    /// front of the value that was put there.
    pub(crate) token: [u8; 16],
    /// The sequence of the shared tier's invalidations that this process knew of before the load
    /// began: the value is older than what came later.
    pub(crate) stamp: u64,
}

/// What is done with a read of one key.
pub(crate) type Then<V> = Box<dyn FnOnce(Read<V>) + Send>;

/// What the shared tier has of a key.
#[derive(Debug)]
pub(crate) enum Read<V> {
    /// A value that no invalidation known here is younger than.
    Value(Shared<V>),
    /// Nothing that can be used (absent, of another schema version, unreadable, invalidated by a
    /// tag): a load may fill it by this lease.
    Missing(Option<Lease>),
    /// It could not be asked, or must not be: it is down, too slow, its breaker is open, or an
    /// invalidation of this key is still to be told to it.
    Unavailable,
}

/// A value as the shared tier keeps it.
#[derive(Debug)]
pub(crate) struct Shared<V> {
    pub(crate) value: Arc<V>,
    pub(crate) tags: Vec<Arc<str>>,
    /// For conditional requests of loaders.
    pub(crate) etag: Option<Arc<str>>,
    /// How long the shared tier will keep it still.
    pub(crate) ttl: Duration,
    /// The time that its load took, for refreshes ahead.
    pub(crate) load_time: Duration,
    /// What a refresh of this value fills by.
    pub(crate) lease: Lease,
}

/// A value to be put into the shared tier.
#[derive(Debug)]
pub(crate) struct Fill<K, V> {
    pub(crate) key: K,
    pub(crate) value: Arc<V>,
    pub(crate) tags: Vec<Arc<str>>,
    pub(crate) etag: Option<Arc<str>>,
    /// The value's own time to live, where its loader gave one: the tier keeps it no longer.
    pub(crate) ttl: Option<Duration>,
    pub(crate) load_time: Duration,
    /// `None` for an insertion, which replaces whatever is there, and makes leases void.
    pub(crate) lease: Option<Lease>,
}

/// What an invalidation is about.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target<'a, K> {
    Key(&'a K),
    /// The key's local copies are expired and kept for a failing loader.
    Expire(&'a K),
    Tag(&'a str),
    All,
}

/// How far an invalidation has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Invalidation {
    /// It holds everywhere: here, in the shared tier, and it was said to the other processes.
    Applied,
    /// It holds in this process. The shared tier could not be told: that is done as soon as it is
    /// back, and until then other processes may still serve what they have.
    Deferred,
}

/// A tier shared by processes. Calls return within the tier's own timeout, whatever the server
/// does, and are safe to drop: what was not sent is not done, what was sent may be.
pub(crate) trait Remote<K, V>: Send + Sync {
    /// Reads all keys in one round trip. The answers are in the order of the keys. With `lease`, a
    /// key that is missing comes with the lease to load it.
    fn read<'a>(&'a self, keys: &'a [K], lease: bool) -> BoxFuture<'a, Vec<Read<V>>>;

    /// The same of one key; reads at the same time share round trips. `then` is called exactly once,
    /// within the tier's timeout, whatever becomes of the tier: where the answer arrives, so that a
    /// read needs no task, so it has to be quick, and must not panic.
    fn read_then(self: Arc<Self>, key: &K, lease: bool, then: Then<V>);

    /// Puts loaded values there, in one round trip, each if its lease is still in force. What
    /// fails is counted and left: it is a miss for the next process. Values without a lease are
    /// not for this call.
    fn fill(&self, fills: Vec<Fill<K, V>>) -> BoxFuture<'_, ()>;

    /// Puts a value there whatever is there, and tells the other processes that theirs is old.
    /// If the tier cannot be reached, it is an invalidation that is deferred: the value is not there.
    fn insert(&self, insert: Fill<K, V>) -> BoxFuture<'_, Result<Invalidation, CacheError>>;

    /// Removes the values, ends the leases and tells the other processes.
    ///
    /// From the first poll on, and until it is applied, `read` does not return a value that this
    /// invalidation is about; not even if the future is dropped, or the tier cannot be reached.
    fn invalidate<'a>(
        &'a self,
        target: Target<'a, K>,
    ) -> BoxFuture<'a, Result<Invalidation, CacheError>>;

    /// Starts listening to the other processes. Called once, before any other call.
    fn listen(&self, local: Weak<dyn Local<K>>);

    /// Waits until it hears the other processes, or a while: what is loaded before is not kept.
    fn listening(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    /// From now on reads end at once: the cache ends.
    fn end_reads(&self) {}

    /// Ends its tasks and connections, after one attempt to apply what is deferred.
    fn shutdown(&self) -> BoxFuture<'_, ()>;
}

/// What the shared tier tells the process of: its local tier.
pub(crate) trait Local<K>: Send + Sync {
    /// Another process invalidated.
    fn invalidated(&self, target: Target<'_, K>);

    /// Nothing said before `until` can have been missed: entries may be served without doubt
    /// until then. Later ones only while they are younger than the bus's bound.
    fn trusted_until(&self, until: Instant);

    /// Something may have been missed: nothing that was loaded before can be trusted.
    fn gap(&self);
}
