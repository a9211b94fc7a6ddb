//! The works of perf-batch: saving rows of five columns under a two-column primary key.
//!
//! SQLite is a file in WAL mode with `synchronous=FULL`; Postgres is testkit's server with its
//! settings as they come, where each commit waits for the disk too. Every entry writes the same
//! rows over a pool of one connection into a table that is emptied before, outside the time.
//! `naive` is what people write, a commit a row; `one_transaction` puts the same statements into
//! one transaction; `push_values` is sqlx's `QueryBuilder`; `floor` is the hand-written statement
//! for just this table: rows of values on SQLite, `unnest` on Postgres.

use std::sync::Arc;
use std::time::{Duration, Instant};

use perf_batch::{BulkInsert, BulkRow};
use sqlx::postgres::{PgPool, PgPoolOptions};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{AssertSqlSafe, QueryBuilder};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::{Entry, Group};

const TABLE: &str = "CREATE TABLE answers (
    user_id bigint NOT NULL,
    question_id bigint NOT NULL,
    points bigint NOT NULL,
    answer text NOT NULL,
    answered_at bigint NOT NULL,
    PRIMARY KEY (user_id, question_id)
)";

const COLUMNS: usize = 5;
/// What takes the write lock at once, as a transaction that writes should.
const IMMEDIATE: &str = "BEGIN IMMEDIATE";
/// SQLite's limit on the values of a statement.
const SQLITE_BINDS: usize = 32_766;
/// Rows a statement of SQLite's floor; larger ones are no faster.
const SQLITE_ROWS: usize = 200;

#[derive(Debug, Clone, BulkRow)]
#[bulk(table = "answers")]
struct Answer {
    #[bulk(key)]
    user_id: i64,
    #[bulk(key)]
    question_id: i64,
    points: i64,
    answer: String,
    answered_at: i64,
}

macro_rules! bind {
    ($query:expr, $row:expr) => {{
        let row: Answer = $row;
        $query
            .bind(row.user_id)
            .bind(row.question_id)
            .bind(row.points)
            .bind(row.answer)
            .bind(row.answered_at)
    }};
}

macro_rules! query_builder {
    ($rows:expr) => {{
        let mut query = QueryBuilder::new("INSERT INTO answers ");
        query.push_values($rows, |mut values, row: Answer| {
            values
                .push_bind(row.user_id)
                .push_bind(row.question_id)
                .push_bind(row.points)
                .push_bind(row.answer)
                .push_bind(row.answered_at);
        });
        query
    }};
}

fn answers(n: usize) -> Vec<Answer> {
    (0..n as i64)
        .map(|i| Answer {
            user_id: i / 1_000,
            question_id: i % 1_000,
            points: i % 7,
            answer: format!("the answer to question {i}"),
            answered_at: 1_700_000_000 + i,
        })
        .collect()
}

/// The groups of perf-batch.
pub fn groups(rt: &Arc<Runtime>) -> Vec<Group> {
    let sqlite = rt.block_on(Lite::open()).and_then(|small| {
        let large = rt.block_on(Lite::open())?;
        Ok(vec![sqlite(rt, &small, 1_000), sqlite(rt, &large, 100_000)])
    });
    let mut groups = sqlite.unwrap_or_else(|error| {
        eprintln!("batch/sqlite: left out: {error}");
        Vec::new()
    });
    match rt.block_on(open_postgres()) {
        Ok(Some(pool)) => groups.push(postgres(rt, &pool, 1_000)),
        Ok(None) => {} // testkit says what is missing
        Err(error) => eprintln!("batch/postgres: left out: {error}"),
    }
    groups
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// An entry that empties the table and then counts the time that `run` takes for the rows.
fn entry<P: Clone + 'static>(
    name: &'static str,
    rt: &Arc<Runtime>,
    pool: &P,
    rows: usize,
    clear: impl AsyncFn(&P) -> Result<(), Failure> + 'static,
    run: impl AsyncFn(&P, Vec<Answer>) -> Result<(), Failure> + 'static,
) -> Entry {
    let (rt, pool, rows) = (Arc::clone(rt), pool.clone(), answers(rows));
    Entry::new(name, move || {
        let rows = rows.clone();
        let timed = rt.block_on(async {
            clear(&pool).await?;
            let start = Instant::now();
            run(&pool, rows).await?;
            Ok(start.elapsed())
        });
        finished(name, timed)
    })
}

#[expect(
    clippy::panic,
    reason = "the time of work that was not done compares with nothing"
)]
fn finished(name: &str, timed: Result<Duration, Failure>) -> Duration {
    timed.unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[derive(Clone)]
struct Lite {
    pool: SqlitePool,
    _dir: Arc<TempDir>,
}

impl Lite {
    async fn open() -> Result<Self, Failure> {
        let dir = TempDir::new()?;
        let options = SqliteConnectOptions::new()
            .filename(dir.path().join("bench.db"))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full);
        let pool = SqlitePoolOptions::new().max_connections(1);
        let pool = pool.connect_with(options).await?;
        sqlx::raw_sql(TABLE).execute(&pool).await?;
        Ok(Self {
            pool,
            _dir: Arc::new(dir),
        })
    }
}

