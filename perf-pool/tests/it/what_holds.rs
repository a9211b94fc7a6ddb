//! The README's table of what holds where, cell by cell.

use std::sync::Arc;
use std::time::Duration;

use futures_util::poll;
use perf_pool::{AcquireError, Pool, PoolBuilder, PoolConnection, Transaction};
use sqlx::{Acquire, Executor, Postgres};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use crate::recorder::Recorded;
use crate::relay::Relay;
use crate::wait::eventually;

/// The columns of the table; the first is two, as its parts differ in what they hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Query,
    Acquire,
    Begin,
    SqlxBegin,
    Bare,
}

const WAYS: [Way; 5] = [
    Way::Query,
    Way::Acquire,
    Way::Begin,
    Way::SqlxBegin,
    Way::Bare,
];

/// What keeps a connection in use. A query keeps it while its rows are read.
enum Held {
    Conn {
        _conn: PoolConnection<Postgres>,
    },
    Tx {
        _tx: Transaction<Postgres>,
    },
    SqlxTx {
        _tx: sqlx::Transaction<'static, Postgres>,
    },
    Bare {
        _conn: sqlx::pool::PoolConnection<Postgres>,
    },
    Nothing,
}

impl Way {
    /// Takes a connection; a query gives it back at once.
    async fn take(self, pool: &Pool<Postgres>) -> Result<Held, sqlx::Error> {
        Ok(match self {
            Self::Query => {
                pool.execute("SELECT 1").await?;
                Held::Nothing
            }
            Self::Acquire => {
                let mut conn = pool.acquire().await?;
                conn.execute("SELECT 1").await?;
                Held::Conn { _conn: conn }
            }
            Self::Begin => Held::Tx {
                _tx: pool.begin().await?,
            },
            Self::SqlxBegin => Held::SqlxTx {
                _tx: Acquire::begin(pool).await?,
            },
            Self::Bare => Held::Bare {
                _conn: sqlx::Pool::acquire(pool).await?,
            },
        })
    }

    /// Whether it goes through our own acquire.
    fn is_ours(self) -> bool {
        self != Self::Bare
    }
}

fn one() -> PoolBuilder<Postgres> {
    Pool::builder()
        .min_connections(0)
        .max_connections(1)
        .keepalive_interval(None)
        .acquire_timeout(Duration::from_secs(10))
}

async fn settled(pool: &Pool<Postgres>) {
    eventually("the return", || pool.status().in_use == 0).await;
}

/// Pings of one use, return included, of a connection that is idle within sqlx's pool.
async fn pings(way: Way, window: Duration) -> Option<usize> {
    let pg = testkit::Postgres::shared().await?;
    let relay = Relay::to(&pg.url()).await;
    let pool = one().alive_bypass_window(window);
    let pool = pool.connect(&relay.url).await.unwrap();
    drop(sqlx::Pool::acquire(&pool).await.unwrap());
    settled(&pool).await;
    let before = relay.pings();
    drop(way.take(&pool).await.unwrap());
    settled(&pool).await;
    Some(relay.pings() - before)
}

#[tokio::test]
async fn only_beyond_the_window_is_a_ping_added_before_handing_out() {
    for way in WAYS {
        let Some(within) = pings(way, Duration::from_secs(60)).await else {
            return;
        };
        let beyond = pings(way, Duration::ZERO).await.unwrap();
        assert_eq!(beyond, within + 1, "{way:?}");
    }
}

#[tokio::test]
async fn what_succeeded_returns_without_a_ping_unless_sqlx_holds_it() {
    let Some(pg) = testkit::Postgres::shared().await else {
        return;
    };
    for (way, expected) in [
        (Way::Query, 0),
        (Way::Acquire, 0),
        (Way::SqlxBegin, 2),
        (Way::Bare, 3),
    ] {
        let relay = Relay::to(&pg.url()).await;
        let pool = one().alive_bypass_window(Duration::from_secs(60));
        let pool = pool.connect(&relay.url).await.unwrap();
        pool.execute("SELECT 1").await.unwrap();
        let before = relay.pings();
        drop(way.take(&pool).await.unwrap());
        settled(&pool).await;
        // For the bare pool one brings back what was kept warm.
        assert_eq!(relay.pings() - before, expected, "{way:?}");
    }
}

#[tokio::test]
async fn a_silent_peer_keeps_no_permit() {
    let Some(pg) = testkit::Postgres::shared().await else {
        return;
    };
    for way in WAYS {
        let relay = Relay::to(&pg.url()).await;
        let pool = one().return_timeout(Duration::from_millis(100));
        let pool = pool.connect(&relay.url).await.unwrap();
        pool.execute("SELECT 1").await.unwrap();
        let held = way.take(&pool).await.unwrap();
        relay.silence(true);
        if way == Way::Query {
            let silent = timeout(Duration::from_millis(50), pool.execute("SELECT 1")).await;
            silent.unwrap_err();
        }
        drop(held);
        // What was kept warm is tested when it goes back to sqlx.
        eventually("the end of it", || pool.status().size == 0).await;
        relay.silence(false);
        drop(way.take(&pool).await.unwrap());
    }
}

