//! Servers and networks that end, stop, slow down and come back.

use std::process::Command;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use testkit::{OwnRedis, Proxy};
use tokio::time::{Instant, timeout};

use super::support::*;
use crate::remote::redis::RedisTier;
use crate::remote::redis::remote::RedisRemote;
use crate::remote::{Invalidation, Read, Remote, Target};

type Numbers = Arc<RedisRemote<u32, u32>>;

const WITHIN: Duration = Duration::from_millis(500);

/// A server, one process behind a proxy, and another that always reaches it.
struct World {
    server: OwnRedis,
    proxy: Proxy,
    here: Numbers,
    there: Numbers,
}

impl World {
    async fn start(way: Way) -> Option<Self> {
        let server = testkit::Redis::start().await?;
        let address = super::address_of(&server);
        let proxy = Proxy::start(address.as_str()).await;
        let tier = async |url: String| way.of(RedisTier::connect(url).await.unwrap());
        let here = tier(proxy.url(&server.url())).await.timeout(WITHIN);
        let there = tier(server.url()).await.timeout(PATIENT);
        Some(Self {
            here: open(&here, None),
            there: open(&there, None),
            server,
            proxy,
        })
    }

    fn signal(&self, signal: &str) {
        let pid = self.server.pid().to_string();
        let status = Command::new("kill").args([signal, &pid]).status().unwrap();
        assert!(status.success());
    }

    /// While Redis cannot be reached: one timeout for those who ask at the same time, nothing for
    /// those who come later; and what is invalidated meanwhile.
    async fn is_down_at_the_cost_of_one_timeout(&self) {
        let began = Instant::now();
        let mut tasks = tokio::task::JoinSet::new();
        for key in 0..64 {
            let here = Arc::clone(&self.here);
            tasks.spawn(async move { here.read_one(key).await });
        }
        for read in tasks.join_all().await {
            assert!(matches!(read, Read::Unavailable));
        }
        let first = began.elapsed();
        // One after the other, they would take 64 times as long.
        assert!(first < 4 * WITHIN, "{first:?}");
        let began = Instant::now();
        for key in 0..10_000 {
            assert!(matches!(self.here.read_one(key).await, Read::Unavailable));
        }
        let lease = crate::remote::Lease {
            token: [0; 16],
            stamp: 0,
        };
        self.here.fill(vec![fill(5, 5, Some(lease))]).await;
        let later = began.elapsed();
        assert!(later < 4 * WITHIN, "{later:?}");
        println!("{first:?} for 64 at once, then {later:?} for 10,000");
    }

    async fn invalidates_deferred(&self) {
        let began = Instant::now();
        let how = self.here.invalidate(Target::Key(&1)).await.unwrap();
        assert_eq!(how, Invalidation::Deferred);
        let how = self.here.insert(fill(2, 20, None)).await.unwrap();
        assert_eq!(how, Invalidation::Deferred);
        let how = self.here.invalidate(Target::Tag("a")).await.unwrap();
        assert_eq!(how, Invalidation::Deferred);
        let took = began.elapsed();
        assert!(took < WITHIN, "{took:?}");
    }

    /// Values 1 and 2, 3 with the tag `a`, and 4.
    async fn has_values(&self) {
        for key in [1, 2, 4] {
            self.there.load(key, key).await;
        }
        let lease = self.there.lease(3).await;
        self.there.fill(vec![tagged(3, 3, Some(lease), "a")]).await;
        assert_eq!(self.here.value(4).await, Some(4));
    }

    /// Redis is back, and what was deferred is applied.
    async fn is_back(&self) {
        timeout(PATIENT, self.here.server().up()).await.unwrap();
        for key in 1..=3 {
            assert_eq!(self.here.value(key).await, None, "{key}");
            assert_eq!(self.there.value(key).await, None, "{key}");
        }
        assert_eq!(self.here.value(4).await, Some(4));
    }
}

async fn a_black_hole_costs_one_timeout_and_what_was_deferred_is_applied_after_it(way: Way) {
    let Some(world) = World::start(way).await else {
        return;
    };
    world.has_values().await;
    world.proxy.black_hole(true);
    world.is_down_at_the_cost_of_one_timeout().await;
    world.invalidates_deferred().await;
    // Others do not know.
    assert_eq!(world.there.value(1).await, Some(1));
    world.proxy.heal();
    world.is_back().await;
}

async fn a_stopped_server_costs_one_timeout(way: Way) {
    let Some(world) = World::start(way).await else {
        return;
    };
    world.has_values().await;
    world.signal("-STOP");
    world.is_down_at_the_cost_of_one_timeout().await;
    world.invalidates_deferred().await;
    world.signal("-CONT");
    world.is_back().await;
}

async fn a_killed_server_costs_nothing_and_comes_back(way: Way) {
    let Some(world) = World::start(way).await else {
        return;
    };
    world.has_values().await;
    world.server.crash().await;
    world.is_down_at_the_cost_of_one_timeout().await;
    world.invalidates_deferred().await;
    world.server.restart().await;
    // That its connection is gone shows when it is used.
    while let Read::Unavailable = world.there.read(&[9], false).await.remove(0) {
        timeout(PATIENT, world.there.server().up()).await.unwrap();
    }
    world.is_back().await;
}

