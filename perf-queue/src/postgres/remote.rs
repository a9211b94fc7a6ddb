use std::io;
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool, Row};
use tokio::time::timeout;

use super::apart::{Apart, PATIENCE};
use super::batch::{self, Added, Over, job_ids};
use super::error::{backend_error, is_collision};
use super::kept::Kept;
use super::listen::Listener;
use super::rules::{Columns, micros_up};
use super::statements::Statements;
use crate::job_error::chain;
use crate::remote::{Counts, Ended, Exchange, Lease, Letter, NewJob, Quota, Remote, Rules, Want};
use crate::{BackendError, EnqueueInError, JobId, Scope};

/// How often a call is tried again that collided with others. The server undid it each time.
const TRIES: usize = 5;

/// A queue in Postgres.
#[derive(Debug)]
pub(crate) struct PostgresRemote {
    pool: PgPool,
    /// For exchanges, and for what is told beside them.
    kept: [Kept; 2],
    apart: Apart,
    response_timeout: Duration,
    address: String,
    queue: i32,
    capacity: i64,
    dead_letters: i64,
    listener: Listener,
    sql: Statements,
    #[cfg(test)]
    schema: String,
}

/// Runs the query on a connection of the pool, again where it collided with another transaction. One
/// that gets no answer is left: what became of it is unknown, and its connection is good for nothing.
macro_rules! trying {
    ($this:ident, $conn:ident => $call:expr) => {
        trying!($this.response_timeout, $this.pool.acquire(), drop, $conn => $call)
    };
    ($limit:expr, $acquire:expr, $give_back:expr, $conn:ident => $call:expr) => {{
        let mut tries = 1;
        loop {
            let result = match timeout($limit, $acquire).await {
                Ok(Ok(mut pooled)) => {
                    let $conn = &mut *pooled;
                    match timeout($limit, $call).await {
                        Ok(result) => {
                            if result.is_ok() {
                                $give_back(pooled);
                            }
                            result
                        }
                        Err(_) => {
                            // Given back to the pool, it would take a place there for as long as the
                            // system takes the server for alive.
                            drop(pooled.detach());
                            Err(silent())
                        }
                    }
                }
                Ok(Err(error)) => Err(error),
                Err(_) => Err(sqlx::Error::PoolTimedOut),
            };
            match result {
                Err(error) if tries < TRIES && is_collision(&error) => tries += 1,
                result => break result.map_err(backend_error),
            }
        }
    }};
}

/// Host, port and database.
pub(super) fn address(pool: &PgPool) -> String {
    let options = pool.connect_options();
    let database = options.get_database().unwrap_or_default();
    match options.get_socket() {
        Some(socket) => format!("{}/{database}", socket.display()),
        None => format!("{}:{}/{database}", options.get_host(), options.get_port()),
    }
}

fn silent() -> sqlx::Error {
    let kind = io::ErrorKind::TimedOut;
    sqlx::Error::Io(io::Error::new(kind, "no answer in time"))
}

impl PostgresRemote {
    pub(super) fn new(
        pool: PgPool,
        response_timeout: Duration,
        schema: &str,
        queue: i32,
        [capacity, dead_letters]: [usize; 2],
        listener: Listener,
    ) -> Self {
        Self {
            address: address(&pool),
            kept: [Kept::new(&pool), Kept::new(&pool)],
            apart: Apart::default(),
            pool,
            response_timeout,
            queue,
            capacity: i64::try_from(capacity).unwrap_or(i64::MAX),
            dead_letters: i64::try_from(dead_letters).unwrap_or(i64::MAX),
            listener,
            sql: Statements::new(schema),
            #[cfg(test)]
            schema: schema.to_owned(),
        }
    }

    #[cfg(test)]
    pub(super) const fn pool(&self) -> &PgPool {
        &self.pool
    }

    #[cfg(test)]
    pub(super) fn schema(&self) -> &str {
        &self.schema
    }

    /// Adds all jobs or none as part of the caller's transaction: they are there once it has
    /// committed, and never if it does not. Of two commits, one of which was over before the other
    /// began, the jobs of the first go first; delays count from the commit. A unique name is taken at
    /// once, and others who want it wait for the end of the transaction.
    ///
    /// A failure fails the transaction. Not tried again here, since only the caller could. A transaction
    /// that is more isolated than `READ COMMITTED` is left as it is, and no id is given.
    pub(crate) async fn enqueue_all_in(
        &self,
        conn: &mut PgConnection,
        jobs: &[NewJob],
    ) -> Result<Option<Vec<JobId>>, BackendError> {
        if jobs.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let added = Added::of(jobs);
        let row = self.enqueue_query(&added, true).fetch_one(conn).await;
        enqueued(&row.map_err(backend_error)?).map_err(backend_error)
    }

