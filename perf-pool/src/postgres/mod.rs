//! What a pool settles with a Postgres server, or with a pooler in front of it, at the start.

mod begin;
mod budget;
mod builder;
mod console;
mod judgement;
mod pooler;
mod pooler_error;
mod settings;

use std::time::Duration;

use futures_core::future::BoxFuture;
use sqlx::postgres::PgConnectOptions;
use sqlx::{Executor, PgConnection, Postgres, Row};

pub use self::budget::{BudgetCheck, BudgetLimit, OverBudget};
pub use self::pooler::{Pooler, PoolerStatements};
pub use self::pooler_error::PoolerError;
use self::settings::PostgresSettings;
use crate::config::PoolConfig;
use crate::driver::{About, Sealed};
use crate::hooks::AfterConnect;
use crate::{BuildError, ConnectError, PoolBuilder};

/// Another server behind the same address may have the same process id.
const SERVED_BY: &str = "SELECT pg_backend_pid()::text || ' ' || pg_postmaster_start_time()::text";

impl Sealed for Postgres {
    type Settings = PostgresSettings;

    fn configure(
        settings: &PostgresSettings,
        about: &About,
        options: PgConnectOptions,
    ) -> Result<PgConnectOptions, BuildError> {
        settings.configure(about, options)
    }

    fn session(settings: &PostgresSettings) -> Option<AfterConnect<Self>> {
        settings.session()
    }

    fn ping_timeout(settings: &PostgresSettings) -> Duration {
        match settings.pooler {
            Pooler::PgBouncerTransaction => Duration::from_secs(5),
            Pooler::Direct | Pooler::PgBouncerSession => Duration::from_millis(500),
        }
    }

    fn raw_sql_only(settings: &PostgresSettings) -> bool {
        settings.pooler == Pooler::PgBouncerTransaction
            && settings.pooler_statements == PoolerStatements::RawSql
    }

    fn inspect<'a>(
        settings: &'a PostgresSettings,
        about: &'a About,
        options: &'a PgConnectOptions,
        conn: &'a mut PgConnection,
    ) -> BoxFuture<'a, Result<(), ConnectError>> {
        Box::pin(async move {
            let (how, instances) = (settings.budget, settings.instances);
            if settings.pooler == Pooler::Direct {
                return budget::of_server(how, instances, about, conn).await;
            }
            let capacity = settings::statement_cache_capacity(options);
            let judge = |facts| {
                judgement::judge(settings.pooler, settings.pooler_statements, capacity, facts)
            };
            match console::ask(options).await {
                Ok(facts) => {
                    judge(Ok(&facts))?;
                    budget::of_pooler(how, instances, about, settings.pooler, &facts)
                }
                Err(error) => {
                    tracing::debug!(
                        pool = &*about.name,
                        error = &error as &dyn std::error::Error,
                        "PgBouncer's console does not answer, so what it would say is not checked"
                    );
                    judge(Err(error))?;
                    Ok(())
                }
            }
        })
    }

    fn served_by<'a>(
        settings: &'a PostgresSettings,
        conn: &'a mut PgConnection,
    ) -> BoxFuture<'a, Option<String>> {
        Box::pin(async move {
            if settings.pooler != Pooler::Direct {
                return None;
            }
            let row = conn.fetch_one(sqlx::raw_sql(SERVED_BY)).await.ok()?;
            row.try_get(0).ok()
        })
    }

    fn explain(about: &About, source: sqlx::Error) -> ConnectError {
        pooler_error::explain(&about.target, source)
    }

    fn apply(config: &PoolConfig, builder: PoolBuilder<Self>) -> PoolBuilder<Self> {
        config.postgres().apply(builder)
    }
}
