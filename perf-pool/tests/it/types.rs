use std::fmt::Debug;

use perf_pool::{
    AcquireError, BudgetCheck, BudgetLimit, BuildError, ConfigError, ConnectError, OverBudget,
    Phase, Pool, PoolBuilder, PoolConfig, PoolConnection, Pooler, PoolerError, PoolerStatements,
    Profile, SqlitePools, SqlitePoolsBuilder, Status, Transaction,
};
use sqlx::{Postgres, Sqlite};

fn shared<T: Send + Sync + Debug>() {}
fn sent<T: Send>(_: &T) {}

#[test]
fn public_types_are_send_sync_and_debug() {
    shared::<Pool<Postgres>>();
    shared::<Pool<Sqlite>>();
    shared::<PoolBuilder<Postgres>>();
    shared::<PoolConnection<Postgres>>();
    shared::<PoolConnection<Sqlite>>();
    shared::<Transaction<Postgres>>();
    shared::<Transaction<Sqlite>>();
    shared::<SqlitePools>();
    shared::<SqlitePoolsBuilder>();
    shared::<(Profile, Status, Phase)>();
    shared::<(AcquireError, BuildError, ConnectError)>();
    shared::<(PoolConfig, ConfigError, BudgetCheck, BudgetLimit)>();
    shared::<(OverBudget, Pooler, PoolerStatements, PoolerError)>();
}

#[tokio::test]
async fn the_futures_can_be_spawned() {
    let file = crate::files::File::new();
    let connect = Pool::<Sqlite>::builder().connect("sqlite://x.db");
    sent(&connect);
    drop(connect);
    let pool = file.open(crate::files::at_most(1)).await;
    // 'static: no borrow of the pool.
    let acquire = pool.acquire();
    sent(&acquire);
    sent(&pool.begin());
    sent(&pool.close());
    drop(pool);
    tokio::spawn(acquire).await.unwrap().unwrap();
}
