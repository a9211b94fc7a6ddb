//! Servers that are set up in other ways.

use super::faults::command;
use super::support::*;
use crate::remote::{How, Remote, Rules};
use crate::{BackendError, Redis};

#[tokio::test]
async fn a_server_that_evicts_is_refused_unless_that_is_accepted() {
    let Some(own) = testkit::Redis::start().await else {
        return;
    };
    let url = own.url();
    for words in [
        ["CONFIG", "SET", "maxmemory", "1gb"],
        ["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"],
    ] {
        command::<()>(&url, &words).await.unwrap();
    }
    let error = Redis::connect(&url).open("q", None).await.unwrap_err();
    let BackendError::Unfit { reason, .. } = error else {
        panic!("{error}")
    };
    assert!(
        reason.contains("set maxmemory-policy noeviction"),
        "{reason}"
    );
    let accepted = Redis::connect(&url).allow_data_loss().open("q", None).await;
    accepted.unwrap().add(&jobs("k", 0..1)).await;
    command::<()>(&url, &["CONFIG", "SET", "maxmemory-policy", "noeviction"])
        .await
        .unwrap();
    Redis::connect(&url).open("q", None).await.unwrap();
}

#[tokio::test]
async fn a_server_whose_settings_are_hidden_is_taken() {
    let Some(own) = testkit::Redis::start().await else {
        return;
    };
    let words = "ACL SETUSER user on >pw ~* &* +@all -config -info";
    let words: Vec<&str> = words.split(' ').collect();
    command::<()>(&own.url(), &words).await.unwrap();
    let url = own.url().replace("redis://", "redis://user:pw@");
    let remote = Redis::connect(url).open("q", None).await.unwrap();
    remote.add(&jobs("k", 0..1)).await;
    assert_eq!(remote.claim(1).await.granted.len(), 1);
    let url = own.url().replace("redis://", "redis://user:wrong@");
    let error = Redis::connect(url).open("q", None).await.unwrap_err();
    assert!(!error.is_retryable(), "{error}");
}

#[tokio::test]
async fn a_server_whose_memory_is_full_takes_no_jobs_and_ends_those_that_it_has() {
    let Some(own) = testkit::Redis::start().await else {
        return;
    };
    let remote = Redis::connect(own.url()).open("q", None).await.unwrap();
    remote.add(&jobs("k", 0..4)).await;
    command::<()>(&own.url(), &["CONFIG", "SET", "maxmemory", "1"])
        .await
        .unwrap();
    let error = remote.enqueue(&jobs("k", 4..5)).await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    let granted = remote.claim(2).await.granted;
    assert!(
        remote
            .extend(&[granted[0].lease], LEASE)
            .await
            .unwrap()
            .is_empty()
    );
    remote.settle(granted[0].lease, How::Done).await;
    remote.settle(granted[1].lease, retry(LONG)).await;
    let counts = remote.counts().await.unwrap();
    assert_eq!((counts.ready, counts.scheduled), (2, 1));
    command::<()>(&own.url(), &["CONFIG", "SET", "maxmemory", "0"])
        .await
        .unwrap();
    remote.add(&jobs("k", 4..5)).await;
}

#[tokio::test]
async fn a_server_that_evicts_is_found_out_though_its_settings_are_hidden() {
    let Some(own) = testkit::Redis::start().await else {
        return;
    };
    for words in [
        "ACL SETUSER user on >pw ~* &* +@all -config",
        "CONFIG SET maxmemory 1gb",
        "CONFIG SET maxmemory-policy volatile-lru",
    ] {
        let words: Vec<&str> = words.split(' ').collect();
        command::<()>(&own.url(), &words).await.unwrap();
    }
    let url = own.url().replace("redis://", "redis://user:pw@");
    let error = Redis::connect(&url).open("q", None).await.unwrap_err();
    assert!(error.to_string().contains("noeviction"), "{error}");
    Redis::connect(&url)
        .allow_data_loss()
        .open("q", None)
        .await
        .unwrap();
}

/// Jobs of others are found by asking.
#[tokio::test]
async fn a_server_that_forbids_channels_keeps_and_gives_jobs() {
    let Some(own) = testkit::Redis::start().await else {
        return;
    };
    let words = "ACL SETUSER user on >pw ~* resetchannels +@all";
    let words: Vec<&str> = words.split(' ').collect();
    command::<()>(&own.url(), &words).await.unwrap();
    let url = own.url().replace("redis://", "redis://user:pw@");
    let rules = Rules {
        queue: Some(quota(100, 1_000 * MS, 1)),
        ..Rules::default()
    };
    let remote = Redis::connect(&url).open("q", Some(&rules)).await.unwrap();
    remote.pause(true).await.unwrap();
    remote.pause(false).await.unwrap();
    let other = Redis::connect(&url).open("q", None).await.unwrap();
    for n in 0..3 {
        remote.add(&jobs("k", n..n + 1)).await;
        let one = other.claim_some(1).await.granted;
        assert_eq!(one.len(), 1);
        other.settle(one[0].lease, How::Done).await;
    }
    let counts = other.counts().await.unwrap();
    assert_eq!((counts.ready, counts.in_flight), (0, 0));
}
