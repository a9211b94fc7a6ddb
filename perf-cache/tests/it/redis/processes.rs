//! Processes that share a Redis to which everything happens. The test is their database, and the
//! judge of what they read: one clock for all.

use std::collections::HashMap;
use std::convert::Infallible;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use perf_cache::{Cache, Invalidation, RedisBus, RedisTier, Value};
use testkit::{OwnRedis, Proxy, Redis};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

use super::MS;

const PROCESSES: u64 = 3;
const KEYS: u64 = 24;
const READERS: usize = 6;
const LASTS: Duration = Duration::from_secs(8);
const HEARTBEAT: Duration = Duration::from_millis(100);
const TIMEOUT: Duration = Duration::from_millis(150);
/// Which share of what processes tell each other is lost all the time.
const LOST: f64 = 0.1;

/// One row of the database.
#[derive(Default)]
struct Row {
    version: u64,
    /// When the invalidation or insertion of a version had been applied.
    applied: Vec<(Instant, u64)>,
}

/// The database, and what was read out of caches.
#[derive(Default)]
struct Judge {
    rows: Mutex<HashMap<u64, Row>>,
    /// How far reads were behind what had been applied.
    behind: Mutex<Vec<Duration>>,
    reads: AtomicU64,
    loads: AtomicU64,
}

impl Judge {
    /// Answers one line of a process.
    fn answer(&self, line: &str, began: &mut Instant) -> u64 {
        let mut words = line.split(' ');
        let verb = words.next().unwrap();
        let mut number = || words.next().unwrap().parse::<u64>().unwrap();
        let mut rows = self.rows.lock().unwrap();
        let row = rows.entry(number()).or_default();
        match verb {
            "write" => row.version += 1,
            "load" => drop(self.loads.fetch_add(1, SeqCst)),
            "applied" => row.applied.push((Instant::now(), number())),
            // Answered before the process asks its cache.
            "begin" => *began = Instant::now(),
            "read" => {
                let read = number();
                let newer = row.applied.iter().find(|(_, version)| *version > read);
                let behind = newer.map_or(Duration::ZERO, |(at, _)| {
                    began.saturating_duration_since(*at)
                });
                self.reads.fetch_add(1, SeqCst);
                if !behind.is_zero() {
                    self.behind.lock().unwrap().push(behind);
                }
            }
            verb => panic!("{verb}"),
        }
        row.version
    }

    async fn serve(self: Arc<Self>, stream: TcpStream) {
        stream.set_nodelay(true).unwrap();
        let (read, mut write) = stream.into_split();
        let mut lines = BufReader::new(read).lines();
        let mut began = Instant::now();
        while let Ok(Some(line)) = lines.next_line().await {
            let answer = self.answer(&line, &mut began);
            if write
                .write_all(format!("{answer}\n").as_bytes())
                .await
                .is_err()
            {
                return;
            }
        }
    }
}

/// A process' connection to the database.
struct Database {
    stream: BufReader<TcpStream>,
}

impl Database {
    async fn connect() -> Self {
        let stream = TcpStream::connect(env("DATABASE")).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream: BufReader::new(stream),
        }
    }

    async fn ask(&mut self, request: String) -> u64 {
        let request = request + "\n";
        self.stream.write_all(request.as_bytes()).await.unwrap();
        let mut line = String::new();
        self.stream.read_line(&mut line).await.unwrap();
        line.trim().parse().unwrap()
    }
}

/// Connections for loaders.
#[derive(Clone, Default)]
struct Loaders(Arc<Mutex<Vec<Database>>>);

impl Loaders {
    async fn load(&self, key: u64) -> u64 {
        let free = self.0.lock().unwrap().pop();
        let mut database = match free {
            Some(database) => database,
            None => Database::connect().await,
        };
        let version = database.ask(format!("load {key}")).await;
        self.0.lock().unwrap().push(database);
        version
    }
}

fn env(name: &str) -> String {
    std::env::var(format!("PERF_CACHE_TEST_{name}")).unwrap()
}

fn tag(key: u64) -> String {
    format!("tag:{}", key % 5)
}

fn chance() -> Duration {
    Duration::from_micros(fastrand::u64(..8_000))
}