#[tokio::test]
async fn an_evicted_connection_is_handed_out_to_nobody() {
    let Some(pg) = testkit::Postgres::shared().await else {
        return;
    };
    for way in WAYS {
        let relay = Relay::to(&pg.url()).await;
        let pool = one().connect(&relay.url).await.unwrap();
        pool.execute("SELECT 1").await.unwrap();
        let before = relay.connections();
        pool.soft_evict();
        drop(way.take(&pool).await.unwrap());
        assert_eq!(relay.connections(), before + 1, "{way:?}");
    }
}

#[tokio::test]
async fn a_caller_that_gives_up_leaves_its_handshake_to_the_next_one() {
    let Some(pg) = testkit::Postgres::shared().await else {
        return;
    };
    for way in WAYS {
        // That by which `connect` sees that there is a server.
        let let_in = Arc::new(Semaphore::new(1));
        let pool = one().after_connect({
            let let_in = Arc::clone(&let_in);
            move |_| {
                let let_in = Arc::clone(&let_in);
                Box::pin(async move {
                    let_in
                        .acquire()
                        .await
                        .map(SemaphorePermit::forget)
                        .map_err(sqlx::Error::decode)
                })
            }
        });
        let pool = pool.connect(&pg.url()).await.unwrap();
        let gave_up = timeout(Duration::from_millis(30), way.take(&pool)).await;
        assert!(gave_up.is_err(), "{way:?}");
        assert_eq!(pool.status().size, u32::from(way.is_ours()), "{way:?}");
        let_in.add_permits(1);
        if way.is_ours() {
            eventually("the connection", || pool.status().idle == 1).await;
        }
    }
}

#[tokio::test]
async fn a_limit_binds_all_but_the_bare_pool() {
    let Some(pg) = testkit::Postgres::shared().await else {
        return;
    };
    for way in WAYS {
        let pool = one().max_connections(2).connect(&pg.url()).await.unwrap();
        pool.set_concurrency_limit(1);
        let _held = pool.acquire().await.unwrap();
        // Those that get one get it soon, but not on every machine.
        let patience = match way.is_ours() {
            true => Duration::from_millis(200),
            false => Duration::from_secs(20),
        };
        let second = timeout(patience, way.take(&pool)).await;
        assert_eq!(second.is_err(), way.is_ours(), "{way:?}");
    }
}

#[tokio::test]
async fn errors_explain_and_waiting_is_seen_but_for_the_bare_pool() {
    let Some(pg) = testkit::Postgres::shared().await else {
        return;
    };
    for way in WAYS {
        // The bare pool waits for the longer one of both.
        let pool = one()
            .min_connections(1)
            .acquire_timeout(Duration::from_secs(1))
            .connect_timeout(Duration::from_secs(1));
        let pool = pool.connect(&pg.url()).await.unwrap();
        let held = pool.acquire().await.unwrap();
        let mut second = Box::pin(way.take(&pool));
        assert!(poll!(&mut second).is_pending());
        assert_eq!(pool.status().pending, u32::from(way.is_ours()), "{way:?}");
        let Err(error) = second.await else {
            panic!("{way:?}")
        };
        match way.is_ours() {
            true => assert!(AcquireError::in_sqlx(&error).is_some(), "{way:?}: {error}"),
            false => assert!(matches!(error, sqlx::Error::PoolTimedOut), "{error}"),
        }
        drop(held);
    }
}

#[tokio::test]
async fn what_is_held_is_counted_and_the_time_of_its_use_where_it_is_ours() {
    let Some(pg) = testkit::Postgres::shared().await else {
        return;
    };
    for way in WAYS {
        let metrics = Recorded::new();
        let _local = metrics::set_default_local_recorder(&metrics);
        let pool = one().name("m").connect(&pg.url()).await.unwrap();
        let held = way.take(&pool).await.unwrap();
        let in_use = u32::from(way != Way::Query);
        assert_eq!(pool.status().in_use, in_use, "{way:?}");
        drop(held);
        settled(&pool).await;
        let times = |name: &str| {
            let name = format!("db_client_connections_{name}_seconds");
            metrics.histogram(&name).len()
        };
        let guarded = !matches!(way, Way::SqlxBegin | Way::Bare);
        assert_eq!(times("use_time"), usize::from(guarded), "{way:?}");
        assert_eq!(times("wait_time"), usize::from(way.is_ours()), "{way:?}");
    }
}
