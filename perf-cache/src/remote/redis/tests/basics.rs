//! What a tier does while its server works.

use std::time::Duration;

use super::support::*;
use crate::CacheError;
use crate::remote::redis::{Codec, ConnectError, RedisTier};
use crate::remote::{Fill, Invalidation, Read, Remote, Target};

#[tokio::test]
async fn a_value_that_one_process_loaded_is_there_for_all() {
    let Some(tier) = tier().await else { return };
    for codec in [Codec::Postcard, Codec::Json] {
        let tier = tier
            .clone()
            .codec(codec)
            .prefix(format!("{tier:?}{codec:?}"));
        let (one, two): (std::sync::Arc<Texts>, std::sync::Arc<Texts>) =
            (open(&tier, None), open(&tier, None));
        let lease = one.lease(7).await;
        let value = Fill {
            tags: vec!["a".into(), "b".into()],
            etag: Some("e".into()),
            ttl: Some(PATIENT),
            load_time: 3 * MS,
            ..fill(7, "seven".to_owned(), Some(lease))
        };
        one.fill(vec![value]).await;
        let shared = two.shared(7).await.unwrap();
        assert_eq!(*shared.value, "seven");
        let tags: Vec<&str> = shared.tags.iter().map(|tag| &**tag).collect();
        assert_eq!(tags, ["a", "b"]);
        assert_eq!(shared.etag.as_deref(), Some("e"));
        assert_eq!(shared.load_time, 3 * MS);
        assert!(shared.ttl <= PATIENT && shared.ttl > PATIENT / 2);
        assert_eq!(shared.lease.token, lease.token);
    }
}

#[tokio::test]
async fn many_keys_are_read_in_their_order_and_filled_at_once() {
    let Some(tier) = tier().await else { return };
    let remote = open::<u32, u32>(&tier, None);
    let keys: Vec<u32> = (0..1_500).collect();
    let fills = |reads: Vec<Read<u32>>| {
        let fills = reads.into_iter().zip(&keys).map(|(read, key)| match read {
            Read::Missing(lease) => fill(*key, key * 2, lease),
            _ => panic!(),
        });
        fills.filter(|fill| fill.key % 3 != 0).collect::<Vec<_>>()
    };
    remote.fill(fills(remote.read(&keys, true).await)).await;
    for (read, key) in remote.read(&keys, false).await.into_iter().zip(&keys) {
        match read {
            Read::Value(shared) => assert_eq!((*shared.value, key % 3 == 0), (key * 2, false)),
            Read::Missing(None) => assert_eq!(key % 3, 0),
            _ => panic!("{read:?}"),
        }
    }
}

#[tokio::test]
async fn a_fill_is_taken_only_by_the_lease_in_force() {
    let Some(tier) = tier().await else { return };
    let (one, two) = (open::<u32, u32>(&tier, None), open::<u32, u32>(&tier, None));
    let stale = one.lease(1).await;
    two.applied(Target::Key(&1)).await;
    one.fill(vec![fill(1, 10, Some(stale))]).await;
    assert_eq!(two.value(1).await, None);
    // Whoever missed at the same time has the same lease; each may fill, and refresh.
    let [lease, same] = [one.lease(1).await, two.lease(1).await];
    assert_eq!(lease.token, same.token);
    assert_ne!(lease.token, stale.token);
    one.fill(vec![fill(1, 11, Some(lease))]).await;
    assert_eq!(two.value(1).await, Some(11));
    let refresh = two.shared(1).await.unwrap().lease;
    two.fill(vec![fill(1, 12, Some(refresh))]).await;
    assert_eq!(one.value(1).await, Some(12));
    one.fill(vec![fill(1, 10, Some(stale))]).await;
    assert_eq!(one.value(1).await, Some(12));
    // No lease, no fill.
    one.fill(vec![fill(2, 20, None)]).await;
    assert_eq!(one.value(2).await, None);
}

#[tokio::test]
async fn an_invalidation_ends_the_lease_of_a_refresh() {
    let Some(tier) = tier().await else { return };
    let remote = open::<u32, u32>(&tier, None);
    for target in [Target::Key(&1), Target::Expire(&1), Target::All] {
        remote.load(1, 1).await;
        let lease = remote.shared(1).await.unwrap().lease;
        remote.applied(target).await;
        remote.fill(vec![fill(1, 2, Some(lease))]).await;
        assert_eq!(remote.value(1).await, None, "{target:?}");
    }
}

