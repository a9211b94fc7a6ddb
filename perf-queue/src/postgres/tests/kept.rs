//! The connection that is kept for exchanges goes back to the pool when there is nothing to ask for.

use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::time::{Instant, sleep, timeout};

use super::support::*;
use crate::remote::{Remote, Rules};
use crate::{JobContext, Postgres, Queue};

async fn pool_of(connections: u32) -> Option<PgPool> {
    let server = testkit::Postgres::shared().await?;
    let options = PgPoolOptions::new().max_connections(connections);
    Some(options.connect(&server.url()).await.unwrap())
}

fn backend_on(pool: &PgPool) -> Postgres {
    Postgres::new(pool.clone()).schema(testkit::unique("queue"))
}

fn taken(pool: &PgPool) -> usize {
    (pool.size() as usize).saturating_sub(pool.num_idle())
}

/// Waits until so many connections are taken; the pool takes them back in a task.
async fn until_taken(pool: &PgPool, n: usize) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while taken(pool) != n {
        assert!(Instant::now() < deadline, "{} are taken", taken(pool));
        sleep(ms(1)).await;
    }
}

#[tokio::test]
async fn a_connection_is_kept_until_there_is_nothing_to_ask_for() {
    let Some(pool) = pool_of(4).await else {
        return;
    };
    let rules = Rules::default();
    let remote = backend_on(&pool).open("q", Some(&rules)).await.unwrap();
    until_taken(&pool, 0).await;
    for _ in 0..3 {
        take(&remote, 1).await;
        assert_eq!(taken(&pool), 1);
    }
    remote.rest();
    until_taken(&pool, 0).await;
}

#[tokio::test]
async fn the_second_connection_goes_back_once_jobs_have_keys() {
    const MANY: usize = 150;
    let Some(pool) = pool_of(4).await else {
        return;
    };
    let remote = backend_on(&pool).open("q", None).await.unwrap();
    add(&remote, &jobs("", 2 * MANY)).await;
    let first = take(&remote, MANY).await.granted;
    let ended: Vec<_> = first.iter().map(done).collect();
    let second = remote.exchange(&ended, want(MANY)).await.unwrap();
    assert_eq!((second.granted.len(), second.untold), (MANY, false));
    until_taken(&pool, 2).await;
    add(&remote, &jobs("k", 1)).await;
    take_until(&remote, want(1)).await;
    until_taken(&pool, 1).await;
}

#[tokio::test]
async fn the_only_connection_is_not_kept() {
    let Some(pool) = pool_of(1).await else {
        return;
    };
    let rules = Rules::default();
    let remote = backend_on(&pool).open("q", Some(&rules)).await.unwrap();
    take(&remote, 1).await;
    let conn = timeout(Duration::from_secs(30), pool.acquire()).await;
    drop(conn.unwrap().unwrap());
}

#[tokio::test]
async fn an_idle_queue_takes_no_connection() {
    let Some(pool) = pool_of(4).await else {
        return;
    };
    let queue = Queue::<u32>::builder("q").backend(backend_on(&pool));
    let queue = queue.build().await.unwrap();
    let workers = queue.workers(4, |_: u32, _: JobContext| async { Ok(()) });
    let workers = workers.spawn();
    for _ in 0..3 {
        queue.enqueue_batch((0..500).collect()).await.unwrap();
        queue.drain().await.unwrap();
        // But for a moment in each second, when it asks.
        until_taken(&pool, 0).await;
    }
    workers.shutdown(Duration::from_secs(5)).await;
}
