//! A node of a cluster, which refuses commands and scripts whose keys are in different slots.

use redis::{RedisResult, Value};

use super::support::*;
use crate::remote::redis::RedisTier;
use crate::remote::{Read, Remote, Target};

const KEYS: u32 = 1_200;

/// A node that has all slots, when it serves keys.
async fn node() -> Option<testkit::OwnRedis> {
    let server = testkit::Redis::start_cluster_node().await?;
    let url = server.url();
    let all = ["CLUSTER", "ADDSLOTSRANGE", "0", "16383"];
    let _: Value = command(&url, &all).await.unwrap();
    let serves = async {
        loop {
            let got: RedisResult<Option<String>> = command(&url, &["GET", "x"]).await;
            if got.is_ok() {
                break;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENT, serves).await.unwrap();
    // It does look.
    let apart: RedisResult<Value> = command(&url, &["MGET", "a", "b"]).await;
    let error = apart.unwrap_err();
    assert_eq!(error.code(), Some("CROSSSLOT"), "{error}");
    Some(server)
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_a_cache_sends_at_once_is_in_one_slot_whatever_its_name_and_keys() {
    let Some(server) = node().await else { return };
    for prefix in ["plain", "with:colon", "{braces}", "}", "{}", ""] {
        let tier = RedisTier::connect(server.url()).await.unwrap();
        let remote = open::<String, u32>(&tier.prefix(prefix).timeout(PATIENT), None);
        // As hash tags, these would be in as many slots.
        let name = |key: u32| format!("{{{key}}}");
        let keys: Vec<String> = (0..KEYS).map(name).collect();
        let fills = remote.read(&keys, true).await.into_iter().zip(&keys);
        let fills = fills.zip(0..).map(|((read, key), value)| match read {
            Read::Missing(lease @ Some(_)) => tagged(key.clone(), value, lease, "{tag}"),
            read => panic!("{read:?}"),
        });
        remote.fill(fills.collect()).await;
        let there = |reads: Vec<Read<u32>>| {
            let values = reads.iter().filter(|read| matches!(read, Read::Value(_)));
            values.count()
        };
        assert_eq!(there(remote.read(&keys, true).await), keys.len());
        // One by one at the same time, so by plain commands of many keys.
        remote.reads().always_plainly();
        let ones = |keys: &[String]| {
            let mut tasks = tokio::task::JoinSet::new();
            for key in keys.iter().cloned() {
                let remote = std::sync::Arc::clone(&remote);
                tasks.spawn(async move { remote.read_one(key).await });
            }
            tasks.join_all()
        };
        assert_eq!(there(ones(&keys).await), keys.len());
        let mut tasks = tokio::task::JoinSet::new();
        for key in 0..600 {
            let (key, remote) = (name(key), std::sync::Arc::clone(&remote));
            tasks.spawn(async move { remote.applied(Target::Key(&key)).await });
        }
        tasks.join_all().await;
        assert_eq!(there(ones(&keys).await), keys.len() - 600);
        remote.insert(fill(keys[0].clone(), 1, None)).await.unwrap();
        remote.applied(Target::Tag("{tag}")).await;
        assert_eq!(there(ones(&keys).await), 1);
        remote.applied(Target::All).await;
        assert_eq!(there(remote.read(&keys, true).await), 0);
        assert!(remote.server().is_up());
    }
}