#[tokio::test]
async fn a_tag_invalidates_the_values_that_have_it_and_those_being_loaded() {
    let Some(tier) = tier().await else { return };
    let (one, two) = (open::<u32, u32>(&tier, None), open::<u32, u32>(&tier, None));
    for (key, tag) in [(1, "a"), (2, "b")] {
        let lease = one.lease(key).await;
        one.fill(vec![tagged(key, key, Some(lease), tag)]).await;
    }
    let loading = one.lease(3).await;
    two.applied(Target::Tag("a")).await;
    one.fill(vec![tagged(3, 3, Some(loading), "a")]).await;
    assert_eq!(one.value(1).await, None);
    assert_eq!(one.value(2).await, Some(2));
    assert_eq!(one.value(3).await, None);
    let lease = two.lease(1).await;
    two.fill(vec![tagged(1, 5, Some(lease), "a")]).await;
    assert_eq!(one.value(1).await, Some(5));
    two.applied(Target::All).await;
    assert_eq!(one.value(1).await, None);
    assert_eq!(one.value(2).await, None);
}

#[tokio::test]
async fn an_insertion_replaces_and_voids_leases() {
    let Some(tier) = tier().await else { return };
    let (one, two) = (open::<u32, u32>(&tier, None), open::<u32, u32>(&tier, None));
    let stale = two.lease(1).await;
    for value in [1, 2] {
        let how = one.insert(tagged(1, value, None, "a")).await.unwrap();
        assert_eq!(how, Invalidation::Applied);
        two.fill(vec![fill(1, 9, Some(stale))]).await;
        assert_eq!(two.value(1).await, Some(value));
    }
    one.applied(Target::Tag("a")).await;
    assert_eq!(two.value(1).await, None);
}

#[tokio::test]
async fn what_has_no_time_to_live_is_not_put_there_and_expires_when_it_has() {
    let Some(tier) = tier().await else { return };
    let remote = open::<u32, u32>(&tier, None);
    let ttl = |ttl, key, lease| Fill {
        ttl: Some(ttl),
        ..fill(key, 1, lease)
    };
    remote.load(1, 1).await;
    remote.insert(ttl(Duration::ZERO, 1, None)).await.unwrap();
    assert_eq!(remote.value(1).await, None);
    let lease = remote.lease(2).await;
    remote.fill(vec![ttl(Duration::MAX, 2, Some(lease))]).await;
    assert!(remote.shared(2).await.unwrap().ttl <= Duration::from_secs(900));
    let lease = remote.lease(3).await;
    remote.fill(vec![ttl(30 * MS, 3, Some(lease))]).await;
    while remote.value(3).await.is_some() {}
    let long = open::<u32, u32>(&tier.time_to_live(Duration::MAX), None);
    long.load(4, 4).await;
    assert_eq!(long.value(4).await, Some(4));
}

#[tokio::test]
async fn a_timeout_without_end_is_none() {
    let Some(tier) = tier().await else { return };
    let remote = open::<u32, u32>(&tier.timeout(Duration::MAX), None);
    remote.load(1, 1).await;
    assert_eq!(remote.value(1).await, Some(1));
    remote.insert(fill(1, 2, None)).await.unwrap();
    assert_eq!(remote.value(1).await, Some(2));
}

#[tokio::test]
async fn a_server_that_forgets_is_no_reason_to_serve_what_it_does_not_forget() {
    let Some(server) = testkit::Redis::start().await else {
        return;
    };
    let tier = RedisTier::connect(server.url()).await.unwrap();
    let remote = open::<u32, u32>(&tier.timeout(PATIENT), None);
    let lease = remote.lease(1).await;
    remote.fill(vec![tagged(1, 1, Some(lease), "a")]).await;
    let loading = remote.lease(2).await;
    remote.applied(Target::Tag("a")).await;
    remote.load(3, 3).await;
    let state = remote.state();
    let deleted: u32 = command(&server.url(), &["DEL", &state]).await.unwrap();
    assert_eq!(deleted, 1);
    remote.fill(vec![fill(2, 2, Some(loading))]).await;
    for key in 1..=3 {
        assert_eq!(remote.value(key).await, None, "{key}");
    }
    let _: () = command(&server.url(), &["FLUSHALL"]).await.unwrap();
    remote.load(1, 4).await;
    assert_eq!(remote.value(1).await, Some(4));
}

#[tokio::test]
async fn scripts_that_the_server_forgot_are_brought_again() {
    let Some(server) = testkit::Redis::start().await else {
        return;
    };
    let tier = RedisTier::connect(server.url()).await.unwrap();
    let remote = open::<u32, u32>(&tier.timeout(PATIENT), None);
    let flush = async || {
        command::<()>(&server.url(), &["SCRIPT", "FLUSH"])
            .await
            .unwrap();
    };
    flush().await;
    let lease = remote.lease(1).await;
    flush().await;
    remote.fill(vec![fill(1, 1, Some(lease))]).await;
    assert_eq!(remote.value(1).await, Some(1));
    flush().await;
    remote.applied(Target::Key(&1)).await;
    assert_eq!(remote.value(1).await, None);
}

