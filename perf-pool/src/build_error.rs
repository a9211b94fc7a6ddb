use thiserror::Error;

/// Why a pool's settings make no sense. Nothing was opened.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum BuildError {
    /// `max_connections` is 0, so nothing could ever be acquired.
    #[error("max_connections is 0: allow at least 1")]
    NoConnections,
    /// `max_connections` is above what any server takes.
    #[error("max_connections is {max}: no server takes more than {limit}, lower it")]
    TooManyConnections {
        /// The value asked for.
        max: u32,
        /// The largest value that is accepted.
        limit: u32,
    },
    /// `min_connections` is above `max_connections`.
    #[error(
        "min_connections {min} is above max_connections {max}: lower the one or raise the other"
    )]
    MinAboveMax {
        /// The value of `min_connections`.
        min: u32,
        /// The value of `max_connections`.
        max: u32,
    },
    /// `max_connecting` is 0, so no connection could ever be opened.
    #[error("max_connecting is 0: allow at least 1")]
    NoConnecting,
    /// `max_lifetime_jitter` is no part of a lifetime.
    #[error("max_lifetime_jitter is {jitter}: give a part from 0 to 1, such as 0.1")]
    Jitter {
        /// The value asked for.
        jitter: f64,
    },
    /// A duration that must be positive is zero.
    #[error("{option} is zero: give it a positive duration")]
    ZeroDuration {
        /// The name of the option.
        option: &'static str,
    },
    /// `statement_cache_capacity` is 0, with Postgres.
    #[error(
        "statement_cache_capacity is 0, with which sqlx prepares a statement for each query and \
         never drops it: leave it out, or give at least 1 (`sqlx::raw_sql` prepares none)"
    )]
    NoStatementCache,
    /// `instances` is 0.
    #[cfg(feature = "postgres")]
    #[error("instances is 0: count this one")]
    NoInstances,
    /// An option would not hold behind the pooler.
    #[cfg(feature = "postgres")]
    #[error("{option} does not hold behind {pooler}: {remedy}")]
    BehindPooler {
        /// What was asked for.
        option: &'static str,
        /// What stands between the pool and its server.
        pooler: crate::Pooler,
        /// What to do instead.
        remedy: &'static str,
    },
    /// The configuration sets what only another database has.
    #[error("{option} is of Postgres alone: take it out of this pool's configuration")]
    OfAnotherDatabase {
        /// The name of the option.
        option: &'static str,
    },
    /// `readers` is 0.
    #[cfg(feature = "sqlite")]
    #[error(
        "readers is 0: allow at least 1, or use `Pool::<Sqlite>::builder()` for one connection"
    )]
    NoReaders,
    /// The path names an in-memory database, which each connection would have for itself.
    #[cfg(feature = "sqlite")]
    #[error(
        "{path:?} is an in-memory database, which one connection cannot share with another: \
         give a file, or use `Pool::<Sqlite>::builder().max_connections(1)` without lifetimes"
    )]
    InMemory {
        /// The path as given.
        path: std::path::PathBuf,
    },
    /// A URL stands where a file's path belongs.
    #[cfg(feature = "sqlite")]
    #[error("{path:?} is a url: give the path of the file, such as \"app.db\"")]
    UrlForPath {
        /// The path as given.
        path: std::path::PathBuf,
    },
}
