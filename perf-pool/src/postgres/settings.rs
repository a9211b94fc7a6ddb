use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Postgres};

use super::begin;
use super::budget::BudgetCheck;
use super::pooler::{Pooler, PoolerStatements};
use crate::BuildError;
use crate::driver::About;
use crate::hooks::AfterConnect;

/// Postgres cuts longer names (`NAMEDATALEN - 1`), with a notice for each connection.
const LONGEST_NAME: usize = 63;

/// sqlx's own default.
const STATEMENT_CACHE_CAPACITY: usize = 100;

/// The settings that only Postgres has.
#[derive(Debug, Clone)]
pub struct PostgresSettings {
    pub(super) statement_timeout: Option<Duration>,
    pub(super) idle_in_transaction_session_timeout: Option<Duration>,
    pub(super) pooler: Pooler,
    pub(super) pooler_statements: PoolerStatements,
    pub(super) instances: u32,
    pub(super) budget: BudgetCheck,
}

impl Default for PostgresSettings {
    fn default() -> Self {
        Self {
            statement_timeout: None,
            idle_in_transaction_session_timeout: None,
            pooler: Pooler::default(),
            pooler_statements: PoolerStatements::default(),
            instances: 1,
            budget: BudgetCheck::default(),
        }
    }
}

impl PostgresSettings {
    pub(super) fn configure(
        &self,
        about: &About,
        mut options: PgConnectOptions,
    ) -> Result<PgConnectOptions, BuildError> {
        if self.instances == 0 {
            return Err(BuildError::NoInstances);
        }
        if let Some((option, _)) = self.timeouts().find(|(_, timeout)| timeout.is_zero()) {
            return Err(BuildError::ZeroDuration { option });
        }
        if let Some(capacity) = about.statement_cache_capacity {
            options = options.statement_cache_capacity(capacity);
        }
        if statement_cache_capacity(&options) == 0 {
            return Err(BuildError::NoStatementCache);
        }
        if options.get_application_name().is_none() {
            options = options.application_name(&application_name(&about.name));
        }
        match self.pooler {
            // An empty list would be sent, too.
            Pooler::Direct if self.timeouts().next().is_none() => Ok(options),
            Pooler::Direct => Ok(options.options(self.timeouts().map(in_milliseconds))),
            pooler => {
                self.check_pooler(pooler, about, &options)?;
                // sqlx sends it for servers before Postgres 12; PgBouncer does not know it.
                Ok(options.extra_float_digits(None))
            }
        }
    }

    /// Refuses what PgBouncer would not take, and what would not hold behind it.
    fn check_pooler(
        &self,
        pooler: Pooler,
        about: &About,
        options: &PgConnectOptions,
    ) -> Result<(), BuildError> {
        let refuse = |option, remedy| {
            Err(BuildError::BehindPooler {
                option,
                pooler,
                remedy,
            })
        };
        if options.get_options().is_some_and(|text| !text.is_empty()) {
            return refuse(
                "`options` of the url or of PGOPTIONS",
                "take it out and use ALTER ROLE .. SET, for PgBouncer refuses it, or drops it \
                 where ignore_startup_parameters has it",
            );
        }
        if pooler != Pooler::PgBouncerTransaction {
            return Ok(());
        }
        if let Some((option, _)) = self.timeouts().next() {
            return refuse(
                option,
                "leave it out and use ALTER ROLE .. SET, or SET LOCAL in begin_statement \
                 (ignore_startup_parameters would only drop it)",
            );
        }
        if about.after_connect {
            return refuse(
                "after_connect",
                "leave it out and use ALTER ROLE .. SET, for what it does to a session other \
                 clients would find, and this one would not",
            );
        }
        if about.begin_statement.is_some_and(begin::outlives_it) {
            return refuse(
                "begin_statement",
                "use only what ends with the transaction, such as SET LOCAL and \
                 pg_advisory_xact_lock",
            );
        }
        Ok(())
    }

    /// In session mode PgBouncer takes no startup options, but a session is the client's own.
    pub(super) fn session(&self) -> Option<AfterConnect<Postgres>> {
        if self.pooler != Pooler::PgBouncerSession {
            return None;
        }
        let statements: Vec<String> = self
            .timeouts()
            .map(in_milliseconds)
            .map(|(name, value)| format!("SET {name} = {value}"))
            .collect();
        if statements.is_empty() {
            return None;
        }
        let sql: Arc<str> = statements.join("; ").into();
        let set: AfterConnect<Postgres> = Arc::new(move |conn| {
            let sql = AssertSqlSafe(Arc::clone(&sql));
            Box::pin(async move {
                sqlx::raw_sql(sql).execute(conn).await?;
                Ok(())
            })
        });
        Some(set)
    }

    fn timeouts(&self) -> impl Iterator<Item = (&'static str, Duration)> + use<> {
        let all = [
            ("statement_timeout", self.statement_timeout),
            (
                "idle_in_transaction_session_timeout",
                self.idle_in_transaction_session_timeout,
            ),
        ];
        all.into_iter()
            .filter_map(|(name, timeout)| Some((name, timeout?)))
    }
}

/// Postgres counts milliseconds in an `int`, and 0 would switch the timeout off.
fn in_milliseconds((name, timeout): (&'static str, Duration)) -> (&'static str, i32) {
    let value = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    (name, value.max(1))
}

/// The pool's name as Postgres can show it.
fn application_name(pool: &str) -> String {
    let mut name = pool.replace('\0', "");
    name.truncate(name.floor_char_boundary(LONGEST_NAME));
    name
}

/// sqlx has no getter for it, but writes it into its URL.
pub(super) fn statement_cache_capacity(options: &PgConnectOptions) -> usize {
    // sqlx panics over a URL with names that it does not escape, and none of these matter here.
    let bare = options
        .clone()
        .host("localhost")
        .socket("/tmp")
        .username("nobody")
        .password("");
    bare.to_url_lossy()
        .query_pairs()
        .find(|(key, _)| key == "statement-cache-capacity")
        .and_then(|(_, value)| value.parse().ok())
        .unwrap_or(STATEMENT_CACHE_CAPACITY)
}

#[cfg(test)]
mod tests;