#[tokio::test]
async fn tags_do_not_fill_the_server() {
    let Some(tier) = tier().await else { return };
    let remote = open::<u32, u32>(&tier, None);
    let lease = remote.lease(1).await;
    remote.fill(vec![tagged(1, 1, Some(lease), "kept")]).await;
    remote.load(2, 2).await;
    for first in (0..12_000).step_by(2_000) {
        let mut tasks = tokio::task::JoinSet::new();
        for tag in first..first + 2_000 {
            let remote = std::sync::Arc::clone(&remote);
            tasks.spawn(async move { remote.applied(Target::Tag(&tag.to_string())).await });
        }
        tasks.join_all().await;
    }
    let url = testkit::Redis::shared().await.unwrap().url();
    let fields: u32 = command(&url, &["HLEN", &remote.state()]).await.unwrap();
    assert!(fields < 10_000, "{fields}");
    // As if all had been invalidated: those with tags are gone, the others are not.
    assert_eq!(remote.value(1).await, None);
    assert_eq!(remote.value(2).await, Some(2));
    let lease = remote.lease(1).await;
    remote.fill(vec![tagged(1, 3, Some(lease), "0")]).await;
    assert_eq!(remote.value(1).await, Some(3));
}

#[tokio::test]
async fn a_key_that_json_does_not_take_is_not_shared() {
    let Some(tier) = tier().await else { return };
    let remote = open::<std::collections::BTreeMap<Vec<u8>, u8>, u32>(&tier, None);
    let key = std::collections::BTreeMap::from([(vec![1], 1)]);
    assert!(matches!(
        remote.read_one(key.clone()).await,
        Read::Missing(None)
    ));
    let error = remote.invalidate(Target::Key(&key)).await.unwrap_err();
    assert!(matches!(error, CacheError::Key { .. }), "{error}");
    let error = remote.insert(fill(key, 1, None)).await.unwrap_err();
    assert!(matches!(error, CacheError::Key { .. }), "{error}");
}

#[tokio::test]
async fn a_tier_that_was_shut_down_does_nothing() {
    let Some(tier) = tier().await else { return };
    let remote = open::<u32, u32>(&tier, None);
    let lease = remote.lease(1).await;
    for _ in 0..2 {
        tokio::time::timeout(PATIENT, remote.shutdown())
            .await
            .unwrap();
    }
    assert!(matches!(remote.read_one(1).await, Read::Unavailable));
    remote.fill(vec![fill(1, 1, Some(lease))]).await;
    let error = remote.invalidate(Target::All).await.unwrap_err();
    assert!(matches!(error, CacheError::Closed), "{error}");
    assert_eq!(open::<u32, u32>(&tier, None).value(1).await, None);
}

#[tokio::test]
async fn errors_of_connecting_say_what_to_do_and_no_password() {
    let Some(server) = testkit::Redis::start().await else {
        return;
    };
    let url = server.url();
    let set = ["CONFIG", "SET", "requirepass", "right"];
    let _: () = command(&url, &set).await.unwrap();
    let with = |user: &str| url.replace("redis://", &format!("redis://{user}@"));
    let error = async |url: String| RedisTier::connect(url).await.unwrap_err();
    let errors = [
        error("http://:secret@x".into()).await,
        error(with(":secret")).await,
        error(url.clone()).await,
        error("redis://:secret@127.0.0.1:1/".into()).await,
    ];
    for (error, start) in errors.iter().zip([
        "not the URL of a Redis server",
        "Redis at 127.0.0.1:",
        "Redis at 127.0.0.1:",
        "no connection to Redis at 127.0.0.1:1",
    ]) {
        let (text, source) = (error.to_string(), std::error::Error::source(error));
        assert!(text.starts_with(start), "{text}");
        let all = format!("{error:?} {text} {source:?}");
        assert!(!all.contains("secret"), "{all}");
    }
    assert!(
        matches!(errors[1], ConnectError::Refused { .. }),
        "{:?}",
        errors[1]
    );
    assert!(
        matches!(errors[2], ConnectError::Refused { .. }),
        "{:?}",
        errors[2]
    );
    let tier = RedisTier::connect(with(":right")).await.unwrap();
    assert!(!format!("{tier:?}").contains("right"));
    open::<u32, u32>(&tier, None).load(1, 1).await;
}
