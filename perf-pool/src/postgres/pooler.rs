use std::fmt;

/// What stands between a pool and its Postgres server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Pooler {
    /// Nothing that keeps connections of its own; a TCP load balancer counts as nothing.
    #[default]
    Direct,
    /// PgBouncer with `pool_mode = session`: a connection to it has a server's connection to itself
    /// until it is closed, so all works but startup parameters.
    PgBouncerSession,
    /// PgBouncer with `pool_mode = transaction`: each transaction may run on another connection of
    /// the server's, so a session holds nothing.
    PgBouncerTransaction,
}

impl Pooler {
    /// What PgBouncer calls the mode.
    pub(super) const fn mode(self) -> &'static str {
        match self {
            Self::Direct => "none",
            Self::PgBouncerSession => "session",
            Self::PgBouncerTransaction => "transaction",
        }
    }
}

/// As messages name it.
impl fmt::Display for Pooler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct => f.write_str("no pooler"),
            pooler => write!(f, "PgBouncer in {} mode", pooler.mode()),
        }
    }
}

/// What is sent through PgBouncer in transaction mode, and who knows whether it can take that.
///
/// Prepared statements, which `sqlx::query` sends, need PgBouncer 1.21 or later with
/// `max_prepared_statements` above 0. Without, a connection runs what another client prepared
/// under the same name on the same server connection: an error at best, another statement at
/// worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum PoolerStatements {
    /// Prepared ones, if PgBouncer's console says that it tracks them. The user of the URL must be
    /// among its `stats_users` or `admin_users`.
    #[default]
    Prepared,
    /// Prepared ones, on your word, where the console cannot be asked; where it can, it has the
    /// last word.
    Declared {
        /// The version of PgBouncer: 1 of 1.21.
        major: u32,
        /// The version of PgBouncer: 21 of 1.21.
        minor: u32,
        /// Its `max_prepared_statements`.
        max_prepared_statements: usize,
    },
    /// None: all that goes through the pool is `sqlx::raw_sql`, or a plain string that is executed,
    /// as in `pool.execute("..")`. Works with every version. `sqlx::query` prepares a statement
    /// even without arguments, so through `&pool` and `&mut conn` it is turned away; in a
    /// transaction, on `&mut *conn` and through the bare sqlx pool nothing checks it.
    RawSql,
}
