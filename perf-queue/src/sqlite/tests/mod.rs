mod basics;
mod speed;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{Added, End, Journal, Place, RowId, Sqlite, Stored};
use crate::JobId;
use crate::remote::NewJob;

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
        trace: String::new(),
    }
}

fn rows(added: &[Added]) -> Vec<RowId> {
    added.iter().map(|added| added.row.unwrap()).collect()
}

async fn append(journal: &Journal, payload: &str) -> RowId {
    rows(&journal.append(vec![job(payload)]).await.unwrap())[0]
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
