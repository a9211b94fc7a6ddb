use std::sync::Arc;
use std::time::{Duration, Instant};

use perf_pool::Pool;
use sqlx::postgres::PgPoolOptions;
use sqlx::{PgConnection, Postgres};
use testkit::Proxy;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{Error, succeeded};
use crate::{Entry, Group};

const TASKS: u32 = 20;
const TRIES: usize = 5;
const PATIENCE: Duration = Duration::from_millis(100);
const HANDSHAKE: Duration = Duration::from_millis(300);

pub(super) fn group(rt: &Arc<Runtime>, server: &testkit::Postgres) -> Result<Vec<Group>, Error> {
    let proxy = Arc::new(rt.block_on(Proxy::start(server.address())));
    let url: Arc<str> = proxy.url(&server.url()).into();
    let entries = vec![
        entry("ours", rt, &proxy, &url, ours),
        entry("naive", rt, &proxy, &url, naive),
    ];
    let group = Group::new("pool/postgres/impatient/20", u64::from(TASKS), entries);
    Ok(vec![group.at_most(3)])
}

fn entry<F>(
    name: &'static str,
    rt: &Arc<Runtime>,
    proxy: &Arc<Proxy>,
    url: &Arc<str>,
    run: impl Fn(Arc<str>) -> F + Copy + 'static,
) -> Entry
where
    F: Future<Output = Result<usize, Error>>,
{
    let (rt, proxy, url) = (Arc::clone(rt), Arc::clone(proxy), Arc::clone(url));
    Entry::new(name, move || {
        rt.block_on(async {
            let before = proxy.connections();
            let start = Instant::now();
            let served = succeeded(run(Arc::clone(&url)).await);
            let took = start.elapsed();
            // The first connection, which tries whether there is a server, is no caller's.
            let opened = (proxy.connections() - before).saturating_sub(1);
            eprintln!(
                "pool/postgres/impatient: {name}: {served} of {TASKS} served, {opened} opened"
            );
            took
        })
    })
}

async fn slowly(_: &mut PgConnection) -> Result<(), sqlx::Error> {
    tokio::time::sleep(HANDSHAKE).await;
    Ok(())
}

async fn ours(url: Arc<str>) -> Result<usize, Error> {
    let pool = Pool::<Postgres>::builder()
        .min_connections(0)
        .max_connections(TASKS)
        .after_connect(|conn| Box::pin(slowly(conn)))
        .connect(&url)
        .await?;
    let served = callers(|| pool.acquire()).await;
    pool.close().await;
    Ok(served)
}

async fn naive(url: Arc<str>) -> Result<usize, Error> {
    let pool = PgPoolOptions::new()
        .max_connections(TASKS)
        .after_connect(|conn, _| Box::pin(slowly(conn)))
        .connect_lazy(&url)?;
    let served = callers(|| pool.acquire()).await;
    pool.close().await;
    Ok(served)
}

/// How many of the impatient got a connection.
async fn callers<T, E, F>(acquire: impl Fn() -> F + Send) -> usize
where
    T: Send + 'static,
    E: Send + 'static,
    F: Future<Output = Result<T, E>> + Send + 'static,
{
    let mut running = JoinSet::new();
    for _ in 0..TASKS {
        let tries: Vec<F> = (0..TRIES).map(|_| acquire()).collect();
        running.spawn(async move {
            for acquire in tries {
                if let Ok(Ok(_)) = timeout(PATIENCE, acquire).await {
                    return true;
                }
            }
            false
        });
    }
    running
        .join_all()
        .await
        .into_iter()
        .filter(|&ok| ok)
        .count()
}
