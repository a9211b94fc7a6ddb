//! Rows of four columns into SQLite, under its own row id: how many go in in a second.

use std::sync::Arc;

use perf_batch::{BulkInsert, BulkRow};
use sqlx::AssertSqlSafe;
use tokio::runtime::Runtime;

use super::{Failure, IMMEDIATE, Lite, Work};
use crate::Group;

const TABLE: &str = "CREATE TABLE scores (
    id bigint NOT NULL,
    points bigint NOT NULL,
    player text NOT NULL,
    scored_at bigint NOT NULL
)";
const COUNT: usize = 100_000;
/// Rows a statement of the floors, which divide [`COUNT`].
const ROWS: [(&str, usize); 2] = [("floor_values", 200), ("floor_values_1000", 1_000)];

#[derive(Debug, BulkRow)]
#[bulk(table = "scores")]
struct Score {
    id: i64,
    points: i64,
    player: String,
    scored_at: i64,
}

impl Score {
    fn new(i: i64) -> Self {
        Self {
            id: i,
            points: i % 7,
            player: format!("player {i}"),
            scored_at: 1_700_000_000 + i,
        }
    }
}

pub(super) fn groups(rt: &Arc<Runtime>) -> Result<Vec<Group>, Failure> {
    let db = rt.block_on(Lite::open("scores", TABLE))?;
    let work = Work::new(rt, &db, COUNT, Score::new);
    let insert = BulkInsert::<Score>::new();
    let mut entries = vec![work.entry("ours", move |db, rows| {
        let insert = insert.clone();
        async move { Ok(insert.execute(&db.pool, rows).await?.written) }
    })];
    for (name, rows) in ROWS {
        let values = vec!["(?,?,?,?)"; rows].join(",");
        let sql: Arc<str> = format!("INSERT INTO scores VALUES {values}").into();
        entries.push(work.entry(name, move |db, all| floor(db, all, rows, Arc::clone(&sql))));
    }
    let name = format!("batch/sqlite_narrow/{COUNT}");
    Ok(vec![Group::new(name, COUNT as u64, entries)])
}

async fn floor(db: Lite, all: Vec<Score>, rows: usize, sql: Arc<str>) -> Result<u64, Failure> {
    let mut tx = db.pool.begin_with(IMMEDIATE).await?;
    let mut left = all.into_iter().peekable();
    let mut written = 0;
    while left.peek().is_some() {
        let query = sqlx::query(AssertSqlSafe(Arc::clone(&sql)));
        let query = left.by_ref().take(rows).fold(query, |query, row| {
            query
                .bind(row.id)
                .bind(row.points)
                .bind(row.player)
                .bind(row.scored_at)
        });
        written += query.execute(&mut *tx).await?.rows_affected();
    }
    tx.commit().await?;
    Ok(written)
}
