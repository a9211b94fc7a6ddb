//! Each cache, and how its users get a value that may have to be loaded.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use amalgam::{Cache as Amalgam, EntryOptions};
use cached::{ConcurrentCachedAsyncExt, ShardedLruTtlCache};
use foyer::{Cache as Foyer, CacheBuilder};
use multi_tier_cache::{
    CacheManager, CacheStrategy, CacheSystem, CacheSystemBuilder, L1Cache, MokaCacheConfig,
    TierConfig,
};
use perf_cache::{Cache, Engine};
use serde::{Deserialize, Serialize};

pub(crate) const TTL: Duration = Duration::from_secs(3_600);

/// What is cached: a small struct, behind an `Arc` wherever the cache lets it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct User {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) org: u64,
}

pub(crate) fn load(key: &str) -> User {
    User {
        id: key.len() as u64,
        name: key.to_owned(),
        org: 7,
    }
}

/// A cache in use.
pub(crate) trait Store: Send + Sync + 'static {
    type Got: Send;

    /// The value of a key, loaded if it is missing; `None` if that failed.
    #[expect(
        clippy::ptr_arg,
        reason = "most of these caches take a key as the very type that they keep"
    )]
    fn get(&self, key: &String) -> impl Future<Output = Option<Self::Got>> + Send;
}

pub(crate) async fn ours(
    engine: Engine,
    capacity: u64,
    ttl: Option<Duration>,
) -> Result<Cache<String, User>, perf_cache::BuildError> {
    let mut builder = Cache::builder("bench")
        .max_capacity(capacity)
        .engine(engine);
    if let Some(ttl) = ttl {
        builder = builder.time_to_live(ttl).jitter(0.1);
    }
    builder.build().await
}

impl Store for Cache<String, User> {
    type Got = Arc<User>;

    async fn get(&self, key: &String) -> Option<Arc<User>> {
        let load = |key: String| async move { Ok::<_, Infallible>(load(&key)) };
        self.get_or_load(key, load).await.ok()
    }
}

/// moka's `get` alone: the engine under ours.
pub(crate) struct MokaGet(moka::sync::Cache<String, Arc<User>>);

pub(crate) fn moka_get(capacity: u64) -> MokaGet {
    let builder = moka::sync::Cache::builder().max_capacity(capacity);
    MokaGet(builder.time_to_live(TTL).build())
}

impl Store for MokaGet {
    type Got = Arc<User>;

    async fn get(&self, key: &String) -> Option<Arc<User>> {
        self.0.get(key).or_else(|| {
            self.0.insert(key.clone(), Arc::new(load(key)));
            None
        })
    }
}

/// moka's way to load what is missing.
pub(crate) struct MokaGetWith(moka::future::Cache<String, Arc<User>>);

pub(crate) fn moka_get_with(capacity: u64) -> MokaGetWith {
    let builder = moka::future::Cache::builder().max_capacity(capacity);
    MokaGetWith(builder.time_to_live(TTL).build())
}

impl Store for MokaGetWith {
    type Got = Arc<User>;

    async fn get(&self, key: &String) -> Option<Arc<User>> {
        let load = async { Arc::new(load(key)) };
        Some(self.0.get_with_by_ref(key, load).await)
    }
}

type Quick = quick_cache::sync::Cache<String, Arc<User>>;

/// quick_cache's `get` alone. It knows no time to live.
pub(crate) struct QuickGet(pub(crate) Quick);

impl Store for QuickGet {
    type Got = Arc<User>;

    async fn get(&self, key: &String) -> Option<Arc<User>> {
        self.0.get(key).or_else(|| {
            self.0.insert(key.clone(), Arc::new(load(key)));
            None
        })
    }
}

/// quick_cache's way to load what is missing.
pub(crate) struct QuickInsert(pub(crate) Quick);

impl Store for QuickInsert {
    type Got = Arc<User>;

    async fn get(&self, key: &String) -> Option<Arc<User>> {
        let load = async { Ok::<_, Infallible>(Arc::new(load(key))) };
        self.0.get_or_insert_async(key, load).await.ok()
    }
}

/// `cached`'s store for concurrent users with a size and a time to live.
pub(crate) fn cached(
    capacity: usize,
) -> Result<ShardedLruTtlCache<String, Arc<User>>, cached::BuildError> {
    let builder = ShardedLruTtlCache::builder().max_size(capacity);
    builder.ttl(TTL).build()
}

impl Store for ShardedLruTtlCache<String, Arc<User>> {
    type Got = Arc<User>;

    async fn get(&self, key: &String) -> Option<Arc<User>> {
        if let Ok(Some(value)) = self.async_get(key).await {
            return Some(value);
        }
        let value = Arc::new(load(key));
        let _replaced = self.async_set(key.clone(), Arc::clone(&value)).await;
        Some(value)
    }
}

pub(crate) fn foyer(capacity: usize) -> Foyer<String, Arc<User>> {
    CacheBuilder::new(capacity).build()
}

impl Store for Foyer<String, Arc<User>> {
    type Got = Arc<User>;

    async fn get(&self, key: &String) -> Option<Arc<User>> {
        let fetch = || {
            let key = key.clone();
            async move { Ok::<_, Infallible>(Arc::new(load(&key))) }
        };
        let entry = self.get_or_fetch(key, fetch).await.ok()?;
        Some(Arc::clone(entry.value()))
    }
}

pub(crate) fn amalgam(capacity: u64) -> Result<Amalgam<Arc<User>>, amalgam::Error> {
    let builder = Amalgam::builder().max_capacity(capacity);
    builder.default_options(EntryOptions::new(TTL)).try_build()
}

impl Store for Amalgam<Arc<User>> {
    type Got = Arc<User>;

    async fn get(&self, key: &String) -> Option<Arc<User>> {
        // What it captures would have to be its own, and a clone of the key would count with a hit.
        let load = |_| async { Ok::<_, Infallible>(Arc::new(load("user"))) };
        self.get_or_set(key, load).await.ok()
    }
}

/// multi-tier-cache with its memory tier alone. It keeps bytes, which its users decode.
pub(crate) struct MultiTier {
    manager: Arc<CacheManager>,
    _system: CacheSystem,
}

pub(crate) async fn multi_tier(
    capacity: u64,
) -> Result<MultiTier, multi_tier_cache::error::CacheError> {
    let memory = L1Cache::new(MokaCacheConfig {
        max_capacity: capacity,
        time_to_live: TTL,
        time_to_idle: TTL,
    })?;
    let builder = CacheSystemBuilder::new();
    let system = builder
        .with_tier(Arc::new(memory), TierConfig::as_l1())
        .build()
        .await?;
    Ok(MultiTier {
        manager: Arc::clone(system.cache_manager()),
        _system: system,
    })
}

impl Store for MultiTier {
    type Got = User;

    async fn get(&self, key: &String) -> Option<User> {
        let load = || async { Ok(load(key)) };
        let strategy = CacheStrategy::Custom(TTL);
        self.manager
            .get_or_compute_typed(key, strategy, load)
            .await
            .ok()
    }
}

/// The same, without decoding what it got.
pub(crate) struct MultiTierBytes(pub(crate) MultiTier);

impl Store for MultiTierBytes {
    type Got = bytes::Bytes;

    async fn get(&self, key: &String) -> Option<bytes::Bytes> {
        let load = || async { Ok(bytes::Bytes::from(load(key).name)) };
        let strategy = CacheStrategy::Custom(TTL);
        self.0
            .manager
            .get_or_compute_with(key, strategy, load)
            .await
            .ok()
    }
}
