use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;

use crate::remote::redis::remote::RedisRemote;
use crate::remote::redis::{RedisBus, RedisTier, RemoteMeters};
use crate::remote::{Fill, Invalidation, Lease, Read, Remote, Shared, Target};

pub(super) const MS: Duration = Duration::from_millis(1);
/// Longer than a loaded machine is ever late.
pub(super) const PATIENT: Duration = Duration::from_secs(10);

pub(super) type Texts = RedisRemote<u32, String>;

/// How reads go to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    ByWires,
    /// As where there can be no wires.
    ByTheClient,
}

impl Way {
    pub(super) fn of(self, mut tier: RedisTier) -> RedisTier {
        if self == Self::ByTheClient {
            tier.links = Arc::new(tier.links.without_wires());
        }
        tier
    }
}

impl Way {
    /// How many a link has.
    pub(super) const fn connections(self) -> u64 {
        match self {
            Self::ByWires => 3,
            Self::ByTheClient => 1,
        }
    }
}

/// Makes each a test of its own, for each way.
macro_rules! in_each_way {
    ($($name:ident,)*) => {
        mod by_wires {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(super::Way::ByWires).await;
            })*
        }

        mod by_the_client {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(super::Way::ByTheClient).await;
            })*
        }
    };
}
pub(super) use in_each_way;

/// A tier on the shared server below a prefix of its own.
pub(super) async fn tier() -> Option<RedisTier> {
    let server = testkit::Redis::shared().await?;
    let tier = RedisTier::connect(server.url()).await.unwrap();
    Some(tier.prefix(server.prefix()).timeout(PATIENT))
}

pub(super) fn open<K, V>(tier: &RedisTier, bus: Option<RedisBus>) -> Arc<RedisRemote<K, V>>
where
    V: DeserializeOwned + Send + Sync + 'static,
{
    let meters = Arc::new(RemoteMeters::new("c"));
    RedisRemote::open(tier.clone(), bus, "c", 1, meters)
}

pub(super) fn fill<K, V>(key: K, value: V, lease: Option<Lease>) -> Fill<K, V> {
    Fill {
        key,
        value: Arc::new(value),
        tags: Vec::new(),
        etag: None,
        ttl: None,
        load_time: Duration::ZERO,
        lease,
    }
}

pub(super) fn tagged<K, V>(key: K, value: V, lease: Option<Lease>, tag: &str) -> Fill<K, V> {
    Fill {
        tags: vec![tag.into()],
        ..fill(key, value, lease)
    }
}

/// Sends a command of which each word is text, on a connection of its own.
pub(super) async fn command<T: redis::FromRedisValue>(
    url: &str,
    words: &[&str],
) -> redis::RedisResult<T> {
    let client = redis::Client::open(url).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await?;
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]).query_async(&mut connection).await
}

impl<K, V> RedisRemote<K, V>
where
    RedisRemote<K, V>: Remote<K, V>,
    K: Serialize + DeserializeOwned + Sync,
    V: Clone + Send + Sync + 'static,
{
    pub(super) fn state(&self) -> String {
        self.keys().state()
    }

    pub(super) fn bus_name(&self) -> String {
        self.keys().bus()
    }

    pub(super) fn name(&self, key: &K) -> Vec<u8> {
        self.keys().value(key).unwrap()
    }

    pub(super) async fn read_one(self: &Arc<Self>, key: K) -> Read<V> {
        self.look(key, true).await
    }

    pub(super) async fn look(self: &Arc<Self>, key: K, lease: bool) -> Read<V> {
        let (answer, answered) = oneshot::channel();
        let then = move |read| drop(answer.send(read));
        Remote::read_then(Arc::clone(self), &key, lease, Box::new(then));
        answered.await.expect("each read is told")
    }

    pub(super) async fn shared(self: &Arc<Self>, key: K) -> Option<Shared<V>> {
        match self.read_one(key).await {
            Read::Value(shared) => Some(shared),
            Read::Missing(_) => None,
            Read::Unavailable => panic!("unavailable"),
        }
    }

    pub(super) async fn value(self: &Arc<Self>, key: K) -> Option<V> {
        Some((*self.shared(key).await?.value).clone())
    }

    /// The lease of a key that is missing.
    pub(super) async fn lease(self: &Arc<Self>, key: K) -> Lease {
        match self.read_one(key).await {
            Read::Missing(Some(lease)) => lease,
            Read::Missing(None) => panic!("no lease"),
            Read::Value(_) => panic!("not missing"),
            Read::Unavailable => panic!("unavailable"),
        }
    }

    /// Loads a key that is missing.
    pub(super) async fn load(self: &Arc<Self>, key: K, value: V)
    where
        K: Clone,
    {
        let lease = self.lease(key.clone()).await;
        self.fill(vec![fill(key, value, Some(lease))]).await;
    }

    pub(super) async fn applied(&self, target: Target<'_, K>) {
        let how = self.invalidate(target).await.unwrap();
        assert_eq!(how, Invalidation::Applied);
    }
}