fn sqlite(rt: &Arc<Runtime>, db: &Lite, rows: usize) -> Group {
    const INSERT: &str = "INSERT INTO answers VALUES (?, ?, ?, ?, ?)";

    async fn naive(db: &Lite, rows: Vec<Answer>) -> Result<(), Failure> {
        for row in rows {
            bind!(sqlx::query(INSERT), row).execute(&db.pool).await?;
        }
        Ok(())
    }

    async fn one_transaction(db: &Lite, rows: Vec<Answer>) -> Result<(), Failure> {
        let mut tx = db.pool.begin_with(IMMEDIATE).await?;
        for row in rows {
            bind!(sqlx::query(INSERT), row).execute(&mut *tx).await?;
        }
        Ok(tx.commit().await?)
    }

    async fn push_values(db: &Lite, rows: Vec<Answer>) -> Result<(), Failure> {
        let mut tx = db.pool.begin_with(IMMEDIATE).await?;
        let mut rows = rows.into_iter().peekable();
        while rows.peek().is_some() {
            let chunk = rows.by_ref().take(SQLITE_BINDS / COLUMNS);
            query_builder!(chunk).build().execute(&mut *tx).await?;
        }
        Ok(tx.commit().await?)
    }

    async fn floor(db: &Lite, rows: Vec<Answer>) -> Result<(), Failure> {
        let mut tx = db.pool.begin_with(IMMEDIATE).await?;
        let mut rows = rows.into_iter().peekable();
        while rows.peek().is_some() {
            let chunk: Vec<Answer> = rows.by_ref().take(SQLITE_ROWS).collect();
            let values = vec!["(?,?,?,?,?)"; chunk.len()].join(",");
            let sql = format!("INSERT INTO answers VALUES {values}");
            let query = sqlx::query(AssertSqlSafe(sql));
            let query = chunk
                .into_iter()
                .fold(query, |query, row| bind!(query, row));
            query.execute(&mut *tx).await?;
        }
        Ok(tx.commit().await?)
    }

    let clear = async |db: &Lite| {
        let sql = "DELETE FROM answers; PRAGMA wal_checkpoint(TRUNCATE)";
        sqlx::raw_sql(sql).execute(&db.pool).await?;
        Ok(())
    };
    let insert = BulkInsert::<Answer>::new();
    let ours = async move |db: &Lite, rows| {
        insert.execute(&db.pool, rows).await?;
        Ok(())
    };
    let mut entries = Vec::new();
    if rows <= 1_000 {
        let singly = entry("one_transaction", rt, db, rows, clear, one_transaction);
        entries.extend([entry("naive", rt, db, rows, clear, naive), singly]);
    }
    entries.extend([
        entry("push_values", rt, db, rows, clear, push_values),
        entry("ours", rt, db, rows, clear, ours),
        entry("floor", rt, db, rows, clear, floor),
    ]);
    Group::new(format!("batch/sqlite/{rows}"), rows as u64, entries)
}

async fn open_postgres() -> Result<Option<PgPool>, Failure> {
    let Some(server) = testkit::Postgres::shared().await else {
        return Ok(None);
    };
    let pool = PgPoolOptions::new().max_connections(1);
    let pool = pool.connect(&server.schema_url().await).await?;
    sqlx::raw_sql(TABLE).execute(&pool).await?;
    Ok(Some(pool))
}

fn postgres(rt: &Arc<Runtime>, pool: &PgPool, rows: usize) -> Group {
    const INSERT: &str = "INSERT INTO answers VALUES ($1, $2, $3, $4, $5)";
    const UNNEST: &str = "INSERT INTO answers
        SELECT * FROM unnest($1::int8[], $2::int8[], $3::int8[], $4::text[], $5::int8[])";

    async fn naive(pool: &PgPool, rows: Vec<Answer>) -> Result<(), Failure> {
        for row in rows {
            bind!(sqlx::query(INSERT), row).execute(pool).await?;
        }
        Ok(())
    }

    async fn one_transaction(pool: &PgPool, rows: Vec<Answer>) -> Result<(), Failure> {
        let mut tx = pool.begin().await?;
        for row in rows {
            bind!(sqlx::query(INSERT), row).execute(&mut *tx).await?;
        }
        Ok(tx.commit().await?)
    }

    async fn push_values(pool: &PgPool, rows: Vec<Answer>) -> Result<(), Failure> {
        let rows = rows.into_iter();
        query_builder!(rows).build().execute(pool).await?;
        Ok(())
    }

    async fn floor(pool: &PgPool, rows: Vec<Answer>) -> Result<(), Failure> {
        let column = |value: fn(&Answer) -> i64| rows.iter().map(value).collect::<Vec<i64>>();
        let answers: Vec<&str> = rows.iter().map(|row| row.answer.as_str()).collect();
        let query = sqlx::query(UNNEST)
            .bind(column(|row| row.user_id))
            .bind(column(|row| row.question_id))
            .bind(column(|row| row.points))
            .bind(answers)
            .bind(column(|row| row.answered_at));
        query.execute(pool).await?;
        Ok(())
    }

    let clear = async |pool: &PgPool| {
        sqlx::raw_sql("TRUNCATE answers").execute(pool).await?;
        Ok(())
    };
    let insert = BulkInsert::<Answer>::new();
    let ours = async move |pool: &PgPool, rows| {
        insert.execute(pool, rows).await?;
        Ok(())
    };
    let entries = vec![
        entry("naive", rt, pool, rows, clear, naive),
        entry("one_transaction", rt, pool, rows, clear, one_transaction),
        entry("push_values", rt, pool, rows, clear, push_values),
        entry("ours", rt, pool, rows, clear, ours),
        entry("floor", rt, pool, rows, clear, floor),
    ];
    Group::new(format!("batch/postgres/{rows}"), rows as u64, entries)
}
