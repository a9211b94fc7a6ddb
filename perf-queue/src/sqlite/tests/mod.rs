mod basics;
mod cancel;
mod faults;
mod foreign;
mod kill;
mod letters;
mod marks;
mod model;
mod names;
mod order;
mod owners;
mod queue_model;
mod restarts;
mod speed;
mod starting;
mod waits;
mod windows;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sqlx::Connection;

use super::{Added, End, Journal, Place, RowId, Sqlite, Stored};
use crate::remote::NewJob;
use crate::{BackendError, JobId};

/// A directory of the test's own with a path for a queue's file.
struct Dir {
    dir: tempfile::TempDir,
}

impl Dir {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("jobs.db")
    }

    async fn open(&self) -> (Journal, Vec<Stored>) {
        open(&self.file()).await
    }
}

async fn open(path: &Path) -> (Journal, Vec<Stored>) {
    Sqlite::open(path).start("test").await.unwrap()
}

fn job(payload: impl AsRef<[u8]>) -> NewJob {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NewJob {
        id: JobId::new(
            u64::from(std::process::id()),
            NEXT.fetch_add(1, Ordering::Relaxed),
        ),
        key: Vec::new(),
        payload: payload.as_ref().to_owned(),
        delay: Duration::ZERO,
        priority: 0,
        unique: None,
        rate: None,
        trace: String::new(),
    }
}

fn rows(added: &[Added]) -> Vec<RowId> {
    added.iter().map(|added| added.row.unwrap()).collect()
}

async fn append(journal: &Journal, payload: &str) -> RowId {
    rows(&journal.append(vec![job(payload)]).await.unwrap())[0]
}

/// The next jobs that come without an append.
async fn arrived(journal: &Journal) -> Vec<Stored> {
    assert!(journal.arrival().await);
    journal.arrived().unwrap()
}

fn payloads(jobs: &[Stored]) -> Vec<&str> {
    let texts = jobs.iter().map(|job| std::str::from_utf8(&job.payload));
    texts.map(Result::unwrap).collect()
}

fn retry(attempt: u32, error: &str) -> End {
    End::Retry {
        attempt,
        after: Duration::ZERO,
        place: Place::Kept,
        error: error.to_owned(),
    }
}

/// What somebody else does to the file.
async fn sql(path: &Path, sql: &str) {
    let url = format!("sqlite://{}", path.display());
    let mut conn = sqlx::SqliteConnection::connect(&url).await.unwrap();
    let sql = sqlx::AssertSqlSafe(sql);
    sqlx::raw_sql(sql).execute(&mut conn).await.unwrap();
    conn.close().await.unwrap();
}

async fn number(path: &Path, sql: &str) -> i64 {
    let url = format!("sqlite://{}", path.display());
    let mut conn = sqlx::SqliteConnection::connect(&url).await.unwrap();
    let sql = sqlx::AssertSqlSafe(sql);
    sqlx::query_scalar(sql).fetch_one(&mut conn).await.unwrap()
}
