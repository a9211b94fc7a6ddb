//! `cargo run --release --bin batch`
//!
//! What perf-batch is for, on a SQLite file of its own: a thousand rows in one commit, the bad ones
//! named; single rows of many callers in shared commits; single reads in one query.

#![forbid(unsafe_code)]

use std::time::Instant;

use perf_batch::{
    AddError, Batcher, BulkDelete, BulkInsert, BulkRow, BulkUpdate, Loader, OnConflict, OnRowError,
    Page, PageQuery,
};
use sqlx::SqlitePool;
use sqlx::types::Json;
use tokio::task::JoinSet;

#[derive(Debug, Clone, BulkRow)]
#[bulk(table = "answers")]
struct Answer {
    #[bulk(key)]
    user_id: i64,
    #[bulk(key)]
    question_id: i64,
    answer: String,
}

const TABLES: &str = "
    CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
    CREATE TABLE answers (
        user_id INTEGER NOT NULL REFERENCES users (id),
        question_id INTEGER NOT NULL,
        answer TEXT NOT NULL CHECK (answer <> ''),
        PRIMARY KEY (user_id, question_id)
    );
    INSERT INTO users VALUES (1, 'Ada'), (2, 'Grace'), (3, 'Edsger');";

fn answers(user_id: i64, n: i64) -> Vec<Answer> {
    let answer = |question_id| Answer {
        user_id,
        question_id,
        answer: format!("answer {question_id}"),
    };
    (0..n).map(answer).collect()
}

async fn one_commit(pool: &SqlitePool) -> anyhow::Result<()> {
    let mut rows = answers(1, 1_000);
    rows[42].answer.clear(); // breaks the CHECK
    rows[700].user_id = 99; // no such user
    let started = Instant::now();
    let report = BulkInsert::<Answer>::new()
        .on_conflict(OnConflict::Update)
        .on_row_error(OnRowError::Skip)
        .execute(pool, rows)
        .await?;
    println!(
        "{} of {} rows in one commit, by {}, in {:.1?}",
        report.written,
        report.given,
        report.path,
        started.elapsed()
    );
    for failure in &report.failed {
        println!("  row {}: {}", failure.index, failure.message);
    }
    let changed = BulkUpdate::<Answer>::by_key();
    let changed = changed.execute(pool, answers(1, 5)).await?;
    let deleted = BulkDelete::<Answer>::by_key();
    let deleted = deleted
        .execute(pool, vec![(1, 0), (1, 1), (1, 9_999)])
        .await?;
    println!(
        "{} updated, {} deleted, {} were not there",
        changed.written, deleted.written, deleted.ignored
    );
    Ok(())
}

async fn many_callers(pool: &SqlitePool) -> anyhow::Result<()> {
    let batcher = Batcher::builder(pool.clone(), BulkInsert::<Answer>::new()).spawn();
    let started = Instant::now();
    let mut callers = JoinSet::new();
    for answer in answers(2, 2_000) {
        let batcher = batcher.clone();
        callers.spawn(async move { batcher.add(answer).await });
    }
    while let Some(added) = callers.join_next().await {
        added??; // after the commit
    }
    println!("2,000 callers with a row each: {:.1?}", started.elapsed());
    let again = answers(2, 1).remove(0);
    if let Err(AddError::Refused(failure)) = batcher.add(again).await {
        println!("  a caller's own error: {}", failure.message);
    }
    batcher.shutdown().await?;
    Ok(())
}

async fn one_query(pool: &SqlitePool) -> anyhow::Result<()> {
    let users = Loader::builder(pool.clone(), |db: SqlitePool, ids: Vec<i64>| async move {
        println!("  a query for users {ids:?}");
        let sql = "SELECT id, name FROM users WHERE id IN (SELECT value FROM json_each(?))";
        sqlx::query_as(sql).bind(Json(ids)).fetch_all(&db).await
    })
    .key(|(id, _): &(i64, String)| *id)
    .build();
    let (ada, rest) = tokio::join!(users.load(1), users.load_many([3, 1, 7]));
    println!("user 1 is {:?}, then {:?}", ada?, rest?);

    let page: Page<(i64, String)> = PageQuery::new(
        "SELECT question_id, answer FROM answers WHERE user_id = $1",
        "question_id",
    )
    .bind(2)
    .fetch(pool, 2, 3)
    .await?;
    println!(
        "page {} of {}, of {} answers: {:?}",
        page.number,
        page.pages(),
        page.total,
        page.items
    );
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let pools = perf_pool::SqlitePools::open(dir.path().join("batch.db")).await?;
    let pool = (**pools.write()).clone();
    sqlx::raw_sql(TABLES).execute(&pool).await?;
    one_commit(&pool).await?;
    many_callers(&pool).await?;
    one_query(&pool).await
}
