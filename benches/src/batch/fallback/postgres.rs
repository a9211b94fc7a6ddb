//! On Postgres, over TCP.

use std::sync::Arc;

use sqlx::Acquire;
use tokio::runtime::Runtime;

use super::{BAD, ROWS, Submission, TABLE, fault, skipping, spoil};
use crate::Group;
use crate::batch::rows::bind;
use crate::batch::{Failure, Pg, Transport, Work};

const INSERT: &str = "INSERT INTO submissions VALUES ($1, $2, $3, $4, $5)";

pub(crate) fn groups(rt: &Arc<Runtime>) -> Result<Vec<Group>, Failure> {
    let Some(db) = rt.block_on(Pg::open(Transport::Tcp, "submissions", TABLE))? else {
        return Ok(Vec::new());
    };
    Ok(BAD.map(|bad| group(rt, &db, bad)).into())
}

fn group(rt: &Arc<Runtime>, db: &Pg, bad: usize) -> Group {
    let clean = Work::new(rt, db, ROWS, Submission::new);
    let work = clean
        .clone()
        .spoilt(ROWS - bad, move |rows| spoil(rows, bad));
    let insert = skipping();
    let ours = move |db: Pg, rows| {
        let insert = insert.clone();
        async move { Ok(insert.execute(&db.pool, rows).await?.written) }
    };
    let entries = vec![
        work.entry("ours", ours.clone()),
        clean.entry("clean", ours),
        work.entry("row_by_row", row_by_row),
        work.entry("savepoints", savepoints),
    ];
    Group::new(
        format!("batch/fallback/postgres/{bad}"),
        ROWS as u64,
        entries,
    )
}

async fn row_by_row(db: Pg, rows: Vec<Submission>) -> Result<u64, Failure> {
    let mut conn = db.pool.acquire().await?;
    let (mut written, mut failed) = (0, Vec::new());
    for (at, row) in rows.into_iter().enumerate() {
        match bind!(sqlx::query(INSERT), row).execute(&mut *conn).await {
            Ok(done) => written += done.rows_affected(),
            Err(error) => failed.push((at, fault(error)?)),
        }
    }
    std::hint::black_box(failed);
    Ok(written)
}

async fn savepoints(db: Pg, rows: Vec<Submission>) -> Result<u64, Failure> {
    let mut tx = db.pool.begin().await?;
    let (mut written, mut failed) = (0, Vec::new());
    for (at, row) in rows.into_iter().enumerate() {
        let mut savepoint = tx.begin().await?;
        match bind!(sqlx::query(INSERT), row)
            .execute(&mut *savepoint)
            .await
        {
            Ok(done) => {
                written += done.rows_affected();
                savepoint.commit().await?;
            }
            Err(error) => {
                failed.push((at, fault(error)?));
                savepoint.rollback().await?;
            }
        }
    }
    tx.commit().await?;
    std::hint::black_box(failed);
    Ok(written)
}
