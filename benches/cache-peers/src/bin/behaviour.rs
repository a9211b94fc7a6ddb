//! `cargo run --release --manifest-path benches/cache-peers/Cargo.toml --bin behaviour`
//!
//! What each cache does where caches differ, tried: how many loads a hundred callers of a missing
//! key cause; whether a load goes on when the caller that started it is cancelled; and whether a
//! value is kept that an invalidation found in flight, and so is from before it.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cached::{ConcurrentCachedAsyncExt, ShardedLruTtlCache};
use multi_tier_cache::{CacheManager, CacheStrategy, CacheSystemBuilder, L1Cache, TierConfig};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

const KEY: &str = "user:1";
const TTL: Duration = Duration::from_secs(3_600);
const LOAD: Duration = Duration::from_millis(50);
const SOON: Duration = Duration::from_millis(10);

/// A database of one row, which is as old as the version that it had when the load began.
#[derive(Default)]
struct Database {
    version: AtomicU64,
    loads: AtomicU64,
}

impl Database {
    async fn load(&self) -> u64 {
        self.loads.fetch_add(1, Ordering::SeqCst);
        let read = self.version.load(Ordering::SeqCst);
        sleep(LOAD).await;
        read
    }
}

/// A cache in front of it.
trait Peer: Send + Sync + 'static {
    fn get(&self, db: Arc<Database>) -> impl Future<Output = Option<u64>> + Send;
    fn invalidate(&self) -> impl Future<Output = ()> + Send;
}

impl Peer for perf_cache::Cache<String, u64> {
    async fn get(&self, db: Arc<Database>) -> Option<u64> {
        let load = async move |_| Ok::<_, Infallible>(db.load().await);
        Some(*self.get_or_load(&KEY.to_owned(), load).await.ok()?)
    }

    async fn invalidate(&self) {
        let _local = self.invalidate(&KEY.to_owned()).await;
    }
}

impl Peer for moka::future::Cache<String, u64> {
    async fn get(&self, db: Arc<Database>) -> Option<u64> {
        Some(
            self.get_with(KEY.to_owned(), async move { db.load().await })
                .await,
        )
    }

    async fn invalidate(&self) {
        self.invalidate(KEY).await;
    }
}

impl Peer for quick_cache::sync::Cache<String, u64> {
    async fn get(&self, db: Arc<Database>) -> Option<u64> {
        let load = async move { Ok::<_, Infallible>(db.load().await) };
        self.get_or_insert_async(KEY, load).await.ok()
    }

    async fn invalidate(&self) {
        self.remove(KEY);
    }
}

impl Peer for ShardedLruTtlCache<String, u64> {
    async fn get(&self, db: Arc<Database>) -> Option<u64> {
        let load = || async move { db.load().await };
        self.async_get_or_set_with(KEY.to_owned(), load).await.ok()
    }

    async fn invalidate(&self) {
        let _removed = self.async_remove(&KEY.to_owned()).await;
    }
}

impl Peer for foyer::Cache<String, u64> {
    async fn get(&self, db: Arc<Database>) -> Option<u64> {
        let fetch = || async move { Ok::<_, Infallible>(db.load().await) };
        let entry = self.get_or_fetch(KEY, fetch).await.ok()?;
        Some(*entry.value())
    }

    async fn invalidate(&self) {
        self.remove(KEY);
    }
}

impl Peer for amalgam::Cache<u64> {
    async fn get(&self, db: Arc<Database>) -> Option<u64> {
        let load = move |_| async move { Ok::<_, Infallible>(db.load().await) };
        self.get_or_set(KEY, load).await.ok()
    }

    async fn invalidate(&self) {
        let _removed = self.remove(KEY).await;
    }
}

