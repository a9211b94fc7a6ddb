//! The least that each place for jobs allows: put them there in batches, take them in batches.

use std::time::{Duration, Instant};

use sqlx::postgres::PgPool;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use tempfile::TempDir;

use super::payload;

/// Jobs of a statement, and so of a commit.
const AT_ONCE: usize = 1_000;

/// What kept a floor from being measured.
type Failure = Box<dyn std::error::Error + Send + Sync>;

#[expect(
    clippy::panic,
    reason = "the time of work that was not done compares with nothing"
)]
fn measured(took: Result<Duration, Failure>) -> Duration {
    took.unwrap_or_else(|error| panic!("floor: {error}"))
}

pub(super) async fn sqlite(jobs: usize) -> Duration {
    measured(on_sqlite(jobs).await)
}

async fn on_sqlite(jobs: usize) -> Result<Duration, Failure> {
    let dir = TempDir::new()?;
    let options = SqliteConnectOptions::new()
        .filename(dir.path().join("floor.db"))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full);
    let pool = SqlitePoolOptions::new()
        .max_connections(1)
        .test_before_acquire(false)
        .connect_with(options)
        .await?;
    sqlx::raw_sql("CREATE TABLE jobs (id INTEGER PRIMARY KEY, payload BLOB NOT NULL)")
        .execute(&pool)
        .await?;
    let insert = format!(
        "INSERT INTO jobs (payload) VALUES {}",
        vec!["(?)"; AT_ONCE].join(",")
    );
    let payload = payload().into_bytes();
    let start = Instant::now();
    for _ in 0..jobs / AT_ONCE {
        let query = sqlx::query(sqlx::AssertSqlSafe(insert.as_str()));
        let query = (0..AT_ONCE).fold(query, |query, _| query.bind(payload.clone()));
        query.execute(&pool).await?;
    }
    let mut left = jobs;
    while left > 0 {
        let taken = sqlx::query(
            "DELETE FROM jobs WHERE id IN (SELECT id FROM jobs ORDER BY id LIMIT 1000) \
             RETURNING payload",
        );
        left -= taken.fetch_all(&pool).await?.len();
    }
    Ok(start.elapsed())
}

pub(super) async fn postgres(pool: PgPool, jobs: usize) -> Duration {
    measured(on_postgres(&pool, jobs).await)
}

async fn on_postgres(pool: &PgPool, jobs: usize) -> Result<Duration, Failure> {
    sqlx::raw_sql(
        "DROP TABLE IF EXISTS floor; CREATE TABLE floor (id bigserial PRIMARY KEY, payload bytea)",
    )
    .execute(pool)
    .await?;
    let payloads = vec![payload().into_bytes(); jobs];
    let start = Instant::now();
    sqlx::query("INSERT INTO floor (payload) SELECT * FROM unnest($1::bytea[])")
        .bind(&payloads)
        .execute(pool)
        .await?;
    let mut left = jobs;
    while left > 0 {
        let taken = sqlx::query(
            "DELETE FROM floor WHERE id IN \
             (SELECT id FROM floor ORDER BY id LIMIT 100 FOR UPDATE SKIP LOCKED) RETURNING payload",
        );
        left -= taken.fetch_all(pool).await?.len();
    }
    Ok(start.elapsed())
}

pub(super) async fn redis(url: String, jobs: usize) -> Duration {
    measured(on_redis(&url, jobs).await)
}

async fn on_redis(url: &str, jobs: usize) -> Result<Duration, Failure> {
    let client = redis::Client::open(url)?;
    let mut conn = client.get_multiplexed_async_connection().await?;
    let payload = payload();
    let start = Instant::now();
    for _ in 0..jobs / AT_ONCE {
        let mut pipe = redis::pipe();
        for _ in 0..AT_ONCE {
            pipe.cmd("LPUSH").arg("floor").arg(&payload).ignore();
        }
        let () = pipe.query_async(&mut conn).await?;
    }
    let mut left = jobs;
    while left > 0 {
        let mut rpop = redis::cmd("RPOP");
        rpop.arg("floor").arg(100);
        let taken: Vec<Vec<u8>> = rpop.query_async(&mut conn).await?;
        left -= taken.len();
    }
    Ok(start.elapsed())
}
