//! That the connections for reads are as good as the other.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::timeout;

use super::support::*;
use crate::remote::redis::RedisTier;
use crate::remote::redis::error::NEEDED;
use crate::remote::redis::remote::RedisRemote;
use crate::remote::{Remote, Target};

impl<V: serde::de::DeserializeOwned + Send + Sync + 'static> RedisRemote<u32, V> {
    fn free_wires(&self) -> usize {
        self.server().link().unwrap().wires().free()
    }
}

async fn is_of_use(remote: &Arc<RedisRemote<u32, u32>>) {
    assert_eq!(remote.free_wires(), 2);
    remote.load(1, 10).await;
    remote.reads().always_plainly();
    for key in [1, 2] {
        assert_eq!(remote.value(key).await, (key == 1).then_some(10));
    }
    assert_eq!(remote.free_wires(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn they_log_in_choose_the_database_and_speak_the_older_protocol() {
    let Some(server) = testkit::Redis::start().await else {
        return;
    };
    let rules = format!("ACL SETUSER reader reset on >p%w ~* &* +select {NEEDED}");
    let words: Vec<&str> = rules.split(' ').filter(|word| !word.is_empty()).collect();
    let () = command(&server.url(), &words).await.unwrap();
    let address = super::address_of(&server);
    for query in ["", "?protocol=resp3"] {
        let url = format!("redis://reader:p%25w@{address}/3{query}");
        let tier = RedisTier::connect(&url).await.unwrap().timeout(PATIENT);
        let remote = open::<u32, u32>(&tier, None);
        remote.applied(Target::All).await;
        is_of_use(&remote).await;
        let name = String::from_utf8(remote.name(&1)).unwrap();
        for (database, there) in [(3, 1), (0, 0)] {
            let url = format!("redis://{address}/{database}");
            let exists: u32 = command(&url, &["EXISTS", &name]).await.unwrap();
            assert_eq!(exists, there, "{database}");
        }
        remote.shutdown().await;
    }
    let url = format!("redis://reader:wrong@{address}/3");
    let error = RedisTier::connect(&url).await.map(drop).unwrap_err();
    assert!(
        matches!(error, crate::ConnectError::Refused { .. }),
        "{error}"
    );
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn they_go_through_a_unix_socket() {
    let Some(server) = testkit::Redis::start().await else {
        return;
    };
    let address = super::address_of(&server);
    let path = std::env::temp_dir().join(testkit::unique("perf-cache-unix"));
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let relay = tokio::spawn(async move {
        let mut relays = JoinSet::new();
        while let Ok((mut here, _)) = listener.accept().await {
            let mut there = tokio::net::TcpStream::connect(&address).await.unwrap();
            relays.spawn(async move { tokio::io::copy_bidirectional(&mut here, &mut there).await });
        }
    });
    let url = format!("redis+unix://{}", path.display());
    let tier = RedisTier::connect(&url).await.unwrap().timeout(PATIENT);
    is_of_use(&open(&tier, None)).await;
    relay.abort();
    std::fs::remove_file(&path).unwrap();
}

/// One that was left in the middle is not used again: the rest of its answer may still come.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_never_taken_for_that_of_another_read() {
    let Some(server) = testkit::Redis::start().await else {
        return;
    };
    let proxy = testkit::Proxy::start(super::address_of(&server)).await;
    let tier = RedisTier::connect(proxy.url(&server.url())).await.unwrap();
    let tier = tier.timeout(PATIENT);
    let (ends, stays) = (open::<u32, u32>(&tier, None), open::<u32, u32>(&tier, None));
    for key in 0..20 {
        stays.load(key, key).await;
    }
    stays.reads().always_plainly();
    proxy.delay(Duration::from_millis(50));
    // The same connections, of which this one leaves some in the middle.
    let mut reads = JoinSet::new();
    for key in 0..10 {
        let ends = Arc::clone(&ends);
        reads.spawn(async move { ends.read_one(key).await });
    }
    let used = async {
        while ends.free_wires() == 2 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENT, used).await.unwrap();
    ends.end_reads();
    reads.join_all().await;
    proxy.delay(Duration::ZERO);
    assert!(stays.free_wires() < 2);
    for round in 0..5 {
        let mut reads = JoinSet::new();
        for key in 0..20 {
            let stays = Arc::clone(&stays);
            reads.spawn(async move { (key, stays.value(key).await) });
        }
        for (key, value) in reads.join_all().await {
            assert_eq!(value, Some(key), "{round}");
        }
    }
}