impl Peer for CacheManager {
    async fn get(&self, db: Arc<Database>) -> Option<u64> {
        let load = || async move { Ok(bytes::Bytes::from(db.load().await.to_le_bytes().to_vec())) };
        let strategy = CacheStrategy::Custom(TTL);
        let bytes = self.get_or_compute_with(KEY, strategy, load).await.ok()?;
        Some(u64::from_le_bytes(bytes.as_ref().try_into().ok()?))
    }

    async fn invalidate(&self) {
        let _removed = self.invalidate(KEY).await;
    }
}

/// Loads caused by a hundred callers at once.
async fn loads_of_a_hundred_callers<P: Peer>(peer: Arc<P>) -> u64 {
    let db = Arc::new(Database::default());
    let callers: JoinSet<_> = (0..100)
        .map(|_| {
            let (peer, db) = (Arc::clone(&peer), Arc::clone(&db));
            async move { peer.get(db).await }
        })
        .collect();
    callers.join_all().await;
    db.loads.load(Ordering::SeqCst)
}

/// Whether the value is there after all when the one caller has gone away.
async fn goes_on_when_cancelled<P: Peer>(peer: Arc<P>) -> bool {
    let db = Arc::new(Database::default());
    let _cancelled = timeout(SOON, peer.get(Arc::clone(&db))).await;
    sleep(3 * LOAD).await;
    peer.get(Arc::clone(&db)).await;
    db.loads.load(Ordering::SeqCst) == 1
}

/// Whether a get that starts after an invalidation returned, and after the load that it found in
/// flight has ended, sees the change.
async fn sees_the_change<P: Peer>(peer: Arc<P>) -> bool {
    let db = Arc::new(Database::default());
    let loading = {
        let (peer, db) = (Arc::clone(&peer), Arc::clone(&db));
        tokio::spawn(async move { peer.get(db).await })
    };
    sleep(SOON).await;
    db.version.store(1, Ordering::SeqCst);
    peer.invalidate().await;
    let _from_before = loading.await;
    peer.get(Arc::clone(&db)).await == Some(1)
}

async fn show<P: Peer, E: std::fmt::Display>(
    name: &str,
    peer: impl AsyncFn() -> Result<P, E>,
) -> Result<(), String> {
    let peer = async || {
        peer()
            .await
            .map(Arc::new)
            .map_err(|error| error.to_string())
    };
    let loads = loads_of_a_hundred_callers(peer().await?).await;
    let goes_on = goes_on_when_cancelled(peer().await?).await;
    let sees = sees_the_change(peer().await?).await;
    println!("{name:18} {loads:>5}  {goes_on:>7}  {sees:>12}");
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), String> {
    println!("{:18} loads  goes on  sees changes", "");
    show("perf-cache", async || {
        perf_cache::Cache::<String, u64>::builder("peer")
            .build()
            .await
    })
    .await?;
    show("moka", async || {
        Ok::<_, Infallible>(moka::future::Cache::<String, u64>::new(100))
    })
    .await?;
    show("quick_cache", async || {
        Ok::<_, Infallible>(quick_cache::sync::Cache::<String, u64>::new(100))
    })
    .await?;
    show("cached", async || {
        ShardedLruTtlCache::<String, u64>::builder()
            .max_size(100)
            .ttl(TTL)
            .build()
    })
    .await?;
    show("foyer", async || {
        let cache: foyer::Cache<String, u64> = foyer::CacheBuilder::new(100).build();
        Ok::<_, Infallible>(cache)
    })
    .await?;
    show("amalgam-cache", async || {
        amalgam::Cache::<u64>::builder()
            .max_capacity(100)
            .try_build()
    })
    .await?;
    show("multi-tier-cache", async || {
        let memory = Arc::new(L1Cache::new(Default::default())?);
        let builder = CacheSystemBuilder::new().with_tier(memory, TierConfig::as_l1());
        let system = builder.build().await?;
        let manager = Arc::clone(system.cache_manager());
        drop(system);
        Arc::try_unwrap(manager).map_err(|_| {
            multi_tier_cache::error::CacheError::ConfigError("it is shared".to_owned())
        })
    })
    .await
}
