//! Where the entries of the local tier are.

mod moka;
#[cfg(feature = "quick_cache")]
mod quick;
#[cfg(test)]
mod tests;

use std::hash::Hash;
use std::sync::Arc;

use crate::clock::Instant;
use crate::entry::Entry;
use crate::meters::Meters;

use self::moka::Moka;
#[cfg(feature = "quick_cache")]
use self::quick::Quick;

/// The weight of an entry, where entries have other weights than 1.
pub(crate) type Weigher<K, V> = Arc<dyn Fn(&K, &V) -> u32 + Send + Sync>;

/// Which library holds the entries of the local tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Engine {
    /// [moka](https://docs.rs/moka): TinyLFU, which keeps what is used often.
    #[default]
    Moka,
    /// [quick_cache](https://docs.rs/quick_cache): S3-FIFO with CLOCK; a hit costs a fraction of
    /// moka's.
    #[cfg(feature = "quick_cache")]
    QuickCache,
}

/// How an engine is set up.
pub(crate) struct Setup<K, V> {
    pub(crate) capacity: u64,
    pub(crate) weigher: Option<Weigher<K, V>>,
    pub(crate) meters: Arc<Meters>,
}

/// A bounded map that forgets what is used least.
///
/// It keeps entries at least until they are of no use; that an entry is of no use is decided by
/// whoever reads it. All but `get` are only ever called inside a section of `deferred`.
pub(crate) trait Hold<K, V>: Send + Sync {
    /// Counts as a use. Starts a section where a value may die meanwhile.
    fn get(&self, key: &K) -> Option<Entry<V>>;

    /// Does not count as a use.
    fn contains(&self, key: &K) -> bool;

    /// As `get`, but a key that is not there is not counted as asked for, which would make it
    /// look used more often than it is when it is decided whom to evict.
    fn peek(&self, key: &K) -> Option<Entry<V>> {
        if self.contains(key) {
            self.get(key)
        } else {
            None
        }
    }

    /// May forget it at once.
    fn insert(&self, key: K, entry: Entry<V>);

    fn remove(&self, key: &K);

    /// Forgets what there is, at leisure; it may take entries along that come a moment later.
    fn clear(&self);

    /// Does what is outstanding, so that the counts are up to date.
    fn settle(&self);

    /// Reclaims the memory of entries that were of no use by `now`, of which `end` says since when.
    /// Says when the first of the others will be.
    fn sweep(&self, now: Instant, end: &dyn Fn(&Entry<V>) -> Instant) -> Instant;
}

/// The engines as one type, so that a hit goes through a branch and not through a pointer.
pub(crate) enum Engines<K, V> {
    Moka(Moka<K, V>),
    #[cfg(feature = "quick_cache")]
    QuickCache(Quick<K, V>),
}

macro_rules! each {
    ($self:expr, $engine:ident => $call:expr) => {
        match $self {
            Engines::Moka($engine) => $call,
            #[cfg(feature = "quick_cache")]
            Engines::QuickCache($engine) => $call,
        }
    };
}

impl<K, V> Engines<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    pub(crate) fn new(engine: Engine, setup: Setup<K, V>) -> Self {
        match engine {
            Engine::Moka => Self::Moka(Moka::new(setup)),
            #[cfg(feature = "quick_cache")]
            Engine::QuickCache => Self::QuickCache(Quick::new(setup)),
        }
    }
}

impl<K, V> Hold<K, V> for Engines<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    #[inline]
    fn get(&self, key: &K) -> Option<Entry<V>> {
        each!(self, engine => engine.get(key))
    }

    fn contains(&self, key: &K) -> bool {
        each!(self, engine => engine.contains(key))
    }

    fn peek(&self, key: &K) -> Option<Entry<V>> {
        each!(self, engine => engine.peek(key))
    }

    fn insert(&self, key: K, entry: Entry<V>) {
        each!(self, engine => engine.insert(key, entry));
    }

    fn remove(&self, key: &K) {
        each!(self, engine => engine.remove(key));
    }

    fn clear(&self) {
        each!(self, engine => engine.clear());
    }

    fn settle(&self) {
        each!(self, engine => engine.settle());
    }

    fn sweep(&self, now: Instant, end: &dyn Fn(&Entry<V>) -> Instant) -> Instant {
        each!(self, engine => engine.sweep(now, end))
    }
}

/// The weight of an entry; failures that are remembered weigh 1, and nothing less: of what weighs
/// nothing there could be any number.
fn weight<K, V>(weigher: &Weigher<K, V>, key: &K, entry: &Entry<V>) -> u32 {
    let weight = entry.value.as_ref().map(|value| weigher(key, value));
    weight.map_or(1, |weight| weight.max(1))
}
