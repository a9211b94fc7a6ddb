//! That connections lead to the server that was told, and end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::support::*;
use crate::remote::redis::link::{CONNECT_WITHIN, Failure};
use crate::remote::redis::links::Links;
use crate::remote::redis::{RedisBus, RedisTier};
use crate::remote::{Local, Remote, Target};

/// What counts the invalidations that were heard.
#[derive(Default)]
struct Ears(watch::Sender<usize>);

impl Local<u32> for Ears {
    fn invalidated(&self, _: Target<'_, u32>) {
        self.0.send_modify(|heard| *heard += 1);
    }

    fn trusted_until(&self, _: Instant) {}

    fn gap(&self) {}
}

/// As in a failover, when one address leads from one server to another, which has a copy of what the first
/// has, and the first goes on for those who have a connection to it. `heard`: another process invalidates.
async fn a_wire_to_another_server(heard: bool) {
    let (Some(told), Some(other)) = (testkit::Redis::start().await, testkit::Redis::start().await)
    else {
        return;
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let servers = [&told, &other].map(super::address_of);
    let relay = tokio::spawn(async move {
        let mut relays = JoinSet::new();
        // The connection of the client's, the wires, that of who listens, and those that replace wires, if
        // any do.
        let listens = heard.then_some(0);
        for to in [0, 1, 1].into_iter().chain(listens).chain([1, 1]) {
            let (mut here, _) = listener.accept().await.unwrap();
            let mut there = TcpStream::connect(&servers[to]).await.unwrap();
            relays.spawn(async move { tokio::io::copy_bidirectional(&mut here, &mut there).await });
        }
        relays.join_all().await
    });
    let tier = RedisTier::connect(format!("redis://{address}/")).await;
    let bus = heard.then(RedisBus::default);
    let remote = open::<u32, u32>(&tier.unwrap().timeout(PATIENT), bus);
    assert_eq!(remote.free_wires(), 2);
    let mut processes = Vec::new();
    for (server, value) in [(&told, 10), (&other, 11)] {
        let state = remote.state();
        let words = ["seq", "all", "tagged", "forgotten"].map(|word| [word, "1000"]);
        let words = [&["HSET", state.as_str()][..], words.as_flattened()].concat();
        let _: u32 = command(&server.url(), &words).await.unwrap();
        let direct = RedisTier::connect(server.url()).await.unwrap();
        let process = open::<u32, u32>(&direct, None);
        process.load(1, value).await;
        processes.push(process);
    }
    remote.reads().always_plainly();
    let ears = Arc::new(Ears::default());
    let local: Arc<dyn Local<u32>> = ears.clone();
    remote.listen(Arc::downgrade(&local));
    remote.listening().await;
    assert_eq!(remote.value(1).await, Some(11));
    if heard {
        processes[0].applied(Target::Key(&1)).await;
        let mut ears = ears.0.subscribe();
        let all = ears.wait_for(|heard| *heard == 1);
        timeout(PATIENT, all).await.unwrap().unwrap();
    } else {
        remote.applied(Target::Key(&1)).await;
    }
    // For longer than it takes to replace a wire that is lost.
    let until = Instant::now() + 200 * MS;
    while Instant::now() < until {
        assert_eq!(remote.value(1).await, None);
    }
    assert_eq!(remote.free_wires(), 0);
    assert!(remote.server().is_up());
    relay.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wire_to_a_server_that_was_not_told_is_not_read_from() {
    a_wire_to_another_server(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_when_another_process_has_told() {
    a_wire_to_another_server(true).await;
}

/// A way to a server, on which nothing goes on, also in nobody's buffers, once it is silent.
struct Way {
    address: SocketAddr,
    is_silent: Arc<AtomicBool>,
    accepted: Arc<AtomicUsize>,
}

impl Way {
    async fn to(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let way = Self {
            address: listener.local_addr().unwrap(),
            is_silent: Arc::default(),
            accepted: Arc::default(),
        };
        let (silent, accepted) = (Arc::clone(&way.is_silent), Arc::clone(&way.accepted));
        tokio::spawn(async move {
            while let Ok((here, _)) = listener.accept().await {
                let there = TcpStream::connect(&server).await.unwrap();
                let (from_here, to_here) = here.into_split();
                let (from_there, to_there) = there.into_split();
                tokio::spawn(relay(from_here, to_there, Arc::clone(&silent)));
                tokio::spawn(relay(from_there, to_here, Arc::clone(&silent)));
                accepted.fetch_add(1, Ordering::SeqCst);
            }
        });
        way
    }

    /// How many tasks it has, when it is silent.
    fn tasks(&self) -> usize {
        1 + 2 * self.accepted.load(Ordering::SeqCst)
    }
}

async fn relay(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, is_silent: Arc<AtomicBool>) {
    let mut bytes = vec![0; 4096];
    loop {
        let read = from.read(&mut bytes).await;
        if is_silent.load(Ordering::SeqCst) {
            return std::future::pending().await;
        }
        to.write_all(&bytes[..read.unwrap()]).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_connection_to_a_server_that_is_silent_outlives_who_used_it() {
    let Some(server) = testkit::Redis::start().await else {
        return;
    };
    let way = Way::to(super::address_of(&server)).await;
    let url = format!("redis://{}/", way.address);
    let tier = RedisTier::connect(url).await.unwrap().timeout(500 * MS);
    let remote: Arc<Texts> = open(&tier, None);
    drop(tier);
    let lease = remote.lease(1).await;
    way.is_silent.store(true, Ordering::SeqCst);
    let link = remote.server().link().unwrap();
    // More than there is room for on the way.
    let text = "x".repeat(64 << 20);
    remote.fill(vec![fill(1, text, Some(lease))]).await;
    timeout(PATIENT, link.broken.cancelled()).await.unwrap();
    drop(link);
    remote.shutdown().await;
    drop(remote);
    let runtime = tokio::runtime::Handle::current().metrics();
    let ended = async {
        while runtime.num_alive_tasks() > way.tasks() {
            tokio::task::yield_now().await;
        }
    };
    let ended = timeout(PATIENT, ended).await;
    assert!(
        ended.is_ok(),
        "{} > {}",
        runtime.num_alive_tasks(),
        way.tasks()
    );
}

#[tokio::test]
async fn who_waits_for_the_attempt_of_a_more_patient_one_waits_no_longer_than_for_its_own() {
    let Some(server) = testkit::Redis::start().await else {
        return;
    };
    let tier = RedisTier::connect(server.url()).await.unwrap();
    let first = tier.links.current().unwrap();
    first.give_up();
    // Takes connections, and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}/", silent.local_addr().unwrap());
    let links = Links::new(redis::Client::open(url).unwrap(), 0, first);
    let links = Arc::new(links);
    tokio::time::pause();
    let began = Instant::now();
    let patient = Arc::clone(&links);
    let patient = tokio::spawn(async move { patient.connect(60 * CONNECT_WITHIN).await.map(drop) });
    tokio::task::yield_now().await;
    for attempt in 1..=2 {
        let hasty = links.connect(MS).await.map(drop);
        assert!(matches!(hasty, Err(Failure::TimedOut)));
        // A timer is a little late at most.
        assert!(began.elapsed() < attempt * CONNECT_WITHIN + 10 * MS);
    }
    assert!(!patient.is_finished());
    patient.abort();
}
