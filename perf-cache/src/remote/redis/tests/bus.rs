//! What processes hear of each other, and how they notice that they have not.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use testkit::{OwnRedis, Proxy};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::support::*;
use crate::remote::redis::remote::RedisRemote;
use crate::remote::redis::{RedisBus, RedisTier, RemoteMeters};
use crate::remote::{Local, Remote, Target};

const BUS: RedisBus = RedisBus::new()
    .heartbeat(Duration::from_millis(100))
    // Longer than a busy machine is late.
    .timeout(Duration::from_secs(2));

/// What a local tier was told.
#[derive(Debug, Clone, Default)]
struct Told {
    invalidated: Vec<String>,
    gaps: usize,
    /// Since the last gap.
    trusted_until: Option<Instant>,
}

#[derive(Debug, Default)]
struct Listener(watch::Sender<Told>);

impl Local<u32> for Listener {
    fn invalidated(&self, target: Target<'_, u32>) {
        let what = format!("{target:?}");
        self.0.send_modify(|told| told.invalidated.push(what));
    }

    fn trusted_until(&self, until: Instant) {
        assert!(until <= Instant::now() + BUS.bound());
        self.0.send_modify(|told| told.trusted_until = Some(until));
    }

    fn gap(&self) {
        self.0.send_modify(|told| {
            told.gaps += 1;
            told.trusted_until = None;
        });
    }
}

impl Listener {
    async fn until(&self, what: impl Fn(&Told) -> bool) -> Told {
        let mut changes = self.0.subscribe();
        let told = timeout(PATIENT, changes.wait_for(|told| what(told))).await;
        told.unwrap_or_else(|_| panic!("{:?}", self.0.borrow()))
            .unwrap()
            .clone()
    }

    /// Waits until all is heard for some time to come.
    async fn trusted(&self) {
        let soon = Instant::now() + BUS.bound() / 2;
        self.until(|told| told.trusted_until.is_some_and(|until| until > soon))
            .await;
    }

    fn is_trusted(&self) -> bool {
        let until = self.0.borrow().trusted_until;
        until.is_some_and(|until| until > Instant::now())
    }
}

struct Process {
    remote: Arc<RedisRemote<u32, u32>>,
    local: Arc<Listener>,
    metrics: Snapshotter,
}

impl Process {
    async fn start(tier: &RedisTier) -> Self {
        let recorder = DebuggingRecorder::new();
        let metrics = recorder.snapshotter();
        let meters = metrics::with_local_recorder(&recorder, || Arc::new(RemoteMeters::new("c")));
        let remote = RedisRemote::open(tier.clone(), Some(BUS), "c", 1, meters);
        let local = Arc::new(Listener::default());
        let listener: Arc<dyn Local<u32>> = local.clone();
        remote.listen(Arc::downgrade(&listener));
        local.trusted().await;
        Self {
            remote,
            local,
            metrics,
        }
    }

    /// Counters by name.
    fn counted(&self) -> BTreeMap<String, u64> {
        let counters = self.metrics.snapshot().into_vec().into_iter();
        let counters = counters.map(|(key, _, _, value)| match value {
            DebugValue::Counter(count) => (key.key().name().to_owned(), count),
            _ => panic!("not a counter"),
        });
        counters.collect()
    }
}

/// A server and a process that reaches it through a proxy.
struct World {
    server: OwnRedis,
    proxy: Proxy,
    here: Process,
    there: Process,
}

impl World {
    async fn start() -> Option<Self> {
        let server = testkit::Redis::start().await?;
        let address = super::address_of(&server);
        let proxy = Proxy::start(address.as_str()).await;
        let tier = async |url: String| RedisTier::connect(url).await.unwrap();
        let here = tier(proxy.url(&server.url())).await;
        let there = tier(server.url()).await.timeout(PATIENT);
        Some(Self {
            here: Process::start(&here).await,
            there: Process::start(&there).await,
            server,
            proxy,
        })
    }

    async fn command(&self, words: &[&str]) -> i64 {
        command(&self.server.url(), words).await.unwrap()
    }

