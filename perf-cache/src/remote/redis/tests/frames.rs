//! Values in Redis that are not what they are taken for.

use std::sync::Arc;

use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use redis::RedisResult;

use super::support::*;
use crate::remote::redis::remote::RedisRemote;
use crate::remote::redis::{Codec, RedisTier, RemoteMeters};
use crate::remote::{Read, Remote, Target};

fn of_schema(tier: &RedisTier, schema: u32) -> std::sync::Arc<RedisRemote<u32, u64>> {
    let meters = std::sync::Arc::new(RemoteMeters::new("c"));
    RedisRemote::open(tier.clone(), None, "c", schema, meters)
}

#[tokio::test]
async fn old_foreign_and_corrupt_values_are_missing_and_can_be_replaced() {
    let Some(tier) = tier().await else { return };
    let url = testkit::Redis::shared().await.unwrap().url();
    let (old, new) = (of_schema(&tier, 1), of_schema(&tier, 2));
    old.load(1, 1).await;
    assert_eq!(new.value(1).await, None);
    new.load(1, 2).await;
    assert_eq!(new.value(1).await, Some(2));
    assert_eq!(old.value(1).await, None);

    let name = String::from_utf8(new.name(&1)).unwrap();
    let long = "x".repeat(100);
    for broken in [
        &["SET", &name, ""][..],
        &["SET", &name, "short"],
        &["SET", &name, "as long as leases"],
        &["SET", &name, &long],
        &["SETRANGE", &name, "30", "xxx"],
        &["SETRANGE", &name, "24", "xxx"],
        &["SETRANGE", &name, "32", "x"],
        &["SETRANGE", &name, "60", "x"],
        &["APPEND", &name, "x"],
        &["DEL", &name],
        &["HSET", &name, "a", "b"],
    ] {
        let _: redis::Value = command(&url, broken).await.unwrap();
        if broken[0] == "DEL" {
            continue;
        }
        assert_eq!(new.value(1).await, None, "{broken:?}");
        new.load(1, 3).await;
        assert_eq!(new.value(1).await, Some(3), "{broken:?}");
    }
    // When it expires is not part of the frame.
    let _: u32 = command(&url, &["SETRANGE", &name, "16", "xxx"])
        .await
        .unwrap();
    let shared = new.shared(1).await.unwrap();
    assert_eq!((*shared.value, shared.ttl), (3, tier.ttl));
}

#[tokio::test]
async fn a_value_of_ten_megabytes_and_an_empty_one() {
    let Some(tier) = tier().await else { return };
    for tier in [tier.clone(), tier.compress_above(1_024)] {
        let remote = open::<u32, Vec<u8>>(&tier, None);
        let mut large = vec![0; 10 << 20];
        fastrand::Rng::with_seed(1).fill(&mut large[..5 << 20]);
        remote.insert(fill(1, large.clone(), None)).await.unwrap();
        assert!(remote.value(1).await.unwrap() == large);
        remote.insert(fill(1, Vec::new(), None)).await.unwrap();
        assert_eq!(remote.value(1).await, Some(Vec::new()));
    }
}

