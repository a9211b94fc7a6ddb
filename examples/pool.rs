//! cargo run -p perf-examples --bin pool
//!
//! What a pool says when it is too small, who forgot a connection, whether it is healthy and has the right
//! size; and one writer beside many readers on a SQLite file. With `DATABASE_URL=postgres://..` the same on
//! Postgres, with settings from `DB_MAX_CONNECTIONS` and the like.

use std::time::Duration;

use anyhow::Result;
use perf_pool::{AcquireError, Driver, Pool, PoolBuilder, PoolConfig, SqlitePools};
use sqlx::{Executor, Postgres, Sqlite};
use tokio::task::JoinSet;

#[tokio::main]
async fn main() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("app.db");
    writers_and_readers(&path).await?;
    match std::env::var("DATABASE_URL") {
        Ok(url) => {
            let builder = settings::<Postgres>()?;
            let pool = builder.connect(&url).await?;
            explain(&pool).await?;
            sqlx::query("SELECT $1::int").bind(1).execute(&pool).await?;
            replaced_without_an_error(&pool).await?;
            pool.close().await;
        }
        Err(_) => {
            let builder = settings::<Sqlite>()?;
            let pool = builder
                .connect(&format!("sqlite://{}", path.display()))
                .await?;
            explain(&pool).await?;
            pool.close().await;
        }
    }
    Ok(())
}

fn settings<DB: Driver>() -> Result<PoolBuilder<DB>> {
    let builder = Pool::<DB>::builder()
        .name("app")
        .min_connections(1)
        .max_connections(2)
        .acquire_timeout(Duration::from_secs(1))
        .leak_detection_threshold(Duration::from_millis(100));
    Ok(builder.config(&PoolConfig::from_env("DB")?))
}

/// 16 tasks write and 16 read at once, and none is told that the database is locked.
async fn writers_and_readers(path: &std::path::Path) -> Result<()> {
    let lite = SqlitePools::open(path).await?;
    lite.write()
        .execute("CREATE TABLE answers (player INTEGER, points INTEGER)")
        .await?;
    let mut tasks = JoinSet::new();
    for player in 0..32 {
        let lite = lite.clone();
        tasks.spawn(async move {
            if player % 2 == 0 {
                let mut tx = lite.write().begin().await?;
                for points in 0..10 {
                    sqlx::query("INSERT INTO answers VALUES (?, ?)")
                        .bind(player)
                        .bind(points)
                        .execute(&mut *tx)
                        .await?;
                }
                tx.commit().await
            } else {
                sqlx::query("SELECT count(*) FROM answers")
                    .fetch_one(lite.read())
                    .await?;
                Ok(())
            }
        });
    }
    for outcome in tasks.join_all().await {
        outcome?;
    }
    let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM answers")
        .fetch_one(lite.read())
        .await?;
    println!("{rows} rows by 16 writers, beside 16 readers");
    lite.close().await;
    Ok(())
}

/// Lets callers wait for connections that somebody keeps.
async fn explain<DB: Driver>(pool: &Pool<DB>) -> Result<()> {
    let health = pool.health_check().await;
    println!("healthy: {}", health.is_healthy());
    let mut kept = Vec::new();
    for _ in 0..pool.status().max {
        kept.push(pool.acquire().await?);
    }
    if let Err(error @ AcquireError::Timeout { .. }) = pool.acquire().await {
        println!("{error}");
    }
    println!("advice: {:?}", pool.advise().verdict);
    drop(kept);
    println!("{:?}", pool.status());
    Ok(())
}

/// Renews all connections, after a fail-over, say, while queries go on.
async fn replaced_without_an_error(pool: &Pool<Postgres>) -> Result<()> {
    let backend = || sqlx::query_scalar::<_, i32>("SELECT pg_backend_pid()").fetch_one(pool);
    let before = backend().await?;
    pool.soft_evict();
    let after = backend().await?;
    println!("another backend after the eviction: {}", before != after);
    Ok(())
}
