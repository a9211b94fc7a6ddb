//! What a pool settles with a Postgres server, or with a pooler in front of it, at the start.

mod begin;
mod budget;
mod builder;
mod console;
mod judgement;
mod pooler;
mod pooler_error;
mod settings;

use futures_core::future::BoxFuture;
use sqlx::postgres::PgConnectOptions;
use sqlx::{PgConnection, Postgres};

pub use self::budget::{BudgetCheck, BudgetLimit, OverBudget};
pub use self::pooler::{Pooler, PoolerStatements};
pub use self::pooler_error::PoolerError;
use self::settings::PostgresSettings;
use crate::config::PoolConfig;
use crate::driver::{About, Sealed};
use crate::hooks::AfterConnect;
use crate::{BuildError, ConnectError, PoolBuilder};

impl Sealed for Postgres {
    type Settings = PostgresSettings;

    fn configure(
        settings: &PostgresSettings,
        about: &About<'_>,
        options: PgConnectOptions,
    ) -> Result<PgConnectOptions, BuildError> {
        settings.configure(about, options)
    }

    fn session(settings: &PostgresSettings) -> Option<AfterConnect<Self>> {
        settings.session()
    }

    fn inspect<'a>(
        settings: &'a PostgresSettings,
        about: &'a About<'a>,
        options: &'a PgConnectOptions,
        conn: &'a mut PgConnection,
    ) -> BoxFuture<'a, Result<(), ConnectError>> {
        Box::pin(async move {
            match settings.pooler {
                Pooler::Direct => {
                    budget::check(settings.budget, settings.instances, about, conn).await
                }
                pooler => {
                    let capacity = settings::statement_cache_capacity(options);
                    let facts = console::ask(options).await;
                    if let Err(error) = &facts {
                        tracing::debug!(
                            pool = about.name,
                            error = error as &dyn std::error::Error,
                            "PgBouncer's console does not answer, what it would say is not checked"
                        );
                    }
                    judgement::judge(pooler, settings.pooler_statements, capacity, facts)?;
                    Ok(())
                }
            }
        })
    }

    fn explain(about: &About<'_>, source: sqlx::Error) -> ConnectError {
        pooler_error::explain(about.target, source)
    }

    fn apply(config: &PoolConfig, builder: PoolBuilder<Self>) -> PoolBuilder<Self> {
        config.postgres().apply(builder)
    }
}
