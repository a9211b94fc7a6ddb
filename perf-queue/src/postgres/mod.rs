//! Jobs in tables of Postgres, for any number of processes.
//!
//! Each verb of [`Remote`](crate::remote::Remote) is one call of a function that the migration has
//! made, so it is one trip and one transaction.

mod apart;
mod batch;
mod error;
mod kept;
mod listen;
mod migrate;
mod open;
mod pooler;
mod remote;
mod rules;
mod schema;
mod statements;
#[cfg(test)]
mod tests;

use std::time::Duration;

use sqlx::PgPool;

pub(crate) use remote::PostgresRemote;

pub(crate) const NAME: &str = "Postgres";

/// The Postgres backend: jobs live in tables of their own schema, shared by all processes that use
/// the same database. Needs Postgres 13 or later.
///
/// Processes learn of new jobs by `LISTEN`, on one connection of their own beside the pool. Where
/// notifications do not arrive, they poll.
///
/// Behind PgBouncer any mode that runs prepared statements will do: the session mode, and the transaction mode
/// from 1.21 on with `max_prepared_statements`. In transaction mode notifications do not arrive, so processes
/// ask once a second, or at once after an enqueue of their own. Where clients would run each other's prepared
/// statements, building a queue fails with [`BackendError::Unfit`](crate::BackendError::Unfit).
///
/// It does as well where the pool's transactions are `REPEATABLE READ` or `SERIALIZABLE` by default, and so do not see
/// what others have left while they waited: set `default_transaction_isolation` for these connections to
/// `read committed`.
#[derive(Debug, Clone)]
pub struct Postgres {
    pool: PgPool,
    schema: String,
    capacity: usize,
    dead_letters: usize,
    response_timeout: Duration,
    migrate: bool,
}

impl Postgres {
    /// Keeps the jobs in the database of this pool. A process uses one connection of it at a time,
    /// or a few under load.
    #[must_use]
    pub fn new(pool: PgPool) -> Self {
        Self {
            pool,
            schema: "perf_queue".to_owned(),
            capacity: 100_000,
            dead_letters: 1_000,
            response_timeout: Duration::from_secs(10),
            migrate: true,
        }
    }

    /// The schema that the tables are in, for all queues that name it. Defaults to `perf_queue`.
    #[must_use]
    pub fn schema(mut self, name: impl Into<String>) -> Self {
        self.schema = name.into();
        self
    }

    /// How many jobs a queue holds, those that run among them. Defaults to 100,000.
    ///
    /// Each enqueue counts what had been committed when it began: enqueues of other connections that run
    /// at the same instant are not seen, and neither are transactions that have not committed. So the
    /// queue holds no more than this, plus one job or batch for each of them: for every connection that
    /// enqueues, what it adds at once. (A count that all enqueues would have to wait for would be strict,
    /// and make them run one after another.)
    #[must_use]
    pub const fn capacity(mut self, jobs: usize) -> Self {
        self.capacity = jobs;
        self
    }

    /// Keeps up to `letters` dead letters, beside the queue's own bound. When there are more, the oldest
    /// is dropped and counted ([`Stats::dead_dropped`](crate::Stats)); 0 keeps none. Defaults to
    /// 1,000.
    #[must_use]
    pub const fn dead_letters(mut self, letters: usize) -> Self {
        self.dead_letters = letters;
        self
    }

    /// How long to wait for an answer, or for a connection of the pool, before the server counts as
    /// gone, as in a failover that leaves connections open to nowhere. What became of the request is
    /// unknown then: a batch may be in the queue all the same, and trying again does not add it twice;
    /// jobs that were handed out run again when their lease ends. Defaults to 10 s.
    #[must_use]
    pub const fn response_timeout(mut self, timeout: Duration) -> Self {
        self.response_timeout = timeout;
        self
    }

    /// Whether to make the schema and its tables where they are not there yet, and to bring those of
    /// an older version of the crate up to date, when a queue is built: each version's step in one
    /// transaction. Processes may do so at the same time. Otherwise run what
    /// [`migrations`](Self::migrations) gives beforehand. Defaults to true.
    #[must_use]
    pub const fn migrate(mut self, yes: bool) -> Self {
        self.migrate = yes;
        self
    }

    /// The statements that make the schema and what is in it, for those who apply migrations
    /// themselves: to be run once, in one transaction. Each version's part begins with a line that names
    /// it (`-- Version 1.`); where there is a schema of an older version, only the parts after that.
    ///
    /// A schema of a version that this crate does not know is refused when the queue is built.
    ///
    /// The role that the queue uses later has to own what they make, or to be granted `USAGE` on
    /// the schema, and on all that is in it the rights to read, write and execute.
    #[must_use]
    pub fn migrations(&self) -> String {
        schema::migrations(&self.schema)
    }
}
