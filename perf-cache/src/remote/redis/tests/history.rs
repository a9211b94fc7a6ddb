//! Three caches that share a tier and a bus, each on connections of its own, while whatever can go
//! wrong does: what G1, G2 and G3 promise, and the staleness that there really was.

use std::convert::Infallible;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use testkit::{OwnRedis, Proxy};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::support::*;
use crate::remote::redis::{RedisBus, RedisTier};
use crate::{Cache, Invalidation, LoadContext, Value};

const KEYS: u64 = 40;
const CACHES: usize = 3;
const BUS: RedisBus = RedisBus::new()
    .heartbeat(Duration::from_millis(100))
    .timeout(Duration::from_millis(200));

type Numbers = Cache<u64, u64>;

/// The database, and what every reader must know by when.
#[derive(Default)]
struct Row {
    written: AtomicU64,
    published: Mutex<Vec<Published>>,
}

/// An invalidation of a version that had returned at this time.
struct Published {
    at: Instant,
    version: u64,
    by: usize,
    how: Invalidation,
}

impl Row {
    fn publish(&self, version: u64, by: usize, how: Invalidation) {
        let at = Instant::now();
        let mut published = self
            .published
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        published.push(Published {
            at,
            version,
            by,
            how,
        });
    }

    /// For how long a read that began at this time was stale; also against what its own process
    /// was not to serve at all any more.
    fn staleness(&self, reader: usize, began: Instant, version: u64) -> (Duration, bool) {
        let published = self
            .published
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let newer = published
            .iter()
            .filter(|it| it.version > version && it.at <= began);
        let own = newer.clone().any(|it| it.by == reader);
        let applied = newer.filter(|it| it.how == Invalidation::Applied);
        let stale = applied.map(|it| began - it.at).max();
        (stale.unwrap_or_default(), own)
    }
}

fn tag(key: u64) -> String {
    format!("tag:{}", key % 4)
}

/// The histogram of how stale reads were.
#[derive(Default)]
struct Staleness {
    fresh: u64,
    stale: Vec<Duration>,
}

impl Staleness {
    fn print(&mut self) {
        self.stale.sort_unstable();
        println!(
            "{} reads were fresh, {} stale:",
            self.fresh,
            self.stale.len()
        );
        let mut from = Duration::ZERO;
        for below in [1, 5, 20, 50, 100, 200, 300, 400].map(Duration::from_millis) {
            let range = from..below;
            let many = self.stale.iter().filter(|it| range.contains(it)).count();
            println!("  below {below:?}: {many}");
            from = below;
        }
        println!("  at most {:?}", self.stale.last());
    }
}

struct World {
    server: OwnRedis,
    proxies: Vec<Proxy>,
    caches: Vec<Numbers>,
    rows: Arc<Vec<Row>>,
    state: String,
    over: Arc<AtomicBool>,
}

impl World {
    async fn start(plainly: bool, way: Way) -> Option<Self> {
        let server = testkit::Redis::start().await?;
        let address = super::address_of(&server);
        let (mut proxies, mut caches, mut state) = (Vec::new(), Vec::new(), String::new());
        for _ in 0..CACHES {
            let proxy = Proxy::start(address.as_str()).await;
            let tier = RedisTier::connect(proxy.url(&server.url())).await.unwrap();
            let tier = way.of(tier);
            let remote = open::<u64, u64>(&tier, Some(BUS));
            if plainly {
                remote.reads().always_plainly();
            }
            state = remote.state();
            let cache = Cache::builder("c").remote(remote, Some(BUS.bound()));
            caches.push(cache.build().await.unwrap());
            proxies.push(proxy);
        }
        Some(Self {
            server,
            proxies,
            caches,
            rows: Arc::new((0..KEYS).map(|_| Row::default()).collect()),
            state,
            over: Arc::default(),
        })
    }

    /// Each writes keys of its own, so that the versions of a key come in order.
    async fn write(rows: Arc<Vec<Row>>, caches: Vec<Numbers>, writer: u64, over: Arc<AtomicBool>) {
        while !over.load(Ordering::Relaxed) {
            let key = fastrand::u64(..KEYS / 2) * 2 + writer;
            let row = &rows[key as usize];
            let by = fastrand::usize(..CACHES);
            let cache = &caches[by];
            let version = row.written.fetch_add(1, Ordering::SeqCst) + 1;
            let how = match fastrand::u8(..20) {
                0 => cache.invalidate_all().await,
                1..4 => cache.insert(key, Value::new(version).tag(tag(key))).await,
                4..7 => cache.invalidate_tag(&tag(key)).await,
                _ => cache.invalidate(&key).await,
            };
            row.publish(version, by, how.unwrap());
            sleep(fastrand::u32(..4) * MS).await;
        }
    }

