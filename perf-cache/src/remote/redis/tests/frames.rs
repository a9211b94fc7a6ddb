//! Values in Redis that are not what they are taken for.

use super::support::*;
use crate::remote::redis::remote::RedisRemote;
use crate::remote::redis::{RedisTier, RemoteMeters};
use crate::remote::{Read, Remote};

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

#[tokio::test]
async fn a_value_that_cannot_be_written_is_not_there() {
    let Some(tier) = tier().await else { return };
    let remote = open::<u32, u32>(&tier, None);
    let lease = remote.lease(1).await;
    let tag = "x".repeat(70_000);
    remote.fill(vec![tagged(1, 1, Some(lease), &tag)]).await;
    assert!(matches!(remote.read_one(1).await, Read::Missing(Some(_))));
}
