//! Users of the server who may do all that is needed, and those who lack something of it.

use std::sync::Arc;
use std::time::Duration;

use testkit::OwnRedis;
use tokio::time::{Instant, timeout};
use tracing::Level;

use super::logs::{Log, Said};
use super::support::*;
use crate::remote::redis::error::NEEDED;
use crate::remote::redis::remote::RedisRemote;
use crate::remote::redis::{RedisBus, RedisTier};
use crate::remote::{Local, Read, Remote, Target};

const BUS: RedisBus = RedisBus::new()
    .heartbeat(Duration::from_millis(50))
    .timeout(Duration::from_secs(5));

/// Nothing is kept.
struct Nowhere;

impl Local<u32> for Nowhere {
    fn invalidated(&self, _: Target<'_, u32>) {}
    fn trusted_until(&self, _: Instant) {}
    fn gap(&self) {}
}

/// Makes a user who may do this, and says the URL of the tier.
async fn user(server: &OwnRedis, name: &str, rules: &str) -> String {
    let address = super::address_of(server);
    let prefix = [format!("~{{{name}:*"), format!("&{{{name}:*")];
    let mut words = vec!["ACL", "SETUSER", name, "reset", "on", ">secret"];
    words.extend(prefix.iter().map(String::as_str));
    words.extend(rules.split_whitespace());
    let () = command(&server.url(), &words).await.unwrap();
    format!("redis://{name}:secret@{address}")
}

/// What the server has refused a user, but what a client says of itself when it connects.
async fn refused(server: &OwnRedis, name: &str) -> Vec<String> {
    let log: Vec<std::collections::HashMap<String, redis::Value>> =
        command(&server.url(), &["ACL", "LOG", "1000"])
            .await
            .unwrap();
    let text =
        |value: &redis::Value| redis::from_redis_value::<String>(value.clone()).unwrap_or_default();
    let entries = log.iter().filter(|entry| text(&entry["username"]) == name);
    let what = entries.map(|entry| text(&entry["object"]));
    what.filter(|what| what != "client|setinfo").collect()
}

async fn open_as(url: &str, name: &str) -> Result<Arc<RedisRemote<u32, u32>>, crate::ConnectError> {
    let tier = RedisTier::connect(url).await?;
    Ok(open(&tier.prefix(name).timeout(PATIENT), Some(BUS)))
}

/// All that a cache does with its tier.
async fn all(remote: &Arc<RedisRemote<u32, u32>>) -> Option<()> {
    remote.reads().always_plainly();
    let Read::Missing(Some(_)) = remote.read_one(1).await else {
        return None;
    };
    let Read::Missing(Some(lease)) = remote.read_one(1).await else {
        return None;
    };
    remote.fill(vec![tagged(1, 1, Some(lease), "a")]).await;
    for target in [Target::Tag("b"), Target::Key(&2), Target::Expire(&2)] {
        remote.applied_or_not(target).await?;
        let Read::Value(_) = remote.read_one(1).await else {
            return None;
        };
    }
    remote.insert(fill(3, 3, None)).await.ok()?;
    remote.applied_or_not(Target::All).await
}

impl RedisRemote<u32, u32> {
    async fn applied_or_not(&self, target: Target<'_, u32>) -> Option<()> {
        match self.invalidate(target).await.ok()? {
            crate::Invalidation::Applied => Some(()),
            crate::Invalidation::Deferred => None,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_may_do_what_the_docs_say_is_refused_nothing() {
    let Some(server) = testkit::Redis::start().await else {
        return;
    };
    let url = user(&server, "all", NEEDED).await;
    let remote = open_as(&url, "all").await.unwrap();
    let local: Arc<dyn Local<u32>> = Arc::new(Nowhere);
    remote.listen(Arc::downgrade(&local));
    timeout(PATIENT, remote.listening()).await.unwrap();
    assert_eq!(all(&remote).await, Some(()));
    assert_eq!(refused(&server, "all").await, Vec::<String>::new());
}

#[test]
fn the_docs_say_what_is_needed() {
    assert!(include_str!("../../../../README.md").contains(NEEDED));
}

/// So that there is nothing in the docs that is not needed.
#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_lacks_anything_of_it_is_refused_that() {
    let Some(server) = testkit::Redis::start().await else {
        return;
    };
    for (number, lacks) in NEEDED.split_whitespace().enumerate() {
        let name = format!("lacks{number}");
        let rules = NEEDED.split_whitespace().filter(|rule| *rule != lacks);
        let url = user(&server, &name, &rules.collect::<Vec<_>>().join(" ")).await;
        let local: Arc<dyn Local<u32>> = Arc::new(Nowhere);
        let remote = open_as(&url, &name).await.ok();
        if let Some(remote) = &remote {
            remote.listen(Arc::downgrade(&local));
            let _ = all(remote).await;
        }
        let lacks = lacks.trim_start_matches('+');
        let refused = async {
            while !refused(&server, &name).await.contains(&lacks.to_owned()) {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENT, refused)
            .await
            .unwrap_or_else(|_| panic!("{lacks} is not needed"));
    }
}

/// What was warned of.
fn warnings(log: &Log) -> Vec<Said> {
    let mut said = log.take();
    said.retain(|said| said.level == Level::WARN);
    said
}

/// On one thread, so that the subscriber is that of all tasks.
#[tokio::test]
async fn what_a_user_lacks_is_said_once_and_the_tier_is_left_alone() {
    let Some(server) = testkit::Redis::start().await else {
        return;
    };
    let log = Log::start();
    let url = user(&server, "cache", &NEEDED.replace("+mget", "-mget")).await;
    let tier = RedisTier::connect(url).await.unwrap();
    let remote = open::<u32, u32>(&tier.prefix("cache").timeout(PATIENT), None);
    remote.reads().always_plainly();
    // Far longer than a link that is lost stays away.
    let until = Instant::now() + Duration::from_secs(2);
    let mut reads = 0_u64;
    while Instant::now() < until {
        assert!(matches!(remote.read_one(1).await, Read::Unavailable));
        reads += 1;
        tokio::time::sleep(MS).await;
    }
    assert!(reads > 1);
    assert_eq!(refused(&server, "cache").await, ["mget"]);
    let said = warnings(&log);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].fields["reason"].contains("'mget'"), "{said:?}");
    assert_eq!(said[0].fields["needed"], NEEDED);
    // Of anything else it is said why, too.
    let url = server.url();
    let tier = RedisTier::connect(&url).await.unwrap();
    let other = open::<u32, u32>(&tier.prefix("other").timeout(300 * MS), None);
    let _ = other.read_one(1).await;
    server.stop().await;
    let said = async {
        loop {
            let said = warnings(&log);
            if !said.is_empty() {
                break said;
            }
            let _ = other.read_one(1).await;
            tokio::task::yield_now().await;
        }
    };
    let said = timeout(PATIENT, said).await.unwrap();
    let message = &said[0].fields["message"];
    assert!(message.contains("cannot be used"), "{said:?}");
    assert!(said[0].fields.contains_key("reason"), "{said:?}");
}
