use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use sqlx::{Row, SqliteConnection};

use super::rows::{Stored, between, halves, id_of};
use super::{load, transaction};
use crate::JobId;
use crate::remote::Letter;

/// How many letters there are, for who does not want to wait for the file.
#[derive(Debug, Default)]
pub(super) struct Letters {
    kept: AtomicU64,
    dropped: AtomicU64,
}

impl Letters {
    pub(super) const fn new(kept: u64) -> Self {
        Self {
            kept: AtomicU64::new(kept),
            dropped: AtomicU64::new(0),
        }
    }

    pub(super) fn kept(&self) -> u64 {
        self.kept.load(Relaxed)
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    /// The writer alone counts.
    pub(super) fn count(&self, added: u64, removed: u64, dropped: u64) {
        let kept = self.kept().saturating_add(added);
        let kept = kept.saturating_sub(removed.saturating_add(dropped));
        self.kept.store(kept, Relaxed);
        self.dropped.fetch_add(dropped, Relaxed);
    }
}

pub(super) async fn count(conn: &mut SqliteConnection, queue: i64) -> sqlx::Result<u64> {
    let count: i64 = sqlx::query_scalar(include_str!("sql/count_dead.sql"))
        .bind(queue)
        .fetch_one(conn)
        .await?;
    Ok(u64::try_from(count).unwrap_or(0))
}

pub(super) async fn list(
    conn: &mut SqliteConnection,
    queue: i64,
    at_most: usize,
) -> sqlx::Result<Vec<Letter>> {
    let rows = sqlx::query(include_str!("sql/list_dead.sql"))
        .bind(queue)
        .bind(i64::try_from(at_most).unwrap_or(i64::MAX))
        .fetch_all(conn)
        .await?;
    let letters = rows.iter().map(|row| {
        Ok(Letter {
            id: id_of(row.try_get(0)?, row.try_get(1)?),
            key: Vec::new(),
            attempts: row.try_get(2)?,
            age: between(row.try_get(3)?, row.try_get(4)?),
            payload: row.try_get(5)?,
            errors: load::errors_of(row.try_get(6)?),
        })
    });
    letters.collect()
}

pub(super) async fn has(conn: &mut SqliteConnection, queue: i64, id: JobId) -> sqlx::Result<bool> {
    let [high, low] = halves(id);
    sqlx::query_scalar(include_str!("sql/has_dead.sql"))
        .bind(queue)
        .bind(high)
        .bind(low)
        .fetch_one(conn)
        .await
}

/// Puts the oldest letter of this id back.
pub(super) async fn replay(
    conn: &mut SqliteConnection,
    queue: i64,
    id: JobId,
) -> sqlx::Result<Option<Stored>> {
    match put_back(conn, queue, id).await {
        Ok(job) => Ok(job),
        Err(error) => Err(transaction::roll_back(conn, error).await),
    }
}

async fn put_back(
    conn: &mut SqliteConnection,
    queue: i64,
    id: JobId,
) -> sqlx::Result<Option<Stored>> {
    let [high, low] = halves(id);
    sqlx::raw_sql(transaction::BEGIN)
        .execute(&mut *conn)
        .await?;
    let added = sqlx::query(include_str!("sql/replay.sql"))
        .bind(queue)
        .bind(high)
        .bind(low)
        .execute(&mut *conn)
        .await?;
    sqlx::query(include_str!("sql/delete_replayed.sql"))
        .bind(queue)
        .bind(high)
        .bind(low)
        .execute(&mut *conn)
        .await?;
    sqlx::raw_sql(transaction::COMMIT)
        .execute(&mut *conn)
        .await?;
    if added.rows_affected() == 0 {
        return Ok(None);
    }
    let row = added.last_insert_rowid();
    Ok(load::range(conn, queue, [row, row], 1).await?.pop())
}

pub(super) async fn purge(
    conn: &mut SqliteConnection,
    queue: i64,
    until: i64,
) -> sqlx::Result<u64> {
    let purged = sqlx::query(include_str!("sql/purge.sql"))
        .bind(queue)
        .bind(until)
        .execute(conn)
        .await?;
    Ok(purged.rows_affected())
}
