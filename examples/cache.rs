//! `cargo run -p perf-examples --bin cache`, or with a Redis to share:
//! `REDIS_URL=redis://127.0.0.1/ cargo run -p perf-examples --bin cache`
//!
//! A page that everybody asks for at once, a list of a thousand users, a database that is down for a
//! while, and two processes that never show each other what has changed.

#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use perf_cache::{Cache, RedisBus, RedisTier, Value};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct User {
    name: String,
    org: u64,
}

/// A database that counts its queries.
#[derive(Debug, Clone, Default)]
struct Database {
    names: Arc<Mutex<HashMap<u64, String>>>,
    queries: Arc<AtomicU64>,
    down: Arc<AtomicBool>,
}

impl Database {
    async fn users(&self, ids: Vec<u64>) -> Result<HashMap<u64, User>, std::io::Error> {
        self.queries.fetch_add(1, SeqCst);
        tokio::time::sleep(Duration::from_millis(20)).await;
        if self.down.load(SeqCst) {
            return Err(std::io::Error::other("the database is down"));
        }
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let user = |id: u64| {
            let name = names.get(&id).cloned();
            let name = name.unwrap_or_else(|| format!("user {id}"));
            (id, User { name, org: id % 10 })
        };
        Ok(ids.into_iter().map(user).collect())
    }

    fn rename(&self, id: u64, name: &str) {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.insert(id, name.to_owned());
    }

    /// The queries since the last time.
    fn queries(&self) -> u64 {
        self.queries.swap(0, SeqCst)
    }
}

/// The cache of one process.
async fn cache(redis: Option<&RedisTier>) -> Result<Cache<u64, User>> {
    let mut users = Cache::builder("users")
        .max_capacity(100_000)
        .time_to_live(Duration::from_secs(300))
        .jitter(0.1)
        .stale_if_error(Duration::from_secs(3_600))
        .schema_version(1);
    if let Some(tier) = redis {
        users = users.redis(tier.clone()).invalidation(RedisBus::new());
    }
    Ok(users.build().await?)
}

/// The name of a user, as a handler asks for it.
async fn name(users: &Cache<u64, User>, db: &Database, id: u64) -> Result<String> {
    let db = db.clone();
    let load = move |id| async move {
        let user = db.users(vec![id]).await?.remove(&id);
        let user = user.ok_or_else(|| std::io::Error::other("no such user"))?;
        let org = format!("org:{}", user.org);
        Ok::<_, std::io::Error>(Value::new(user).tag(org))
    };
    let user = users.get_or_load_with(&id, move |id, _| load(id)).await?;
    Ok(user.name.clone())
}

#[tokio::main]
async fn main() -> Result<()> {
    let redis = match std::env::var("REDIS_URL") {
        // A prefix of its own, so that each run starts with nothing.
        Ok(url) => Some(
            RedisTier::connect(url)
                .await?
                .prefix(format!("example:{}", std::process::id())),
        ),
        Err(_) => None,
    };
    let (users, db) = (cache(redis.as_ref()).await?, Database::default());

    let mut callers = JoinSet::new();
    for _ in 0..1_000 {
        let (users, db) = (users.clone(), db.clone());
        callers.spawn(async move { name(&users, &db, 7).await });
    }
    let found = callers
        .join_all()
        .await
        .iter()
        .filter(|n| n.is_ok())
        .count();
    println!(
        "{found} callers of a user that is not there yet: {} query",
        db.queries()
    );

    let ids: Vec<u64> = (0..1_000).collect();
    let load = {
        let db = db.clone();
        move |missing| async move { db.users(missing).await }
    };
    let found = users.get_many(&ids, load).await?.len();
    println!("{found} users at once: {} query", db.queries());

    db.rename(7, "Ada");
    users.invalidate(&7).await?;
    println!(
        "after an invalidation user 7 is {}",
        name(&users, &db, 7).await?
    );

    db.rename(7, "Grace");
    users.invalidate_tag("org:7").await?;
    println!(
        "after one of its organisation it is {}",
        name(&users, &db, 7).await?
    );

    db.down.store(true, SeqCst);
    users.expire(&7).await?;
    println!(
        "with the database down it still is {}",
        name(&users, &db, 7).await?
    );
    db.down.store(false, SeqCst);

    if redis.is_some() {
        two_processes(&users, &cache(redis.as_ref()).await?, &db).await?;
    }
    let stats = users.stats();
    println!(
        "{} hits, {} misses, {} loads, {} served stale",
        stats.hits, stats.misses, stats.loads, stats.stale
    );
    users.shutdown().await;
    Ok(())
}

/// What one process has loaded the other one finds in Redis, and what one changes the other one sees.
async fn two_processes(
    ours: &Cache<u64, User>,
    theirs: &Cache<u64, User>,
    db: &Database,
) -> Result<()> {
    ours.insert(
        7,
        User {
            name: "Grace".to_owned(),
            org: 7,
        },
    )
    .await?;
    db.queries();
    let seen = name(theirs, db, 7).await?;
    println!(
        "the other process finds {seen} in Redis: {} queries",
        db.queries()
    );

    db.rename(7, "Barbara");
    ours.invalidate(&7).await?;
    let invalidated = Instant::now();
    while name(theirs, db, 7).await? != "Barbara" {
        tokio::task::yield_now().await;
    }
    let after = invalidated.elapsed().as_millis();
    println!("and sees that it is Barbara now, {after} ms after the invalidation");
    theirs.shutdown().await;
    Ok(())
}
