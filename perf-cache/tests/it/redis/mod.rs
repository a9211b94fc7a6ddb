//! Caches that share a real Redis.

mod faults;
mod processes;
mod sharing;
mod trips;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use tokio::time::timeout;

use perf_cache::{Builder, Cache, RedisBus, RedisTier};
use testkit::{OwnRedis, Proxy};

/// Reached only by what would never come.
const HANGS: Duration = Duration::from_secs(60);
const MS: Duration = Duration::from_millis(1);

/// A bus that checks often.
fn bus() -> RedisBus {
    RedisBus::new().heartbeat(100 * MS).timeout(400 * MS)
}

/// A cache on the tier, as another process would have one.
async fn cache(tier: &RedisTier) -> Cache<u64, String> {
    cache_with(tier, |builder| builder).await
}

async fn cache_with(
    tier: &RedisTier,
    with: impl FnOnce(Builder<u64, String>) -> Builder<u64, String>,
) -> Cache<u64, String> {
    let builder = Cache::builder("shared")
        .redis(tier.clone())
        .invalidation(bus());
    with(builder).build().await.unwrap()
}

/// The shared server, below a prefix of this test's own.
async fn tier() -> Option<RedisTier> {
    let server = testkit::Redis::shared().await?;
    let tier = RedisTier::connect(server.url()).await.unwrap();
    // Longer than a loaded machine is late.
    Some(
        tier.prefix(server.prefix())
            .timeout(Duration::from_secs(10)),
    )
}

/// A server of the test's own, and a tier on it through a proxy.
async fn behind_proxy() -> Option<(OwnRedis, Proxy, RedisTier)> {
    let server = testkit::Redis::start().await?;
    let url = server.url();
    let address = url.trim_start_matches("redis://").trim_end_matches('/');
    let proxy = Proxy::start(address).await;
    let tier = RedisTier::connect(proxy.url(&url)).await.unwrap();
    Some((server, proxy, tier))
}

/// What the caches load from.
#[derive(Clone, Default)]
struct Origin {
    version: Arc<AtomicU64>,
    loads: Arc<AtomicU64>,
}

impl Origin {
    fn write(&self) -> String {
        (self.version.fetch_add(1, SeqCst) + 1).to_string()
    }

    fn loads(&self) -> u64 {
        self.loads.load(SeqCst)
    }

    fn load(&self) -> String {
        self.loads.fetch_add(1, SeqCst);
        self.version.load(SeqCst).to_string()
    }

    async fn get(&self, cache: &Cache<u64, String>, key: u64) -> String {
        let origin = self.clone();
        let load = move |_| async move { Ok::<_, Infallible>(origin.load()) };
        cache.get_or_load(&key, load).await.unwrap().to_string()
    }

    /// Asks until it gets `expected`.
    async fn until(&self, cache: &Cache<u64, String>, key: u64, expected: &str) {
        let until = async {
            while self.get(cache, key).await != expected {
                tokio::task::yield_now().await;
            }
        };
        timeout(HANGS, until).await.expect("it is there in time");
    }
}

/// Asks until the value is in Redis, where it is put behind the caller.
async fn until_there(cache: &Cache<u64, String>, key: u64) {
    let until = async {
        while cache.get(&key).await.is_none() {
            tokio::task::yield_now().await;
        }
    };
    timeout(HANGS, until).await.expect("it is there in time");
}