/// Whichever way a process writes, the others read it.
#[tokio::test]
async fn values_above_a_size_are_compressed_in_redis_in_either_codec() {
    let Some(tier) = tier().await else { return };
    let url = testkit::Redis::shared().await.unwrap().url();
    let below = "{\"name\": \"x\"} ".repeat(40);
    let above = below.repeat(150);
    assert!(below.len() < 1_024 && above.len() > 50 * 1_024);
    let other = open::<u32, String>(&tier, None);
    for codec in [Codec::Postcard, Codec::Json] {
        for compress in [false, true] {
            let mut tier = tier.clone().codec(codec);
            if compress {
                tier = tier.compress_above(1_024);
            }
            let remote = open::<u32, String>(&tier, None);
            let length = async |key: u32| {
                let name = String::from_utf8(remote.name(&key)).unwrap();
                let length: RedisResult<usize> = command(&url, &["STRLEN", &name]).await;
                length.unwrap()
            };
            for (key, value) in [(1, &below), (2, &above)] {
                remote.applied(Target::Key(&key)).await;
                remote.load(key, value.clone()).await;
                // By this one, by the script and plainly, and by one that writes otherwise.
                for _ in 0..6 {
                    assert_eq!(remote.value(key).await.as_ref(), Some(value));
                }
                assert_eq!(other.value(key).await.as_ref(), Some(value));
            }
            assert!(length(1).await > below.len(), "{codec:?}");
            match compress {
                true => assert!(length(2).await < above.len() / 50, "{codec:?}"),
                false => assert!(length(2).await > above.len(), "{codec:?}"),
            }
            // What stands there is JSON, behind a lease and a head, or it is not.
            let name = String::from_utf8(remote.name(&1)).unwrap();
            let stored: Vec<u8> = command(&url, &["GET", &name]).await.unwrap();
            let json = serde_json::to_vec(&below).unwrap();
            assert_eq!(stored.ends_with(&json), codec == Codec::Json);
        }
    }
}

/// Panics when it is read, if it is written so.
#[derive(Debug, Clone, PartialEq)]
struct Touchy(bool);

impl serde::Serialize for Touchy {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bool(self.0)
    }
}

impl<'de> serde::Deserialize<'de> for Touchy {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let panics = bool::deserialize(from)?;
        assert!(!panics, "of a value that was read");
        Ok(Self(panics))
    }
}

/// It was `Closed` for who asked, as if the cache had ended.
#[tokio::test]
async fn a_value_whose_reading_panics_is_missing_and_loaded() {
    let Some(tier) = tier().await else { return };
    let writer = open::<u32, Touchy>(&tier, None);
    let recorder = DebuggingRecorder::new();
    let metrics = recorder.snapshotter();
    let meters = metrics::with_local_recorder(&recorder, || Arc::new(RemoteMeters::new("c")));
    let reader = RedisRemote::<u32, Touchy>::open(tier.clone(), None, "c", 1, meters);
    reader.reads().always_plainly();
    let cache = crate::Cache::builder("c")
        .max_capacity(0)
        .remote(reader, None);
    let cache = cache.build().await.unwrap();
    for key in 0..3 {
        writer.insert(fill(key, Touchy(true), None)).await.unwrap();
    }
    let load = async |_| Ok::<_, std::convert::Infallible>(Touchy(false));
    assert_eq!(*cache.get_or_load(&0, load).await.unwrap(), Touchy(false));
    assert_eq!(cache.get(&1).await, None);
    let load_all = async |keys: Vec<u32>| {
        Ok::<_, std::convert::Infallible>(keys.into_iter().map(|key| (key, Touchy(false))))
    };
    let many = cache.get_many(&[2], load_all).await.unwrap();
    assert_eq!(*many[&2], Touchy(false));
    let stats = cache.stats();
    assert_eq!(
        (stats.remote_hits, stats.remote_misses),
        (0, 3),
        "{stats:?}"
    );
    assert_eq!((stats.loads, stats.loads_failed), (2, 0), "{stats:?}");
    let errors = metrics.snapshot().into_vec().into_iter();
    let errors = errors.map(|(.., value)| match value {
        DebugValue::Counter(errors) => errors,
        _ => 0,
    });
    assert_eq!(errors.sum::<u64>(), 3);
}

#[tokio::test]
async fn a_value_that_cannot_be_written_is_not_there() {
    let Some(tier) = tier().await else { return };
    let remote = open::<u32, u32>(&tier, None);
    let lease = remote.lease(1).await;
    let tag = "x".repeat(70_000);
    remote.fill(vec![tagged(1, 1, Some(lease), &tag)]).await;
    assert!(matches!(remote.read_one(1).await, Read::Missing(Some(_))));
}