    async fn set(&self, which: i32, rules: &Rules) -> Result<(), BackendError> {
        let queue = Columns::of(rules.queue.as_ref());
        let key = Columns::of(rules.key.as_ref());
        let concurrency = rules
            .concurrency_per_key
            .map(|n| i32::try_from(n).unwrap_or(i32::MAX));
        let text = rules.to_text();
        trying!(self, conn =>
            sqlx::query(AssertSqlSafe(Arc::clone(&self.sql.set_rules)))
                .bind(self.queue)
                .bind(which)
                .bind(&text)
                .bind(queue.quota)
                .bind(queue.period)
                .bind(queue.burst)
                .bind(key.quota)
                .bind(key.period)
                .bind(key.burst)
                .bind(concurrency)
                .execute(conn)
        )?;
        Ok(())
    }

    async fn exchange_on(
        &self,
        kept: &Kept,
        limit: Duration,
        ended: &[Ended],
        want: Option<Want>,
    ) -> Result<Exchange, BackendError> {
        let over = Over::of(ended);
        let (jobs, within, lease) = want.as_ref().map_or((-1, 0, 0), batch::want);
        let keep = |conn| kept.keep(conn);
        let row = trying!(limit, kept.acquire(), keep, conn =>
            sqlx::query(AssertSqlSafe(Arc::clone(&self.sql.exchange)))
                .bind(self.queue)
                .bind(&over.ids)
                .bind(&over.tokens)
                .bind(&over.hows)
                .bind(&over.afters)
                .bind(&over.scopes)
                .bind(&over.messages)
                .bind(jobs)
                .bind(within)
                .bind(lease)
                .bind(self.dead_letters)
                .fetch_one(conn)
        )?;
        batch::exchange(&row).map_err(backend_error)
    }

    /// Only ends these jobs.
    pub(super) async fn tell(&self, ended: &[Ended]) -> Result<Exchange, BackendError> {
        let limit = self.response_timeout.min(PATIENCE);
        self.exchange_on(&self.kept[1], limit, ended, None).await
    }

    pub(super) fn enqueue_query<'a>(
        &self,
        added: &'a Added<'a>,
        at_commit: bool,
    ) -> sqlx::query::Query<'a, sqlx::Postgres, sqlx::postgres::PgArguments> {
        sqlx::query(AssertSqlSafe(Arc::clone(&self.sql.enqueue)))
            .bind(self.queue)
            .bind(&added.ids)
            .bind(&added.keys)
            .bind(&added.payloads)
            .bind(&added.delays)
            .bind(&added.ranks)
            .bind(&added.names)
            .bind(&added.spans)
            .bind(&added.traces)
            .bind(self.capacity)
            .bind(at_commit)
            .bind(&added.quotas)
            .bind(&added.periods)
            .bind(&added.bursts)
    }
}

fn enqueued(row: &PgRow) -> Result<Option<Vec<JobId>>, sqlx::Error> {
    let ids: Option<Vec<Vec<u8>>> = row.try_get(0)?;
    ids.map(|ids| job_ids(&ids)).transpose()
}

impl Remote for PostgresRemote {
    const NEXT_IS_EARLY: bool = false;

    fn address(&self) -> &str {
        &self.address
    }

    async fn enqueue_in(
        &self,
        conn: crate::Connection<'_>,
        job: &NewJob,
    ) -> Result<JobId, EnqueueInError> {
        #[cfg(feature = "sqlite")]
        let crate::Connection::Postgres(conn) = conn else {
            return Err(EnqueueInError::OtherDatabase);
        };
        #[cfg(not(feature = "sqlite"))]
        let crate::Connection::Postgres(conn) = conn;
        if !conn.is_in_transaction() {
            return Err(EnqueueInError::NoTransaction);
        }
        let ids = self
            .enqueue_all_in(conn, std::slice::from_ref(job))
            .await?
            .ok_or(EnqueueInError::Full)?;
        ids.first().copied().ok_or(EnqueueInError::Isolation)
    }

    async fn enqueue(&self, jobs: &[NewJob]) -> Result<Option<Vec<JobId>>, BackendError> {
        if jobs.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let added = Added::of(jobs);
        let row = trying!(self, conn => self.enqueue_query(&added, false).fetch_one(conn))?;
        enqueued(&row).map_err(backend_error)
    }