async fn a_slow_server_costs_one_timeout_for_as_long_as_it_is_slow(way: Way) {
    let Some(world) = World::start(way).await else {
        return;
    };
    world.has_values().await;
    world.proxy.delay(WITHIN);
    world.is_down_at_the_cost_of_one_timeout().await;
    world.invalidates_deferred().await;
    // Until it was tried again, and was too slow.
    let connections = world.proxy.connections();
    let again = |counts: &testkit::Counts| counts.connections > connections + way.connections();
    timeout(PATIENT, world.proxy.until(again)).await.unwrap();
    assert!(!world.here.server().is_up());
    world.proxy.heal();
    world.is_back().await;
}

/// Those who come while others are on their way wait for these, and then for their own answer; both
/// within the timeout of their own call.
async fn a_read_that_waited_for_another_waits_no_longer_than_one_timeout_in_all(way: Way) {
    let Some(world) = World::start(way).await else {
        return;
    };
    world.has_values().await;
    let within = 8 * WITHIN;
    let url = world.proxy.url(&world.server.url());
    let tier = way.of(RedisTier::connect(url).await.unwrap().timeout(within));
    let here: Numbers = open(&tier, None);
    assert_eq!(here.value(4).await, Some(4));
    // A round trip takes three quarters of the timeout.
    world.proxy.delay(within * 3 / 8);
    let mut tasks = tokio::task::JoinSet::new();
    for late in 0..20 {
        let here = Arc::clone(&here);
        tasks.spawn(async move {
            tokio::time::sleep(late * within / 20).await;
            let began = Instant::now();
            let read = here.read_one(4).await;
            (began.elapsed(), matches!(read, Read::Value(_)))
        });
    }
    let reads = tasks.join_all().await;
    assert!(reads.iter().any(|(_, there)| *there), "{reads:?}");
    assert!(reads.iter().any(|(_, there)| !*there), "{reads:?}");
    let longest = reads.iter().map(|(took, _)| *took).max().unwrap();
    assert!(longest < within * 5 / 4, "{longest:?}");
    // And the server is not too slow to be used.
    assert!(here.server().is_up());
}

async fn connections_that_are_cut_are_made_anew(way: Way) {
    let Some(world) = World::start(way).await else {
        return;
    };
    for round in 0..8 {
        world.there.insert(fill(1, round, None)).await.unwrap();
        world.proxy.cut();
        // What was asked on the one that was cut fails at once.
        let read = timeout(WITHIN, world.here.read_one(1)).await.unwrap();
        assert!(
            matches!(read, Read::Unavailable | Read::Value(_)),
            "{read:?}"
        );
        timeout(PATIENT, world.here.server().up()).await.unwrap();
        if let Read::Value(shared) = world.here.read_one(1).await {
            assert_eq!(*shared.value, round);
        }
        let how = world.here.invalidate(Target::Key(&1)).await.unwrap();
        timeout(PATIENT, world.here.server().up()).await.unwrap();
        if how == Invalidation::Applied {
            assert_eq!(world.there.value(1).await, None);
        }
    }
}

async fn a_fill_or_an_insertion_that_comes_late_brings_back_nothing(way: Way) {
    let Some(world) = World::start(way).await else {
        return;
    };
    for round in 0..5 {
        timeout(PATIENT, world.here.server().up()).await.unwrap();
        let lease = world.here.lease(1).await;
        world.proxy.black_hole(true);
        if round % 2 == 0 {
            world.here.fill(vec![fill(1, 1, Some(lease))]).await;
        } else {
            let how = world.here.insert(fill(1, 1, None)).await.unwrap();
            assert_eq!(how, Invalidation::Deferred);
        }
        world.there.applied(Target::Key(&1)).await;
        world.proxy.heal();
        timeout(PATIENT, world.here.server().up()).await.unwrap();
        // The old connections have ended, after all that was sent on them.
        let ended = |counts: &testkit::Counts| counts.open == way.connections();
        timeout(PATIENT, world.proxy.until(ended)).await.unwrap();
        for _ in 0..20 {
            assert_eq!(world.there.value(1).await, None);
        }
        world.there.applied(Target::Key(&1)).await;
    }
}

async fn more_than_the_journal_holds_invalidates_everything(way: Way) {
    let Some(world) = World::start(way).await else {
        return;
    };
    world.has_values().await;
    world.proxy.refuse(true);
    world.proxy.cut();
    while world.here.server().is_up() {
        world.here.read_one(1).await;
    }
    for key in 100..10_101 {
        let how = world.here.invalidate(Target::Key(&key)).await.unwrap();
        assert_eq!(how, Invalidation::Deferred);
    }
    world.proxy.heal();
    timeout(PATIENT, world.here.server().up()).await.unwrap();
    for key in 1..=4 {
        assert_eq!(world.there.value(key).await, None);
    }
}

