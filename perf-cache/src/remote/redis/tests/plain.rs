//! Reads by plain commands, which most are once values are there.

use redis::Value;

use super::support::*;
use crate::remote::redis::RedisTier;
use crate::remote::{Lease, Read, Remote, Target};

/// How often the server has run a command.
async fn runs(url: &str, command_name: &str) -> u64 {
    let stats: String = command(url, &["INFO", "commandstats"]).await.unwrap();
    let start = format!("cmdstat_{command_name}:calls=");
    let line = stats.lines().find_map(|line| line.strip_prefix(&start));
    let calls = line.and_then(|line| line.split(',').next());
    calls.map_or(0, |calls| calls.parse().unwrap())
}

/// What is there, comparable: the value and its tags, or the lease's token if there is nothing.
fn seen(read: &Read<u32>) -> (Option<(u32, usize)>, Option<[u8; 16]>) {
    match read {
        Read::Value(shared) => (Some((*shared.value, shared.tags.len())), None),
        Read::Missing(lease) => (None, lease.map(|lease| lease.token)),
        Read::Unavailable => panic!("unavailable"),
    }
}

#[tokio::test]
async fn values_that_are_there_are_read_without_the_script() {
    let Some(server) = testkit::Redis::start().await else {
        return;
    };
    let tier = RedisTier::connect(server.url()).await.unwrap();
    let remote = open::<u32, u32>(&tier.timeout(PATIENT), None);
    remote.load(1, 1).await;
    let lease = remote.lease(2).await;
    remote.fill(vec![tagged(2, 2, Some(lease), "a")]).await;
    for _ in 0..10 {
        assert_eq!(remote.value(1).await, Some(1));
    }
    let scripts = runs(&server.url(), "evalsha").await;
    let plain = runs(&server.url(), "mget").await;
    for _ in 0..50 {
        assert_eq!(remote.value(1).await, Some(1));
        assert_eq!(remote.value(2).await, Some(2));
    }
    assert_eq!(runs(&server.url(), "evalsha").await, scripts);
    assert_eq!(runs(&server.url(), "mget").await, plain + 100);
    // And again by the script, which gives leases, where most are missing.
    for key in 100..110 {
        remote.lease(key).await;
    }
    let plain = runs(&server.url(), "hmget").await;
    let scripts = runs(&server.url(), "evalsha").await;
    for key in 110..120 {
        remote.lease(key).await;
    }
    assert_eq!(runs(&server.url(), "evalsha").await, scripts + 10);
    // The script's own.
    assert_eq!(runs(&server.url(), "hmget").await, plain + 10);
}

#[tokio::test]
async fn what_is_invalidated_is_not_read_plainly_and_comes_with_the_lease_for_what_is_loaded_now() {
    let Some(tier) = tier().await else { return };
    let (one, two) = (open::<u32, u32>(&tier, None), open::<u32, u32>(&tier, None));
    one.reads().always_plainly();
    for target in [
        Target::Key(&1),
        Target::Expire(&1),
        Target::Tag("a"),
        Target::All,
    ] {
        let lease = one.lease(1).await;
        one.fill(vec![tagged(1, 1, Some(lease), "a")]).await;
        one.load(2, 2).await;
        assert_eq!(one.value(1).await, Some(1), "{target:?}");
        let old = one.shared(1).await.unwrap().lease;
        two.applied(target).await;
        let lease = one.lease(1).await;
        // What a refresh that began before has is not taken, what is loaded now is.
        one.fill(vec![tagged(1, 3, Some(old), "a")]).await;
        assert_eq!(one.value(1).await, None, "{target:?}");
        one.fill(vec![tagged(1, 4, Some(lease), "a")]).await;
        assert_eq!(one.value(1).await, Some(4), "{target:?}");
        let other = matches!(target, Target::All).then_some(None);
        assert_eq!(one.value(2).await, other.unwrap_or(Some(2)), "{target:?}");
        two.applied(Target::All).await;
    }
}

