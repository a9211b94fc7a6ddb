use std::sync::Arc;

use sqlx::{AssertSqlSafe, PgPool, Row};

use super::error::{backend_error, is_collision};
use super::listen::Listener;
use super::remote::address;
use super::{NAME, Postgres, PostgresRemote, migrate, pooler, schema};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::backend::{Boxed, Open, Parts, QueueBackend, Ready};
use crate::remote::{Leased, Remote, Rules};
use crate::{BackendError, BuildError};

impl Postgres {
    /// Makes the tables where it may, and the queue where there is none of this name. Rules that are
    /// given replace those that are stored.
    pub(crate) async fn open(
        self,
        queue: &str,
        rules: Option<&Rules>,
    ) -> Result<PostgresRemote, BackendError> {
        let address = address(&self.pool);
        let opened = self.try_open(queue, rules).await;
        opened.map_err(|error| error.at(&address))
    }

    async fn try_open(
        self,
        queue: &str,
        rules: Option<&Rules>,
    ) -> Result<PostgresRemote, BackendError> {
        schema::check(&self.schema)?;
        if queue.contains('\0') {
            return Err(BackendError::Unfit {
                backend: NAME,
                reason: "the name of the queue has a NUL, which Postgres does not keep".to_owned(),
            });
        }
        let shared = pooler::shares_connections(&self.pool, self.response_timeout).await?;
        if self.migrate {
            let migrated = migrate::migrate(&self.pool, &self.schema, schema::MIGRATIONS).await;
            migrated.map_err(backend_error)?;
        }
        migrate::check(&self.pool, &self.schema).await?;
        let quoted = schema::quoted(&self.schema);
        let (id, channel) = queue_row(&self.pool, &quoted, queue).await?;
        let listener = if shared {
            Listener::deaf()
        } else {
            Listener::spawn(&self.pool, channel)
        };
        let bounds = [self.capacity, self.dead_letters];
        let remote = PostgresRemote::new(
            self.pool,
            self.response_timeout,
            &quoted,
            id,
            bounds,
            listener,
        );
        if let Some(rules) = rules {
            remote.set_rules(rules).await?;
        }
        Ok(remote)
    }
}

async fn queue_row(
    pool: &PgPool,
    schema: &str,
    queue: &str,
) -> Result<(i32, Arc<str>), BackendError> {
    // A channel is an identifier of at most 63 bytes, and common to all schemas.
    let sql = format!(
        "SELECT queue, channel FROM {schema}.open_queue($1, 'perf_queue_' || md5($2 || '.' || $1))"
    );
    loop {
        let row = sqlx::query(AssertSqlSafe(sql.clone()))
            .bind(queue)
            .bind(schema)
            .fetch_one(pool)
            .await;
        match row {
            Ok(row) => {
                let channel: String = row.try_get(1).map_err(backend_error)?;
                return Ok((row.try_get(0).map_err(backend_error)?, channel.into()));
            }
            Err(error) if is_collision(&error) => {}
            Err(error) => return Err(backend_error(error)),
        }
    }
}

impl<T, K> QueueBackend<T, K> for Postgres
where
    T: Serialize + DeserializeOwned + Send + 'static,
    K: Serialize + Send + 'static,
{
}

impl<T, K> Open<T, K> for Postgres
where
    T: Serialize + DeserializeOwned + Send + 'static,
    K: Serialize + Send + 'static,
{
    fn open(mut self, parts: Parts<T, K>) -> Boxed<'static, Result<Ready<T>, BuildError>> {
        Box::pin(async move {
            self.dead_letters = parts.dead_letters.unwrap_or(self.dead_letters);
            let rules = parts.rules();
            let capacity = self.capacity;
            let remote = Self::open(self, &parts.name, rules.as_ref()).await?;
            Ok(Leased::start(remote, capacity, parts))
        })
    }
}
