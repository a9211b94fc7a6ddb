//! `redis-reads`: 64 tasks that read 1,024 values of 100 bytes which are in Redis and not in memory,
//! each task keys of its own, one after the other. Says at its end how long single reads took.
//!
//! `ours` is `get_or_load` of a cache that keeps nothing in memory, so it finds, checks and decodes
//! every value in Redis. `naive` is `GET` over a `ConnectionManager` of each task, `one-manager` the same over one
//! that all tasks share, whose commands the client puts together as they come. `floor` is one task that
//! reads 64 values by each `MGET`, and checks nothing.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use perf_cache::{Cache, RedisTier};
use redis::AsyncCommands;
use redis::aio::ConnectionManager;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::{Entry, Group};

const TASKS: usize = 64;
const KEYS: usize = 1_024;
/// Reads of a task in one run.
const READS: usize = 100;
const VALUE: usize = 100;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The group, where there is a server.
pub(super) fn group(rt: &Arc<Runtime>) -> Result<Option<Group>, Failure> {
    rt.block_on(async {
        let Some(server) = testkit::Redis::shared().await else {
            return Ok(None);
        };
        let client = redis::Client::open(server.url())?;
        let prefix = testkit::unique("reads");
        let cache = filled(&server, &prefix).await?;
        let mut managers = Vec::with_capacity(TASKS);
        for _ in 0..TASKS {
            managers.push(client.get_connection_manager().await?);
        }
        for key in 0..KEYS {
            let () = managers[0].set(plain(&prefix, key), value()).await?;
        }
        let shared = vec![managers[0].clone(); TASKS];
        let entries = vec![
            entry("ours", rt, vec![cache; TASKS], |cache, key| async move {
                let load = async |_| Ok::<_, Infallible>(String::new());
                let value = cache.get_or_load(&key, load).await;
                value.map_or(0, |value| value.len())
            }),
            entry("naive", rt, managers, get(&prefix)),
            entry("one-manager", rt, shared, get(&prefix)),
            floor(
                rt,
                client.get_multiplexed_async_connection().await?,
                &prefix,
            ),
        ];
        Ok(Some(Group::new(
            "cache/redis-reads/64-tasks",
            (TASKS * READS) as u64,
            entries,
        )))
    })
}

fn value() -> String {
    "x".repeat(VALUE)
}

fn plain(prefix: &str, key: usize) -> String {
    format!("{prefix}:{key}")
}

/// A cache that keeps nothing in memory, with all values in Redis.
async fn filled(server: &testkit::Redis, prefix: &str) -> Result<Cache<usize, String>, Failure> {
    let tier = RedisTier::connect(server.url()).await?;
    // As long as it takes on a machine that is busy: a read that is given up is no read.
    let tier = tier.prefix(prefix).timeout(Duration::from_secs(10));
    let builder = Cache::builder("bench").max_capacity(0).redis(tier);
    let cache = builder.build().await?;
    for key in 0..KEYS {
        cache.insert(key, value()).await?;
    }
    Ok(cache)
}

fn get(prefix: &str) -> impl Fn(ConnectionManager, usize) -> Boxed<usize> + Clone + Send + 'static {
    let prefix: Arc<str> = prefix.into();
    move |mut manager, key| {
        let name = plain(&prefix, key);
        Box::pin(async move {
            let value: redis::RedisResult<String> = manager.get(name).await;
            value.map_or(0, |value| value.len())
        })
    }
}

type Boxed<T> = std::pin::Pin<Box<dyn Future<Output = T> + Send>>;

/// An entry in which each task reads its keys by one of the `readers`; `read` says how long the value
/// is.
fn entry<R, F>(
    name: &'static str,
    rt: &Arc<Runtime>,
    readers: Vec<R>,
    read: impl Fn(R, usize) -> F + Clone + Send + 'static,
) -> Entry
where
    R: Clone + Send + 'static,
    F: Future<Output = usize> + Send,
{
    let mut times = Times {
        name,
        of: Vec::new(),
    };
    let rt = Arc::clone(rt);
    Entry::new(name, move || {
        rt.block_on(async {
            let start = Instant::now();
            let mut tasks = JoinSet::new();
            for (task, reader) in readers.iter().enumerate() {
                let (reader, read) = (reader.clone(), read.clone());
                tasks.spawn(async move {
                    let mut times = Vec::with_capacity(READS);
                    for number in 0..READS {
                        let key = (task + number * TASKS) % KEYS;
                        let start = Instant::now();
                        let length = read(reader.clone(), key).await;
                        times.push(start.elapsed());
                        assert_eq!(length, VALUE, "{name} did not find key {key}");
                    }
                    times
                });
            }
            let all = tasks.join_all().await;
            let took = start.elapsed();
            times.of.extend(all.into_iter().flatten());
            took
        })
    })
}

fn floor(rt: &Arc<Runtime>, connection: redis::aio::MultiplexedConnection, prefix: &str) -> Entry {
    let names: Vec<String> = (0..KEYS).map(|key| plain(prefix, key)).collect();
    Entry::future("floor", rt, move || {
        let mut connection = connection.clone();
        let calls: Vec<redis::Cmd> = names.chunks(TASKS).map(mget).collect();
        async move {
            let start = Instant::now();
            for call in calls.iter().cycle().take(READS) {
                let values: redis::RedisResult<Vec<String>> =
                    call.query_async(&mut connection).await;
                let read = values.map_or(0, |values| values.len());
                assert_eq!(read, TASKS, "floor did not find all keys");
            }
            start.elapsed()
        }
    })
}

fn mget(names: &[String]) -> redis::Cmd {
    let mut call = redis::cmd("MGET");
    call.arg(names);
    call
}

/// How long each read took; said when all is over.
struct Times {
    name: &'static str,
    of: Vec<Duration>,
}

impl Drop for Times {
    fn drop(&mut self) {
        // The first run warms up.
        let Some(times) = self
            .of
            .get_mut(TASKS * READS..)
            .filter(|times| !times.is_empty())
        else {
            return;
        };
        times.sort_unstable();
        let [half, most] = [50, 99].map(|percent| times[times.len() * percent / 100]);
        eprintln!(
            "cache/redis-reads: {}: p50 {half:.0?}, p99 {most:.0?} a read",
            self.name
        );
    }
}
