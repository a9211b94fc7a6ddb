//! Behind a real PgBouncer 1.18, the version of Debian 12: what is sound works, what is not is
//! refused at the start.

mod reasons;
mod refused;
mod served;

use perf_pool::{ConnectError, Pool, PoolBuilder, Pooler, PoolerError, PoolerStatements};
use sqlx::{Executor, Postgres, Row};
use testkit::{PgBouncer, PoolMode};

const CONSOLE: (&str, &str) = ("stats_users", "postgres");

/// The pooler, and the URL of the server by way of it.
async fn bouncer(mode: PoolMode, settings: &[(&str, &str)]) -> Option<(PgBouncer, String)> {
    let postgres = testkit::Postgres::shared().await?;
    let bouncer = PgBouncer::start_with(&postgres, mode, settings).await?;
    let url = bouncer.url(&postgres.url());
    Some((bouncer, url))
}

fn behind(pooler: Pooler) -> PoolBuilder<Postgres> {
    Pool::builder()
        .min_connections(1)
        .max_connections(8)
        .pooler(pooler)
}

fn raw_sql() -> PoolBuilder<Postgres> {
    behind(Pooler::PgBouncerTransaction).pooler_statements(PoolerStatements::RawSql)
}

async fn refused(builder: PoolBuilder<Postgres>, url: &str) -> PoolerError {
    match builder.connect(url).await {
        Err(ConnectError::Pooler(error)) => error,
        other => panic!("{other:?}"),
    }
}

async fn text(conn: impl Executor<'_, Database = Postgres>, sql: &'static str) -> String {
    let row = conn.fetch_one(sqlx::raw_sql(sql)).await.unwrap();
    row.get(0)
}
