//! That the connections for reads are as good as the other.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::timeout;

use super::logs::Log;
use super::support::*;
use crate::remote::redis::RedisTier;
use crate::remote::redis::error::NEEDED;
use crate::remote::redis::remote::RedisRemote;
use crate::remote::{Remote, Target};

impl<V: serde::de::DeserializeOwned + Send + Sync + 'static> RedisRemote<u32, V> {
    pub(super) fn free_wires(&self) -> usize {
        self.server().link().unwrap().wires().free()
    }

    pub(super) async fn has_all_wires(&self) {
        let all = async {
            while self.free_wires() < 2 {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENT, all).await.unwrap();
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
    let connections = proxy.connections();
    let used = async {
        while ends.free_wires() == 2 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENT, used).await.unwrap();
    ends.end_reads();
    reads.join_all().await;
    proxy.delay(Duration::ZERO);
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
    // Others take their place, also when it has ended.
    stays.has_all_wires().await;
    ends.shutdown().await;
    stays.has_all_wires().await;
    assert!(proxy.connections() > connections);
}

/// A cache of which the wires have been used for reads, and the other connection for an invalidation.
struct Used {
    server: testkit::OwnRedis,
    remote: Arc<RedisRemote<u32, u32>>,
}

impl Used {
    async fn start() -> Option<Self> {
        let server = testkit::Redis::start().await?;
        let tier = RedisTier::connect(server.url()).await.unwrap();
        let remote = open::<u32, u32>(&tier.timeout(PATIENT), None);
        is_of_use(&remote).await;
        let used = Self { server, remote };
        used.by_both().await;
        Some(used)
    }

    async fn by_both(&self) {
        let used = async {
            while self.wires().await.len() < 2 {
                assert_eq!(self.remote.value(1).await, Some(10));
                self.remote.applied(Target::Key(&9)).await;
            }
        };
        timeout(PATIENT, used).await.unwrap();
    }

    async fn command<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        command(&self.server.url(), words).await.unwrap()
    }

    /// The numbers of the connections on which a plain read came last.
    async fn wires(&self) -> Vec<String> {
        let clients: String = self.command(&["CLIENT", "LIST"]).await;
        let wires = clients.lines().filter(|line| line.contains(" cmd=mget "));
        let number = |line: &str| {
            line.split(' ')
                .next()?
                .strip_prefix("id=")
                .map(str::to_owned)
        };
        wires.filter_map(number).collect()
    }

    /// Nothing of it is noticed when the wires have ended.
    async fn goes_on(&self, log: &Log) {
        assert_eq!(self.remote.value(1).await, Some(10));
        self.remote.applied(Target::Key(&1)).await;
        assert_eq!(self.remote.value(1).await, None);
        self.remote.load(1, 10).await;
        self.by_both().await;
        self.remote.has_all_wires().await;
        let said = log.take();
        let warned = said.iter().any(|said| said.level <= tracing::Level::WARN);
        assert!(!warned, "{said:?}");
    }
}

#[tokio::test]
async fn one_that_is_closed_while_it_is_idle_costs_nothing() {
    let Some(used) = Used::start().await else {
        return;
    };
    let log = Log::start();
    for both in [false, true] {
        let wires = used.wires().await;
        for wire in &wires[usize::from(!both)..] {
            let killed: u32 = used.command(&["CLIENT", "KILL", "ID", wire]).await;
            assert_eq!(killed, 1);
        }
        used.goes_on(&log).await;
    }
}

#[tokio::test]
async fn a_lull_in_reads_beside_invalidations_costs_nothing() {
    let Some(used) = Used::start().await else {
        return;
    };
    let log = Log::start();
    let _: () = used.command(&["CONFIG", "SET", "timeout", "1"]).await;
    let closed = async {
        while !used.wires().await.is_empty() {
            used.remote.applied(Target::Key(&9)).await;
        }
    };
    timeout(PATIENT, closed).await.unwrap();
    used.goes_on(&log).await;
}