/// Changes the keys that are this process' to change, and says when that was applied.
async fn write(
    cache: Cache<u64, u64>,
    process: u64,
    returned: Arc<Vec<AtomicU64>>,
    until: Instant,
) {
    let mut database = Database::connect().await;
    while Instant::now() < until {
        let key = fastrand::u64(..KEYS / PROCESSES) * PROCESSES + process;
        let version = database.ask(format!("write {key}")).await;
        let done = match fastrand::u8(..10) {
            0 => cache.invalidate_all().await,
            1..3 => cache.insert(key, Value::new(version).tag(tag(key))).await,
            3..5 => cache.invalidate_tag(&tag(key)).await,
            _ => cache.invalidate(&key).await,
        };
        if done.unwrap() == Invalidation::Applied {
            database.ask(format!("applied {key} {version}")).await;
        }
        returned[key as usize].store(version, SeqCst);
        tokio::time::sleep(chance()).await;
    }
}

async fn read(cache: Cache<u64, u64>, returned: Arc<Vec<AtomicU64>>, until: Instant) {
    let (mut database, loaders) = (Database::connect().await, Loaders::default());
    while Instant::now() < until {
        let key = fastrand::u64(..KEYS);
        let newest = returned[key as usize].load(SeqCst);
        database.ask(format!("begin {key}")).await;
        let loaders = loaders.clone();
        let version = match fastrand::u8(..4) {
            0 => {
                let load = move |missing: Vec<u64>| async move {
                    let mut found = Vec::new();
                    for key in missing {
                        found.push((key, Value::new(loaders.load(key).await).tag(tag(key))));
                    }
                    Ok::<_, Infallible>(found)
                };
                *cache
                    .get_many(&[key, (key + 1) % KEYS], load)
                    .await
                    .unwrap()[&key]
            }
            _ => {
                let load = move |key| async move {
                    let version = loaders.load(key).await;
                    Ok::<_, Infallible>(Value::new(version).tag(tag(key)))
                };
                // Whatever happens to Redis, no error reaches a reader whose loader works.
                *cache
                    .get_or_load_with(&key, move |key, _| load(key))
                    .await
                    .unwrap()
            }
        };
        assert!(
            version >= newest,
            "key {key}: read {version}, and this process had invalidated before {newest}"
        );
        database.ask(format!("read {key} {version}")).await;
        tokio::time::sleep(chance() / 4).await;
    }
}

/// One of the processes; the test below starts it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a process of the test below"]
async fn process() {
    let process: u64 = env("PROCESS").parse().unwrap();
    let tier = RedisTier::connect(env("REDIS")).await.unwrap();
    let bus = RedisBus::new().heartbeat(HEARTBEAT).timeout(TIMEOUT);
    let builder = Cache::<u64, u64>::builder("processes")
        .redis(tier.timeout(50 * MS))
        .invalidation(bus);
    let cache = builder.build().await.unwrap();
    let until = Instant::now() + LASTS;
    let returned: Arc<Vec<AtomicU64>> = Arc::new((0..KEYS).map(|_| AtomicU64::new(0)).collect());
    let mut tasks = JoinSet::new();
    tasks.spawn(write(cache.clone(), process, Arc::clone(&returned), until));
    for _ in 0..READERS {
        tasks.spawn(read(cache.clone(), Arc::clone(&returned), until));
    }
    tasks.join_all().await;
    println!("process {process}: {:?}", cache.stats());
    let stats = cache.stats();
    assert!(stats.hits > 0 && stats.remote_hits > 0 && stats.remote_errors > 0);
}

