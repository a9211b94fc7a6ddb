//! Pools on a SQLite file of the test's own.

use perf_pool::{Pool, PoolBuilder};
use sqlx::Sqlite;
use sqlx::sqlite::SqliteConnectOptions;
use tempfile::TempDir;

pub(crate) struct File {
    dir: TempDir,
}

impl File {
    pub(crate) fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn path(&self) -> std::path::PathBuf {
        self.dir.path().join("app.db")
    }

    pub(crate) fn options(&self) -> SqliteConnectOptions {
        SqliteConnectOptions::new()
            .filename(self.path())
            .create_if_missing(true)
    }

    pub(crate) async fn open(&self, builder: PoolBuilder<Sqlite>) -> Pool<Sqlite> {
        builder.connect_with(self.options()).await.unwrap()
    }
}

/// A pool of exactly `max` that opens nothing ahead.
pub(crate) fn at_most(max: u32) -> PoolBuilder<Sqlite> {
    Pool::builder().min_connections(0).max_connections(max)
}
