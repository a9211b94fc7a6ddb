use std::future;

use futures_core::future::BoxFuture;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Sqlite, SqliteConnection};

use crate::config::PoolConfig;
use crate::driver::{About, Sealed};
use crate::hooks::AfterConnect;
use crate::{BuildError, ConnectError, PoolBuilder};

/// The settings that only SQLite has.
#[derive(Debug, Clone, Default)]
pub struct SqliteSettings {
    /// A setting of a configuration that SQLite does not have.
    foreign: Option<&'static str>,
}

impl Sealed for Sqlite {
    type Settings = SqliteSettings;

    fn configure(
        settings: &SqliteSettings,
        about: &About,
        options: SqliteConnectOptions,
    ) -> Result<SqliteConnectOptions, BuildError> {
        if let Some(option) = settings.foreign {
            return Err(BuildError::OfAnotherDatabase { option });
        }
        Ok(match about.statement_cache_capacity {
            Some(capacity) => options.statement_cache_capacity(capacity),
            None => options,
        })
    }

    fn session(_: &SqliteSettings) -> Option<AfterConnect<Self>> {
        None
    }

    fn raw_sql_only(_: &SqliteSettings) -> bool {
        false
    }

    fn inspect<'a>(
        _: &'a SqliteSettings,
        _: &'a About,
        _: &'a SqliteConnectOptions,
        _: &'a mut SqliteConnection,
    ) -> BoxFuture<'a, Result<(), ConnectError>> {
        Box::pin(future::ready(Ok(())))
    }

    fn served_by<'a>(
        _: &'a SqliteSettings,
        _: &'a mut SqliteConnection,
    ) -> BoxFuture<'a, Option<String>> {
        Box::pin(future::ready(None))
    }

    fn explain(about: &About, source: sqlx::Error) -> ConnectError {
        ConnectError::Connect {
            target: about.target.to_string(),
            source,
        }
    }

    fn apply(config: &PoolConfig, mut builder: PoolBuilder<Self>) -> PoolBuilder<Self> {
        builder.driver.foreign = config.first_of_postgres();
        builder
    }
}