/// On one thread: the first read comes before the server can be told.
#[tokio::test]
async fn an_invalidation_that_is_dropped_is_applied_all_the_same() {
    let Some(tier) = tier().await else { return };
    let (one, two) = (open::<u32, u32>(&tier, None), open::<u32, u32>(&tier, None));
    one.load(1, 1).await;
    let mut telling = one.invalidate(Target::Key(&1));
    let mut context = Context::from_waker(Waker::noop());
    assert!(telling.as_mut().poll(&mut context).is_pending());
    // From the first poll on.
    assert!(matches!(one.read_one(1).await, Read::Unavailable));
    drop(telling);
    timeout(PATIENT, async { while two.value(1).await.is_some() {} })
        .await
        .unwrap();
    one.load(1, 2).await;
    assert_eq!(one.value(1).await, Some(2));
}

async fn reads_that_are_dropped_do_not_disturb_the_others(way: Way) {
    let Some(tier) = tier().await else { return };
    let tier = way.of(tier);
    let remote = open::<u32, u32>(&tier, None);
    for key in 0..50 {
        remote.load(key, key).await;
    }
    let mut context = Context::from_waker(Waker::noop());
    for polls in 0..50 {
        let keys: Vec<u32> = (0..50).collect();
        let mut reads: Vec<_> = keys.chunks(1).map(|key| remote.read(key, true)).collect();
        let mut dropped: Vec<_> = keys.chunks(1).map(|key| remote.read(key, true)).collect();
        for _ in 0..polls {
            for read in &mut dropped {
                if read.as_mut().poll(&mut context).is_ready() {
                    *read = Box::pin(std::future::pending());
                }
            }
            tokio::task::yield_now().await;
        }
        drop(dropped);
        for (read, key) in reads.iter_mut().zip(&keys) {
            let read = timeout(PATIENT, read).await.unwrap().remove(0);
            assert!(matches!(read, Read::Value(shared) if *shared.value == *key));
        }
    }
}

async fn the_end_makes_one_attempt_to_apply_what_is_deferred(way: Way) {
    let Some(world) = World::start(way).await else {
        return;
    };
    world.has_values().await;
    world.proxy.refuse(true);
    world.proxy.cut();
    while world.here.server().is_up() {
        world.here.read_one(1).await;
    }
    world.invalidates_deferred().await;
    world.proxy.heal();
    timeout(PATIENT, world.here.shutdown()).await.unwrap();
    for key in 1..=3 {
        assert_eq!(world.there.value(key).await, None, "{key}");
    }
    assert_eq!(world.there.value(4).await, Some(4));
    // Without a server it ends as well.
    world.server.stop().await;
    let began = Instant::now();
    let _ = world.there.invalidate(Target::All).await;
    timeout(PATIENT, world.there.shutdown()).await.unwrap();
    assert!(began.elapsed() < PATIENT / 2);
}

/// A server without room refuses values, and nothing else.
async fn a_server_without_memory_takes_no_values_and_still_invalidates(way: Way) {
    let Some(world) = World::start(way).await else {
        return;
    };
    world.has_values().await;
    let url = world.server.url();
    let _: () = command(&url, &["CONFIG", "SET", "maxmemory", "1"])
        .await
        .unwrap();
    assert_eq!(world.here.value(1).await, Some(1));
    world.here.applied(Target::Key(&1)).await;
    world.here.load(1, 2).await;
    assert!(world.here.server().is_up());
    assert_eq!(world.here.value(1).await, None);
    assert_eq!(world.here.value(2).await, Some(2));
    let _: () = command(&url, &["CONFIG", "SET", "maxmemory", "0"])
        .await
        .unwrap();
    world.here.load(1, 3).await;
    assert_eq!(world.here.value(1).await, Some(3));
}

async fn a_handle_that_is_dropped_ends_its_tasks_and_connections(way: Way) {
    let Some(world) = World::start(way).await else {
        return;
    };
    world.has_values().await;
    let World { proxy, here, .. } = world;
    drop(here);
    timeout(PATIENT, proxy.until(|counts| counts.open == 0))
        .await
        .unwrap();
}

in_each_way! {
    a_black_hole_costs_one_timeout_and_what_was_deferred_is_applied_after_it,
    a_stopped_server_costs_one_timeout,
    a_killed_server_costs_nothing_and_comes_back,
    a_slow_server_costs_one_timeout_for_as_long_as_it_is_slow,
    a_read_that_waited_for_another_waits_no_longer_than_one_timeout_in_all,
    connections_that_are_cut_are_made_anew,
    a_fill_or_an_insertion_that_comes_late_brings_back_nothing,
    more_than_the_journal_holds_invalidates_everything,
    reads_that_are_dropped_do_not_disturb_the_others,
    the_end_makes_one_attempt_to_apply_what_is_deferred,
    a_server_without_memory_takes_no_values_and_still_invalidates,
    a_handle_that_is_dropped_ends_its_tasks_and_connections,
}
