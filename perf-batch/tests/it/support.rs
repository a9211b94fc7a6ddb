//! What the tests share.

#[cfg(feature = "derive")]
use std::future::Future;
#[cfg(feature = "derive")]
use std::task::Poll;

#[cfg(feature = "sqlite")]
pub(crate) mod lite {
    use std::str::FromStr;
    use std::time::Duration;

    use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions};
    use tempfile::TempDir;

    /// A database in a file of its own, gone with the value.
    pub(crate) struct Lite {
        pub(crate) pool: SqlitePool,
        _dir: TempDir,
    }

    impl Lite {
        pub(crate) async fn new(schema: &'static str) -> Self {
            Self::with_connections(schema, 2).await
        }

        pub(crate) async fn with_connections(schema: &'static str, connections: u32) -> Self {
            let dir = TempDir::new().unwrap();
            let path = dir.path().join("batch.db");
            let options = SqliteConnectOptions::from_str(path.to_str().unwrap())
                .unwrap()
                .create_if_missing(true)
                .journal_mode(SqliteJournalMode::Wal)
                .busy_timeout(Duration::from_secs(20));
            let pool = SqlitePoolOptions::new()
                .max_connections(connections)
                .connect_with(options)
                .await
                .unwrap();
            sqlx::raw_sql(schema).execute(&pool).await.unwrap();
            Self { pool, _dir: dir }
        }

        #[cfg(feature = "derive")]
        pub(crate) async fn count(&self, sql: &'static str) -> i64 {
            sqlx::query_scalar(sql).fetch_one(&self.pool).await.unwrap()
        }
    }
}

/// Polls the future at most `polls` times and then drops it; `None` where it was not done by then.
#[cfg(feature = "derive")]
pub(crate) async fn drop_after<F: Future>(polls: usize, future: F) -> Option<F::Output> {
    let mut future = Box::pin(future);
    let mut left = polls;
    std::future::poll_fn(move |cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        future.as_mut().poll(cx).map(Some)
    })
    .await
}