    async fn read(
        rows: Arc<Vec<Row>>,
        cache: Numbers,
        reader: usize,
        over: Arc<AtomicBool>,
    ) -> Staleness {
        let mut seen = Staleness::default();
        while !over.load(Ordering::Relaxed) {
            let key = fastrand::u64(..KEYS);
            let began = Instant::now();
            let database = Arc::clone(&rows);
            let load = move |key, context: LoadContext<u64>| async move {
                let version = database[key as usize].written.load(Ordering::SeqCst);
                sleep(fastrand::u32(..3) * MS).await;
                Ok::<_, Infallible>(context.value(version).tag(tag(key)))
            };
            // No error, whatever becomes of Redis.
            let version = *cache.get_or_load_with(&key, load).await.unwrap();
            let (stale, own) = rows[key as usize].staleness(reader, began, version);
            assert!(!own, "{reader} read {key} older than it had invalidated it");
            assert!(stale <= BUS.bound(), "{reader} read {key} {stale:?} late");
            if stale.is_zero() {
                seen.fresh += 1;
            } else {
                seen.stale.push(stale);
            }
            tokio::task::yield_now().await;
        }
        seen
    }

    fn signal(&self, signal: &str) {
        let pid = self.server.pid().to_string();
        let status = Command::new("kill").args([signal, &pid]).status();
        assert!(status.unwrap().success());
    }

    async fn command(&self, words: &[&str]) {
        // Or the server is down as well.
        let _: redis::RedisResult<redis::Value> = command(&self.server.url(), words).await;
    }

    async fn one_fault(&self, fault: usize) {
        let proxy = &self.proxies[fastrand::usize(..CACHES)];
        match fault % 9 {
            0 => proxy.cut(),
            1 => {
                proxy.black_hole(true);
                sleep(fastrand::u32(50..600) * MS).await;
                proxy.black_hole(false);
            }
            2 => {
                self.signal("-STOP");
                sleep(fastrand::u32(50..600) * MS).await;
                self.signal("-CONT");
            }
            3 => {
                self.server.crash().await;
                sleep(fastrand::u32(..300) * MS).await;
                self.server.restart().await;
            }
            4 => {
                proxy.delay(fastrand::u32(..100) * MS);
                sleep(fastrand::u32(50..300) * MS).await;
                proxy.delay(Duration::ZERO);
            }
            5 => self.command(&["CLIENT", "KILL", "TYPE", "pubsub"]).await,
            6 => self.command(&["CLIENT", "KILL", "TYPE", "normal"]).await,
            // A message that got lost.
            7 => self.command(&["HINCRBY", &self.state, "seq", "1"]).await,
            _ => self.command(&["DEL", &self.state]).await,
        }
        sleep(fastrand::u32(20..200) * MS).await;
    }
}

async fn nothing_is_staler_than_promised(faults: usize, plainly: bool, way: Way) {
    let Some(world) = World::start(plainly, way).await else {
        return;
    };
    let (rows, over) = (&world.rows, &world.over);
    let mut writers = JoinSet::new();
    for writer in 0..2 {
        let caches = world.caches.clone();
        let over = Arc::clone(over);
        writers.spawn(World::write(Arc::clone(rows), caches, writer, over));
    }
    let mut readers = JoinSet::new();
    for reader in 0..CACHES * 2 {
        let cache = world.caches[reader % CACHES].clone();
        let over = Arc::clone(over);
        readers.spawn(World::read(Arc::clone(rows), cache, reader % CACHES, over));
    }
    for fault in 0..faults {
        world.one_fault(fault).await;
    }
    sleep(200 * MS).await;
    over.store(true, Ordering::Relaxed);
    writers.join_all().await;
    let mut all = Staleness::default();
    for seen in readers.join_all().await {
        all.fresh += seen.fresh;
        all.stale.extend(seen.stale);
    }
    all.print();
    for (cache, which) in world.caches.iter().zip(0..) {
        println!("{which}: {:?}", cache.stats());
    }
    assert!(all.fresh > 1_000);
}

async fn nothing_is_staler_than_promised_whatever_goes_wrong(way: Way) {
    nothing_is_staler_than_promised(18, false, way).await;
}

async fn nor_when_all_reads_are_tried_plainly_first(way: Way) {
    nothing_is_staler_than_promised(18, true, way).await;
}

in_each_way! {
    nothing_is_staler_than_promised_whatever_goes_wrong,
    nor_when_all_reads_are_tried_plainly_first,
}

/// Run by hand: `cargo test -p perf-cache --features redis -- --ignored --nocapture many_faults`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes"]
async fn nothing_is_staler_than_promised_in_many_faults() {
    nothing_is_staler_than_promised(500, fastrand::bool(), Way::ByWires).await;
}