fn start(process: u64, redis: &str, database: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([
            "redis::processes::process",
            "--exact",
            "--ignored",
            "--nocapture",
        ])
        .env("PERF_CACHE_TEST_PROCESS", process.to_string())
        .env("PERF_CACHE_TEST_REDIS", redis)
        .env("PERF_CACHE_TEST_DATABASE", database)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

async fn signal(signal: &str, server: &OwnRedis) {
    let mut kill = Command::new("kill");
    kill.args([signal, &server.pid().to_string()]);
    assert!(kill.status().await.unwrap().success());
}

/// Kills connections at the server: of the bus, or all.
async fn kill_connections(server: &OwnRedis, which: &str) {
    let client = redis::Client::open(server.url()).unwrap();
    if let Ok(mut connection) = client.get_multiplexed_async_connection().await {
        let mut kill = redis::cmd("CLIENT");
        kill.arg("KILL").arg("TYPE").arg(which);
        let _ = kill.query_async::<u64>(&mut connection).await;
    }
}

/// One thing that goes wrong, and is well again when this returns.
async fn fault(server: &OwnRedis, proxies: &[Proxy]) {
    let proxy = &proxies[fastrand::usize(..proxies.len())];
    let lasts = Duration::from_millis(fastrand::u64(50..500));
    match fastrand::u8(..9) {
        0 => proxy.cut(),
        // What is said meanwhile is late, or lost with its connection.
        1 => {
            proxy.black_hole(true);
            tokio::time::sleep(lasts).await;
            proxy.black_hole(false);
        }
        // More messages are lost, up to all of them, on connections that stay.
        2 | 3 => {
            proxy.lose_messages(fastrand::f64().max(LOST));
            tokio::time::sleep(lasts).await;
            proxy.lose_messages(LOST);
        }
        7 => {
            proxy.delay(Duration::from_millis(fastrand::u64(1..40)));
            tokio::time::sleep(lasts).await;
            proxy.delay(Duration::ZERO);
        }
        4 => kill_connections(server, "pubsub").await,
        5 => kill_connections(server, "normal").await,
        6 => {
            signal("-STOP", server).await;
            tokio::time::sleep(lasts).await;
            signal("-CONT", server).await;
        }
        _ => server.restart().await,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_read_of_three_processes_is_staler_than_the_bound_whatever_happens_to_redis() {
    let Some(server) = Redis::start().await else {
        return;
    };
    let judge = Arc::new(Judge::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let database = listener.local_addr().unwrap().to_string();
    let serving = {
        let judge = Arc::clone(&judge);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(Arc::clone(&judge).serve(stream));
            }
        })
    };
    let url = server.url();
    let address = url.trim_start_matches("redis://").trim_end_matches('/');
    let (mut proxies, mut children) = (Vec::new(), JoinSet::new());
    for process in 0..PROCESSES {
        let proxy = Proxy::start(address).await;
        proxy.lose_messages(LOST);
        let child = start(process, &proxy.url(&url), &database);
        children.spawn(child.wait_with_output());
        proxies.push(proxy);
    }
    let faults = async {
        loop {
            tokio::time::sleep(Duration::from_millis(fastrand::u64(50..600))).await;
            fault(&server, &proxies).await;
        }
    };
    let mut outputs = Vec::new();
    let ended = async {
        while let Some(output) = children.join_next().await {
            outputs.push(output.unwrap().unwrap());
        }
    };
    tokio::select! {
        () = faults => (),
        () = ended => (),
    }
    serving.abort();
    for output in outputs {
        let text = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}{errors}");
        text.lines()
            .filter(|line| line.starts_with("process"))
            .for_each(|line| println!("{line}"));
    }
    let lost = proxies.iter().map(|proxy| proxy.counts().lost_messages);
    verdict(&judge, lost.sum());
}

/// Prints how stale reads were, and says whether that was allowed.
fn verdict(judge: &Judge, lost: u64) {
    let (reads, loads) = (judge.reads.load(SeqCst), judge.loads.load(SeqCst));
    let behind = judge.behind.lock().unwrap();
    println!(
        "{lost} lost messages, {reads} reads, {loads} loads, {} reads of what had been invalidated, by:",
        behind.len()
    );
    let mut from = Duration::ZERO;
    for to in [1, 2, 5, 10, 20, 50, 100, 150, 200, 250, 10_000].map(Duration::from_millis) {
        let within = behind.iter().filter(|b| (from..to).contains(*b)).count();
        println!("  {from:>6?} to {to:<6?} {within}");
        from = to;
    }
    let most = behind.iter().max().copied().unwrap_or_default();
    println!("  at most {most:?}; the bound is {:?}", HEARTBEAT + TIMEOUT);
    // A tenth of what there is on a machine that does nothing else.
    assert!(lost > 10, "{lost}");
    assert!(reads > 2_000, "{reads}");
    assert!(most <= HEARTBEAT + TIMEOUT, "{most:?}");
}
