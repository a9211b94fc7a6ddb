use thiserror::Error;

use super::pooler::Pooler;
use crate::ConnectError;

/// What PgBouncer says to a startup parameter that it does not know, since 1.20 also to one within
/// `options`.
const STARTUP_PARAMETER: &str = "unsupported startup parameter";

/// Why a pool would not be sound behind the PgBouncer at hand.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PoolerError {
    /// A pooler refused a startup parameter, as PgBouncer does.
    #[error(
        "{target} is a pooler that refuses the startup parameter {parameter}: declare it with \
         pooler(Pooler::PgBouncerSession) or pooler(Pooler::PgBouncerTransaction), which leave \
         such parameters out"
    )]
    StartupParameter {
        /// The server, without user, password and parameters.
        target: String,
        /// The parameter.
        parameter: String,
        /// What the pooler said.
        source: sqlx::Error,
    },
    /// PgBouncer pools in another way than was declared.
    #[error(
        "PgBouncer is in {actual} mode for this user and database, not in {} mode: declare what \
         it does, or change its pool_mode",
        declared.mode()
    )]
    Mode {
        /// What the builder was told.
        declared: Pooler,
        /// What PgBouncer does.
        actual: String,
    },
    /// PgBouncer's console could not be asked whether prepared statements are sound.
    #[error(
        "PgBouncer's console does not tell whether it tracks prepared statements: add the user to \
         its stats_users, or tell the pool with pooler_statements(PoolerStatements::Declared ..), \
         or send raw SQL alone with pooler_statements(PoolerStatements::RawSql)"
    )]
    Console {
        /// What the console said.
        source: sqlx::Error,
    },
    /// PgBouncer does not know of prepared statements in transaction mode.
    #[error(
        "PgBouncer {major}.{minor} does not track prepared statements in transaction mode, so a \
         client may run another one's: upgrade it to 1.21 or later with max_prepared_statements, \
         use session mode, or send raw SQL alone with pooler_statements(PoolerStatements::RawSql)"
    )]
    TooOld {
        /// 1 of 1.20.
        major: u32,
        /// 20 of 1.20.
        minor: u32,
    },
    /// PgBouncer could track prepared statements, and does not.
    #[error(
        "PgBouncer's max_prepared_statements is 0, so a client may run another one's prepared \
         statement: set it to {capacity} (the statement_cache_capacity) or more, use session \
         mode, or send raw SQL alone with pooler_statements(PoolerStatements::RawSql)"
    )]
    StatementsNotTracked {
        /// The `statement_cache_capacity` of the pool.
        capacity: usize,
    },
    /// A connection would cache more statements than PgBouncer keeps prepared.
    #[error(
        "statement_cache_capacity {capacity} is above PgBouncer's max_prepared_statements \
         {max_prepared_statements}, which would prepare again and again: lower the one or raise \
         the other"
    )]
    CacheAboveLimit {
        /// The `statement_cache_capacity` of the pool.
        capacity: usize,
        /// The setting of PgBouncer.
        max_prepared_statements: usize,
    },
    /// In session mode a client would find what the last one left in the session.
    #[error(
        "PgBouncer's server_reset_query is empty, so a client finds the settings and prepared \
         statements of the last one: set it to DISCARD ALL"
    )]
    NoReset,
}

/// Why the first connection failed.
pub(super) fn explain(target: &str, source: sqlx::Error) -> ConnectError {
    let parameter = source.as_database_error().and_then(|error| {
        let (_, parameter) = error
            .message()
            .strip_prefix(STARTUP_PARAMETER)?
            .split_once(": ")?;
        Some(parameter.to_owned())
    });
    let target = target.to_owned();
    match parameter {
        Some(parameter) => PoolerError::StartupParameter {
            target,
            parameter,
            source,
        }
        .into(),
        None => ConnectError::Connect { target, source },
    }
}