/// As a small plan of a provider has it.
#[tokio::test]
async fn a_server_that_takes_no_more_clients_than_one_is_used_and_by_wires_when_it_takes_more() {
    let Some(server) = testkit::Redis::start().await else {
        return;
    };
    let client = redis::Client::open(server.url()).unwrap();
    let mut admin = client.get_multiplexed_async_connection().await.unwrap();
    let mut most = async |clients: u32| {
        let mut set = redis::cmd("CONFIG");
        set.arg(&["SET", "maxclients"]).arg(clients);
        set.query_async::<()>(&mut admin).await.unwrap();
    };
    // The other one is the administrator's.
    most(2).await;
    let tier = timeout(PATIENT, RedisTier::connect(server.url())).await;
    let remote = open::<u32, u32>(&tier.unwrap().unwrap().timeout(PATIENT), None);
    for round in 0..20 {
        remote.load(1, round).await;
        assert_eq!(remote.value(1).await, Some(round));
        remote.applied(Target::Key(&1)).await;
    }
    assert_eq!(remote.free_wires(), 0);
    assert!(remote.server().is_up());
    most(100).await;
    remote.has_all_wires().await;
    is_of_use(&remote).await;
}

/// Each of several caches with clones of a tier.
async fn siblings(tier: &RedisTier) -> Vec<Arc<RedisRemote<u32, u32>>> {
    let siblings: Vec<_> = (0..5).map(|_| open::<u32, u32>(tier, None)).collect();
    siblings[0].load(1, 1).await;
    for sibling in &siblings {
        assert_eq!(sibling.value(1).await, Some(1));
    }
    siblings
}

#[tokio::test(flavor = "multi_thread")]
async fn caches_that_share_a_tier_share_its_connections_also_when_these_were_lost() {
    let Some(server) = testkit::Redis::start().await else {
        return;
    };
    let proxy = testkit::Proxy::start(super::address_of(&server)).await;
    let tier = RedisTier::connect(proxy.url(&server.url())).await.unwrap();
    let tier = tier.timeout(Duration::from_secs(1));
    let siblings = siblings(&tier).await;
    assert_eq!(proxy.connections(), 3);
    for lost in ["cut", "black hole"] {
        match lost {
            "cut" => proxy.cut(),
            _ => proxy.black_hole(true),
        }
        while siblings.iter().any(|sibling| sibling.server().is_up()) {
            for sibling in &siblings {
                let _ = sibling.invalidate(Target::All).await.unwrap();
            }
            if lost == "cut" {
                break;
            }
        }
        proxy.heal();
        for sibling in &siblings {
            timeout(PATIENT, sibling.server().up()).await.unwrap();
            sibling.has_all_wires().await;
        }
        // Those that were lost are not held by the tier either.
        let three = |counts: &testkit::Counts| counts.open == 3;
        timeout(PATIENT, proxy.until(three)).await.expect(lost);
        for sibling in &siblings {
            sibling.applied(Target::All).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_for_which_the_server_is_too_slow_takes_it_from_no_other() {
    let Some(server) = testkit::Redis::start().await else {
        return;
    };
    let proxy = testkit::Proxy::start(super::address_of(&server)).await;
    let tier = RedisTier::connect(proxy.url(&server.url())).await.unwrap();
    let hasty = open::<u32, u32>(&tier.clone().timeout(Duration::from_millis(600)), None);
    let patient = open::<u32, u32>(&tier.timeout(PATIENT), None);
    patient.load(1, 1).await;
    assert_eq!(hasty.value(1).await, Some(1));
    proxy.delay(Duration::from_millis(700));
    while hasty.server().is_up() {
        hasty.read_one(1).await;
    }
    assert!(patient.server().is_up());
    patient.applied(Target::Key(&1)).await;
    assert_eq!(patient.value(1).await, None);
}

/// Then a lower sequence is no sign of another server.
#[tokio::test]
async fn wires_to_a_server_that_has_lost_the_state_go_on_being_used() {
    let Some(used) = Used::start().await else {
        return;
    };
    let log = Log::start();
    let state = used.remote.state();
    let words = ["seq", "all", "tagged", "forgotten"].map(|word| [word, "5"]);
    let words = [&["HSET", state.as_str()][..], words.as_flattened()].concat();
    let _: u32 = used.command(&words).await;
    used.remote.value(1).await;
    used.remote.has_all_wires().await;
    used.remote.applied(Target::Key(&1)).await;
    used.remote.load(1, 10).await;
    used.goes_on(&log).await;
}
