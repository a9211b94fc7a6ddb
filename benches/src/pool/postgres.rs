use std::sync::Arc;
use std::time::{Duration, Instant};

use bb8_postgres::PostgresConnectionManager;
use deadpool_postgres::tokio_postgres::NoTls;
use futures_core::future::BoxFuture;
use perf_pool::Pool;
use sqlx::{Executor, PgConnection, PgPool, Postgres};
use testkit::Proxy;
use tokio::runtime::Runtime;

use super::{Error, bare, of_sqlx, on_bare, on_sqlx, tasks};
use crate::{Entry, Group};

const SIZE: u32 = 8;

pub(super) fn groups(rt: &Arc<Runtime>, server: &testkit::Postgres) -> Result<Vec<Group>, Error> {
    let near = Pools::open(rt, &server.url())?;
    let proxy = rt.block_on(Proxy::start(server.address()));
    let far = Pools::open(rt, &proxy.url(&server.url()))?;
    proxy.delay(Duration::from_millis(1));
    let far = far.select(rt, "pool/postgres-2ms/select/8", 8, 160);
    Ok(vec![
        near.select(rt, "pool/postgres/select/1", 1, 400),
        near.select(rt, "pool/postgres/select/8", 8, 800),
        near.select(rt, "pool/postgres/select/64", 64, 1280),
        far.holding(proxy),
        warm_up(rt, &server.url()),
    ])
}

/// All pools on one server, warm.
struct Pools {
    ours: Pool<Postgres>,
    naive: PgPool,
    no_ping: PgPool,
    deadpool: deadpool_postgres::Pool,
    bb8: Bb8,
    floor: super::Bare<PgConnection>,
}

type Bb8 = bb8_postgres::bb8::Pool<PostgresConnectionManager<NoTls>>;

impl Pools {
    fn open(rt: &Runtime, url: &str) -> Result<Self, Error> {
        let ours = Pool::<Postgres>::builder()
            .min_connections(SIZE)
            .max_connections(SIZE);
        let naive = of_sqlx::<Postgres>(SIZE);
        let no_ping = of_sqlx::<Postgres>(SIZE).test_before_acquire(false);
        let bb8 = bb8_postgres::bb8::Pool::builder()
            .min_idle(SIZE)
            .max_size(SIZE);
        let manager = PostgresConnectionManager::new_from_stringlike(url, NoTls)?;
        Ok(Self {
            ours: rt.block_on(ours.connect(url))?,
            naive: rt.block_on(naive.connect(url))?,
            no_ping: rt.block_on(no_ping.connect(url))?,
            deadpool: deadpool(rt, url)?,
            bb8: rt.block_on(bb8.build(manager))?,
            floor: rt.block_on(bare::<PgConnection>(&url.parse()?, SIZE as usize))?,
        })
    }

    fn select(&self, rt: &Arc<Runtime>, name: &str, n: usize, calls: usize) -> Group {
        let entries = vec![
            tasks("ours", rt, n, calls, &self.ours, on_ours),
            tasks("naive", rt, n, calls, &self.naive, on_sqlx),
            tasks("sqlx_no_ping", rt, n, calls, &self.no_ping, on_sqlx),
            tasks(
                "deadpool-postgres",
                rt,
                n,
                calls,
                &self.deadpool,
                on_deadpool,
            ),
            tasks("bb8-postgres", rt, n, calls, &self.bb8, on_bb8),
            tasks("floor", rt, n, calls, &self.floor, on_bare::<Postgres>),
        ];
        Group::new(name, calls as u64, entries)
    }
}

async fn on_ours(pool: Pool<Postgres>, _: usize) -> Result<(), Error> {
    pool.acquire().await?.execute("SELECT 1").await?;
    Ok(())
}

async fn on_deadpool(pool: deadpool_postgres::Pool, _: usize) -> Result<(), Error> {
    pool.get().await?.simple_query("SELECT 1").await?;
    Ok(())
}

async fn on_bb8(pool: Bb8, _: usize) -> Result<(), Error> {
    pool.get().await?.simple_query("SELECT 1").await?;
    Ok(())
}

fn deadpool(rt: &Runtime, url: &str) -> Result<deadpool_postgres::Pool, Error> {
    use deadpool_postgres::{Config, PoolConfig, Runtime::Tokio1};

    let mut config = Config::new();
    config.url = Some(url.to_owned());
    config.pool = Some(PoolConfig::new(SIZE as usize));
    let _context = rt.enter();
    Ok(config.create_pool(Some(Tokio1), NoTls)?)
}

/// Connections of a pool that is warmed up.
const WARM: u32 = 20;

/// How long each takes to be ready, beside its handshake.
const READY_AFTER: Duration = Duration::from_millis(50);

fn be_ready<'c>(_: &'c mut PgConnection) -> BoxFuture<'c, Result<(), sqlx::Error>> {
    Box::pin(async {
        tokio::time::sleep(READY_AFTER).await;
        Ok(())
    })
}

fn warm_up(rt: &Arc<Runtime>, url: &str) -> Group {
    let (our_url, url): (Arc<str>, Arc<str>) = (url.into(), url.into());
    let ours = Entry::future("ours", rt, move || {
        let url = Arc::clone(&our_url);
        async move {
            let pool = Pool::<Postgres>::builder()
                .min_connections(WARM)
                .max_connections(WARM)
                .after_connect(be_ready);
            let start = Instant::now();
            let pool = super::succeeded(pool.connect(&url).await.map_err(Into::into));
            while pool.status().idle < WARM {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let took = start.elapsed();
            pool.close().await;
            took
        }
    });
    let naive = Entry::future("naive", rt, move || {
        let url = Arc::clone(&url);
        async move {
            let pool = of_sqlx::<Postgres>(WARM).after_connect(|conn, _| be_ready(conn));
            let start = Instant::now();
            let pool = super::succeeded(pool.connect(&url).await.map_err(Into::into));
            while pool.num_idle() < WARM as usize {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let took = start.elapsed();
            pool.close().await;
            took
        }
    });
    Group::new(
        "pool/postgres/warm-up/20",
        u64::from(WARM),
        vec![ours, naive],
    )
}