#[tokio::test]
async fn a_tag_of_others_does_not_hide_a_value_nor_does_one_that_is_forgotten_keep_it() {
    let Some(server) = testkit::Redis::start().await else {
        return;
    };
    let tier = RedisTier::connect(server.url()).await.unwrap();
    let remote = open::<u32, u32>(&tier.timeout(PATIENT), None);
    remote.reads().always_plainly();
    let lease = remote.lease(1).await;
    remote.fill(vec![tagged(1, 1, Some(lease), "a")]).await;
    remote.applied(Target::Tag("b")).await;
    let scripts = runs(&server.url(), "evalsha").await;
    assert_eq!(remote.value(1).await, Some(1));
    assert_eq!(runs(&server.url(), "evalsha").await, scripts + 1);
    // As the script does it when there are too many tags.
    let (url, state) = (server.url(), remote.state());
    let sequence: String = command(&url, &["HGET", &state, "seq"]).await.unwrap();
    let next = (sequence.parse::<u64>().unwrap() + 1).to_string();
    let forget = ["seq", &next, "tagged", &next, "forgotten", &next];
    let _: u32 = command(&url, &[&["HSET", &state][..], &forget].concat())
        .await
        .unwrap();
    assert_eq!(remote.value(1).await, None);
}

#[tokio::test]
async fn plain_reads_and_the_script_see_the_same_whatever_happened() {
    let Some(tier) = tier().await else { return };
    let url = testkit::Redis::shared().await.unwrap().url();
    let remote = open::<u32, u32>(&tier, None);
    remote.reads().always_plainly();
    let keys: Vec<u32> = (0..6).collect();
    let mut leases: Vec<(u32, Lease)> = Vec::new();
    let mut random = fastrand::Rng::with_seed(7);
    let (mut there, mut missing) = (0, 0);
    for round in 0..1_500 {
        let key = random.u32(..6);
        let tag = ["", "a", "b"][random.usize(..3)];
        match random.u8(..20) {
            0 => remote.applied(Target::All).await,
            1 | 2 => remote.applied(Target::Tag("a")).await,
            3 | 4 => remote.applied(Target::Key(&key)).await,
            5 if random.bool() => {
                let _: Value = command(&url, &["DEL", &remote.state()]).await.unwrap();
            }
            6 => {
                let name = String::from_utf8(remote.name(&key)).unwrap();
                let at = random.u32(..40).to_string();
                let broken = ["SETRANGE", name.as_str(), &at, "x"];
                let _: Value = command(&url, &broken).await.unwrap();
            }
            7 => {
                remote.insert(tagged(key, round, None, tag)).await.unwrap();
            }
            8..12 => leases.push((key, lease_of(remote.read_one(key).await))),
            _ if leases.is_empty() => (),
            _ => {
                let (key, lease) = leases.swap_remove(random.usize(..leases.len()));
                let fill = match tag {
                    "" => fill(key, round, Some(lease)),
                    tag => tagged(key, round, Some(lease), tag),
                };
                remote.fill(vec![fill]).await;
            }
        }
        // Keys that are read together are read by the script.
        let by_script = remote.read(&keys, true).await;
        for (key, by_script) in keys.iter().zip(&by_script) {
            let plainly = remote.read_one(*key).await;
            assert_eq!(seen(&plainly), seen(by_script), "round {round}, key {key}");
            match plainly {
                Read::Value(_) => there += 1,
                _ => missing += 1,
            }
            let looked = remote.look(*key, false).await;
            assert_eq!(
                seen(&looked).0,
                seen(by_script).0,
                "round {round}, key {key}"
            );
        }
    }
    assert!(there > 1_000 && missing > 1_000, "{there} {missing}");
}

fn lease_of(read: Read<u32>) -> Lease {
    match read {
        Read::Value(shared) => shared.lease,
        Read::Missing(Some(lease)) => lease,
        read => panic!("{read:?}"),
    }
}

/// What it has may be behind, for as long as it takes until it is noticed.
#[tokio::test]
async fn a_server_that_has_become_a_replica_is_not_read_from() {
    let Some(server) = testkit::Redis::start().await else {
        return;
    };
    let tier = RedisTier::connect(server.url()).await.unwrap();
    let remote = open::<u32, u32>(&tier.timeout(PATIENT), None);
    remote.reads().always_plainly();
    remote.load(1, 1).await;
    assert_eq!(remote.value(1).await, Some(1));
    let replica = ["REPLICAOF", "127.0.0.1", "1"];
    let _: Value = command(&server.url(), &replica).await.unwrap();
    assert!(matches!(remote.read_one(1).await, Read::Unavailable));
    assert!(!remote.server().is_up());
}