    /// A gap, and trust again after it.
    async fn gap_is_noticed(&self, gaps: usize, within: Duration) {
        let began = Instant::now();
        self.here.local.until(|told| told.gaps > gaps).await;
        let took = began.elapsed();
        assert!(took < within, "{took:?}");
        self.here.local.trusted().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_others_hear_of_an_invalidation_and_the_process_itself_does_not() {
    let Some(tier) = tier().await else { return };
    let (one, two) = (Process::start(&tier).await, Process::start(&tier).await);
    one.remote.applied(Target::Key(&1)).await;
    one.remote.applied(Target::Expire(&2)).await;
    one.remote.applied(Target::Tag("a")).await;
    one.remote.applied(Target::All).await;
    one.remote.insert(fill(3, 3, None)).await.unwrap();
    let told = two.local.until(|told| told.invalidated.len() == 5).await;
    let expected = ["Key(1)", "Expire(2)", "Tag(\"a\")", "All", "Key(3)"];
    assert_eq!(told.invalidated, expected);
    one.local.trusted().await;
    assert!(one.local.0.borrow().invalidated.is_empty());
    // One at the start, which is none.
    assert_eq!(one.local.0.borrow().gaps, 1);
    assert_eq!(two.local.0.borrow().gaps, 1);
    assert_eq!(two.counted()["cache_bus_gaps_total"], 0);
    assert_eq!(two.counted()["cache_remote_errors_total"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalidation_is_heard_long_before_the_heartbeat() {
    let Some(tier) = tier().await else { return };
    let (one, two) = (Process::start(&tier).await, Process::start(&tier).await);
    let mut took = Vec::new();
    for number in 1..=101 {
        let began = Instant::now();
        let telling = one.remote.invalidate(Target::Key(&1));
        let hearing = two.local.until(|told| told.invalidated.len() == number);
        let (_, told) = tokio::join!(hearing, telling);
        told.unwrap();
        took.push(began.elapsed());
    }
    took.sort_unstable();
    let (median, worst) = (took[50], took[100]);
    println!("heard after {median:?}, at worst {worst:?}");
    // By the heartbeat alone, each would take a whole one.
    assert!(median < BUS.heartbeat / 2, "{median:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_invalidations_at_once_are_all_heard_and_trust_goes_on() {
    let Some(tier) = tier().await else { return };
    let (one, two) = (Process::start(&tier).await, Process::start(&tier).await);
    let mut tasks = tokio::task::JoinSet::new();
    for key in 0..5_000 {
        let remote = Arc::clone(&one.remote);
        tasks.spawn(async move { remote.applied(Target::Key(&key)).await });
    }
    tasks.join_all().await;
    let told = two
        .local
        .until(|told| told.invalidated.len() >= 5_000)
        .await;
    assert_eq!(told.gaps, 1);
    two.local.trusted().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_lost_is_noticed_by_the_next_or_at_the_heartbeat() {
    let Some(world) = World::start().await else {
        return;
    };
    let state = world.here.remote.state();
    world.command(&["HINCRBY", &state, "seq", "1"]).await;
    world.gap_is_noticed(1, BUS.bound()).await;
    world.command(&["HINCRBY", &state, "seq", "1"]).await;
    world.there.remote.applied(Target::Key(&1)).await;
    world.gap_is_noticed(2, BUS.bound()).await;
    assert!(world.here.counted()["cache_bus_gaps_total"] >= 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_loses_its_state_is_noticed() {
    let Some(world) = World::start().await else {
        return;
    };
    for gaps in 1..4 {
        let gaps = gaps.max(world.here.local.0.borrow().gaps);
        world.command(&["DEL", &world.here.remote.state()]).await;
        world.there.remote.applied(Target::Key(&1)).await;
        world.gap_is_noticed(gaps, BUS.bound()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_killed_is_a_gap() {
    let Some(world) = World::start().await else {
        return;
    };
    for gaps in 1..6 {
        world.command(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
        world.gap_is_noticed(gaps, PATIENT).await;
        world.there.local.trusted().await;
        world.there.remote.applied(Target::Key(&7)).await;
        let heard = |told: &Told| told.invalidated.len() >= gaps;
        world.here.local.until(heard).await;
    }
    assert!(world.here.counted()["cache_bus_gaps_total"] >= 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_answer_trust_ends_after_the_bound_and_comes_back_with_a_gap() {
    let Some(world) = World::start().await else {
        return;
    };
    let local = &world.here.local;
    let mut least = Duration::MAX;
    for gaps in 1..4 {
        world.proxy.black_hole(true);
        let began = Instant::now();
        world.there.remote.applied(Target::Key(&1)).await;
        while local.is_trusted() {
            tokio::task::yield_now().await;
        }
        least = least.min(began.elapsed());
        world.proxy.heal();
        world.gap_is_noticed(gaps, PATIENT).await;
    }
    // The machine may be late, and so is this thread then; hardly each time.
    assert!(least < BUS.bound() + 50 * MS, "{least:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_restarts_is_a_gap() {
    let Some(world) = World::start().await else {
        return;
    };
    world.server.crash().await;
    while world.here.local.is_trusted() {
        tokio::task::yield_now().await;
    }
    world.server.restart().await;
    world.gap_is_noticed(1, PATIENT).await;
    world.there.local.trusted().await;
    world.there.remote.applied(Target::Tag("a")).await;
    let heard = |told: &Told| told.invalidated.contains(&"Tag(\"a\")".to_owned());
    world.here.local.until(heard).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_understood_is_taken_for_everything() {
    let Some(world) = World::start().await else {
        return;
    };
    let bus = world.here.remote.bus_name();
    world.command(&["PUBLISH", &bus, "from the future"]).await;
    world.gap_is_noticed(1, BUS.bound()).await;
    // Numbers that no server counts to: the next one is heard, and the one after the next.
    let gaps = world.here.local.0.borrow().gaps;
    let last = format!("{} 0123456789abcdef", u64::MAX);
    for _ in 0..2 {
        world.command(&["PUBLISH", &bus, &last]).await;
    }
    // The server's own is below it.
    world.gap_is_noticed(gaps + 1, BUS.bound()).await;
    // A key of another type.
    let meters = Arc::new(RemoteMeters::new("c"));
    let tier = RedisTier::connect(world.server.url()).await.unwrap();
    let other = RedisRemote::<String, u32>::open(tier, None, "c", 1, meters);
    other.applied(Target::Key(&"x".to_owned())).await;
    let heard = |told: &Told| told.invalidated == ["All"];
    world.here.local.until(heard).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_listener_ends_with_its_cache() {
    let Some(World {
        server: _server,
        proxy,
        here,
        ..
    }) = World::start().await
    else {
        return;
    };
    let Process { remote, local, .. } = here;
    let open = proxy.counts().open;
    drop(local);
    timeout(PATIENT, proxy.until(|counts| counts.open < open))
        .await
        .unwrap();
    timeout(PATIENT, remote.shutdown()).await.unwrap();
    timeout(PATIENT, proxy.until(|counts| counts.open == 0))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_bus_nothing_is_heard() {
    let Some(tier) = tier().await else { return };
    let remote = open::<u32, u32>(&tier, None);
    let local: Weak<Listener> = Weak::new();
    remote.listen(local);
    timeout(PATIENT, remote.shutdown()).await.unwrap();
}
