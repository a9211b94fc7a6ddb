//! What there is to say of a tier in Redis.

use std::hash::Hash;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Builder, Opened};
use crate::BuildError;
use crate::remote::Remote;
use crate::remote::redis::{RedisBus, RedisRemote, RedisTier, RemoteMeters};

/// Opens the tier: made where the key and the value are known to be serialisable.
type Open<K, V> = fn(RedisTier, Option<RedisBus>, &str, u32) -> Arc<dyn Remote<K, V>>;

/// The tier as it is set up so far.
pub(super) struct Settings<K, V> {
    tier: Option<(RedisTier, Open<K, V>)>,
    bus: Option<RedisBus>,
    schema_version: u32,
}

impl<K, V> Settings<K, V> {
    pub(super) const fn new() -> Self {
        Self {
            tier: None,
            bus: None,
            schema_version: 0,
        }
    }

    pub(super) fn check(&self) -> Result<(), BuildError> {
        if let (None, Some(_)) = (&self.tier, &self.bus) {
            return Err(BuildError::NoSharedTier);
        }
        let tier = self.tier.as_ref().and_then(|(tier, _)| tier.without_time());
        match tier.or_else(|| self.bus.as_ref()?.without_time()) {
            Some(setting) => Err(BuildError::NoTime { setting }),
            None => Ok(()),
        }
    }

    pub(super) fn open(self, cache: &str) -> Option<Opened<K, V>> {
        let (tier, open) = self.tier?;
        let untrusted_age = self.bus.as_ref().map(RedisBus::bound);
        let remote = open(tier, self.bus, cache, self.schema_version);
        Some((remote, untrusted_age))
    }
}

impl<K, V> Builder<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    /// Shares the values with other processes through Redis: what is not in memory is looked for
    /// there before it is loaded, and what is loaded is put there. Caches of the same name, and the
    /// same [prefix](RedisTier::prefix), share.
    ///
    /// Add a bus by [`invalidation`](Self::invalidation), or a short
    /// [`time_to_live`](Self::time_to_live): without either other processes serve what they have in
    /// memory long after it was invalidated here.
    ///
    /// Keys are written as JSON, and values by the tier's [`Codec`](crate::Codec).
    ///
    /// Defaults to none.
    pub fn redis(mut self, tier: RedisTier) -> Self
    where
        K: Serialize + DeserializeOwned,
        V: Serialize + DeserializeOwned,
    {
        self.redis.tier = Some((tier, open));
        self
    }

    /// Hears at once what other processes invalidate, and serves nothing from memory that is older
    /// than the bus allows when it cannot be sure to have heard everything.
    ///
    /// Defaults to none: other processes' invalidations are seen when entries expire. Without
    /// [`redis`](Self::redis) `build` says [`BuildError::NoSharedTier`].
    pub fn invalidation(mut self, bus: RedisBus) -> Self {
        self.redis.bus = Some(bus);
        self
    }

    /// The version of what `V` looks like when it is written. Count it up when you change the type:
    /// values of another version are not read, and loaded again.
    ///
    /// Defaults to 0.
    pub fn schema_version(mut self, version: u32) -> Self {
        self.redis.schema_version = version;
        self
    }
}

fn open<K, V>(
    tier: RedisTier,
    bus: Option<RedisBus>,
    cache: &str,
    schema_version: u32,
) -> Arc<dyn Remote<K, V>>
where
    K: Serialize + DeserializeOwned + Hash + Eq + Clone + Send + Sync + 'static,
    V: Serialize + DeserializeOwned + Send + Sync + 'static,
{
    let meters = Arc::new(RemoteMeters::new(cache));
    RedisRemote::open(tier, bus, cache, schema_version, meters)
}