    async fn exchange(&self, ended: &[Ended], want: Want) -> Result<Exchange, BackendError> {
        let [kept, other] = &self.kept;
        let limit = self.response_timeout;
        let exchange = if self.apart.may(ended, want) {
            let claimed = self.exchange_on(kept, limit, &[], Some(want));
            let (told, claimed) = tokio::join!(self.tell(ended), claimed);
            let mut exchange = claimed?;
            match told {
                Ok(told) => exchange.lost = told.lost,
                Err(error) => {
                    let (error, at) = (chain(&error), &self.address);
                    tracing::warn!(error, at, "the ends of jobs are to be told once more");
                    exchange.untold = true;
                    // Or they would not be told for as long as this fails.
                    self.apart.join();
                }
            }
            exchange
        } else {
            self.exchange_on(kept, limit, ended, Some(want)).await?
        };
        if !self.apart.note(&exchange.granted) {
            other.give_back();
        }
        Ok(exchange)
    }

    fn rest(&self) {
        self.kept.iter().for_each(Kept::give_back);
    }

    async fn extend(&self, leases: &[Lease], lease: Duration) -> Result<Vec<JobId>, BackendError> {
        let (ids, tokens) = batch::leases(leases);
        let lost: Vec<Vec<u8>> = trying!(self, conn =>
            sqlx::query_scalar(AssertSqlSafe(Arc::clone(&self.sql.extend)))
                .bind(self.queue)
                .bind(&ids)
                .bind(&tokens)
                .bind(micros_up(lease))
                .fetch_one(conn)
        )?;
        job_ids(&lost).map_err(backend_error)
    }

    async fn counts(&self) -> Result<Counts, BackendError> {
        let row = trying!(self, conn =>
            sqlx::query(AssertSqlSafe(Arc::clone(&self.sql.counts)))
                .bind(self.queue)
                .fetch_one(conn)
        )?;
        batch::counts(&row).map_err(backend_error)
    }

    async fn set_rules(&self, rules: &Rules) -> Result<(), BackendError> {
        self.set(0, rules).await
    }

    async fn set_rate(&self, scope: Scope, rate: Option<Quota>) -> Result<(), BackendError> {
        let which = match scope {
            Scope::Key => 1,
            Scope::Queue => 2,
        };
        self.set(which, &Rules::of(scope, rate)).await
    }

    async fn rules(&self) -> Result<Option<Rules>, BackendError> {
        let text: Option<String> = trying!(self, conn =>
            sqlx::query_scalar(AssertSqlSafe(Arc::clone(&self.sql.rules)))
                .bind(self.queue)
                .fetch_one(conn)
        )?;
        match text {
            None => Ok(None),
            Some(text) => match Rules::from_text(&text) {
                Some(rules) => Ok(Some(rules)),
                None => Err(backend_error(sqlx::Error::Decode(
                    format!("these are no rules: {text}").into(),
                ))),
            },
        }
    }

    async fn pause(&self, paused: bool) -> Result<(), BackendError> {
        trying!(self, conn =>
            sqlx::query(AssertSqlSafe(Arc::clone(&self.sql.pause)))
                .bind(self.queue)
                .bind(paused)
                .execute(conn)
        )?;
        Ok(())
    }

    async fn dead(&self, at_most: usize) -> Result<Vec<Letter>, BackendError> {
        let rows = trying!(self, conn =>
            sqlx::query(AssertSqlSafe(Arc::clone(&self.sql.dead)))
                .bind(self.queue)
                .bind(i64::try_from(at_most).unwrap_or(i64::MAX))
                .fetch_all(conn)
        )?;
        rows.iter()
            .map(|row| batch::letter(row).map_err(backend_error))
            .collect()
    }

    async fn replay(&self, id: JobId) -> Result<Option<bool>, BackendError> {
        trying!(self, conn =>
            sqlx::query_scalar(AssertSqlSafe(Arc::clone(&self.sql.replay)))
                .bind(self.queue)
                .bind(id.to_bytes().to_vec())
                .bind(self.capacity)
                .fetch_one(conn)
        )
    }

    async fn purge(&self, older_than: Duration) -> Result<u64, BackendError> {
        let done = trying!(self, conn =>
            sqlx::query(AssertSqlSafe(Arc::clone(&self.sql.purge)))
                .bind(self.queue)
                .bind(micros_up(older_than))
                .execute(conn)
        )?;
        Ok(done.rows_affected())
    }

    async fn woken(&self) {
        self.listener.heard().await;
    }
}
