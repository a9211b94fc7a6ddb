//! What the tests of the backend share: jobs, ends, questions, and a look into its tables.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sqlx::postgres::PgPoolOptions;
use sqlx::{Connection as _, PgPool};

use crate::remote::{Ended, Exchange, Granted, How, NewJob, Quota, Remote, Rules, Want};
use crate::{JobId, Postgres, postgres::PostgresRemote};

pub(super) const LEASE: Duration = Duration::from_secs(30);

pub(super) fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

pub(super) async fn pool(url: &str) -> PgPool {
    PgPoolOptions::new()
        .max_connections(10)
        .connect(url)
        .await
        .unwrap()
}

/// A backend with a schema of its own.
pub(super) async fn backend() -> Option<Postgres> {
    let server = testkit::Postgres::shared().await?;
    let pool = pool(&server.url()).await;
    Some(Postgres::new(pool).schema(testkit::unique("queue")))
}

pub(super) async fn open(rules: Rules) -> Option<PostgresRemote> {
    Some(backend().await?.open("q", Some(&rules)).await.unwrap())
}

pub(super) fn id() -> JobId {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    JobId::new(7, NEXT.fetch_add(1, Ordering::Relaxed))
}

pub(super) fn job(key: &str) -> NewJob {
    NewJob {
        id: id(),
        key: key.as_bytes().to_vec(),
        payload: b"payload".to_vec(),
        delay: Duration::ZERO,
        priority: 0,
        unique: None,
        rate: None,
        trace: String::new(),
    }
}

pub(super) fn jobs(key: &str, n: usize) -> Vec<NewJob> {
    (0..n).map(|_| job(key)).collect()
}

pub(super) fn ids(jobs: &[NewJob]) -> Vec<JobId> {
    jobs.iter().map(|job| job.id).collect()
}

pub(super) fn got(exchange: &Exchange) -> Vec<JobId> {
    exchange.granted.iter().map(|job| job.lease.id).collect()
}

pub(super) fn want(jobs: usize) -> Want {
    Want {
        jobs,
        within: Duration::ZERO,
        lease: LEASE,
    }
}

pub(super) fn done(job: &Granted) -> Ended {
    end(job, How::Done)
}

pub(super) fn end(job: &Granted, how: How) -> Ended {
    Ended {
        lease: job.lease,
        how,
    }
}

pub(super) fn every(quota: u32, period: Duration) -> Option<Quota> {
    Some(Quota {
        quota,
        period,
        burst: 1,
    })
}

pub(super) async fn add(remote: &PostgresRemote, jobs: &[NewJob]) {
    assert_eq!(remote.enqueue(jobs).await.unwrap(), Some(ids(jobs)));
}

pub(super) async fn take(remote: &PostgresRemote, n: usize) -> Exchange {
    remote.exchange(&[], want(n)).await.unwrap()
}

/// Asks until there is a job, as often as the answers say that it is worth it.
pub(super) async fn take_until(remote: &PostgresRemote, want: Want) -> Exchange {
    loop {
        let exchange = remote.exchange(&[], want).await.unwrap();
        if !exchange.granted.is_empty() {
            return exchange;
        }
        tokio::time::sleep(exchange.next.unwrap().min(ms(1_000))).await;
    }
}

/// As when a report runs for an hour: the server can neither remove nor mark what was deleted.
pub(super) async fn hold_back(remote: &PostgresRemote) -> sqlx::PgConnection {
    let options = remote.pool().connect_options();
    let mut conn = sqlx::PgConnection::connect_with(&options).await.unwrap();
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT pg_current_snapshot()";
    sqlx::raw_sql(begin).execute(&mut conn).await.unwrap();
    conn
}

impl PostgresRemote {
    pub(super) async fn connection(&self) -> sqlx::pool::PoolConnection<sqlx::Postgres> {
        self.pool().acquire().await.unwrap()
    }

    /// How many rows a table has.
    pub(super) async fn rows(&self, table: &str) -> i64 {
        let sql = format!("SELECT count(*) FROM {}.{table}", self.schema());
        let count = sqlx::query_scalar(sqlx::AssertSqlSafe(sql));
        count.fetch_one(self.pool()).await.unwrap()
    }

    /// What jobs leave in the tables and indices stays there.
    pub(super) async fn no_vacuum(&self) {
        for table in ["jobs", "keys", "leases", "arrivals", "counts", "queues"] {
            let sql = format!(
                "ALTER TABLE {}.{table} SET (autovacuum_enabled = off)",
                self.schema()
            );
            let set = sqlx::query(sqlx::AssertSqlSafe(sql));
            set.execute(self.pool()).await.unwrap();
        }
    }

    /// As if somebody had set the server's clock.
    pub(super) async fn move_clock(&self, micros: i64) {
        let sql = format!("UPDATE {}.clocks SET ahead = ahead + $1", self.schema());
        let set = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(micros);
        set.execute(self.pool()).await.unwrap();
    }

    /// As if those that have no jobs had had none for so long that they are removed.
    pub(super) async fn forget_keys(&self) {
        self.move_clock(10_000_001).await;
        take(self, 1).await;
    }

    pub(super) async fn keys(&self) -> i64 {
        self.rows("keys").await
    }
}
