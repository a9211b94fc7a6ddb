//! The SQLite backend.

use std::path::Path;
use std::sync::Arc;

use perf_queue::{BackendError, BuildError, EnqueueInError, Queue, Sqlite};
use sqlx::SqlitePool;
use sqlx::sqlite::SqliteConnectOptions;
use tempfile::TempDir;

use crate::conformance::{
    Job, Place, conformance, drained, durable, job, next, telling, transactions,
};
use crate::support::secs;

#[derive(Clone)]
struct OnSqlite {
    dir: Arc<TempDir>,
}

impl Place for OnSqlite {
    type Backend = Sqlite;

    fn backend(&self, capacity: usize) -> Sqlite {
        Sqlite::open(self.dir.path().join("queue.db")).capacity(capacity)
    }
}

async fn place() -> Option<OnSqlite> {
    let dir = Arc::new(TempDir::new().unwrap());
    Some(OnSqlite { dir })
}

conformance!(place);
durable!(place);

async fn pool(path: &Path) -> SqlitePool {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true);
    SqlitePool::connect_with(options).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_of_a_transaction_comes_with_its_commit_or_never() {
    let place = place().await.unwrap();
    let pool = pool(&place.dir.path().join("queue.db")).await;
    transactions(&place, pool).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_on_another_file_is_refused() {
    let place = place().await.unwrap();
    let queue = place.builder().build().await.unwrap();
    let pool = pool(&place.dir.path().join("other.db")).await;
    let mut tx = pool.begin().await.unwrap();
    let refused = queue.enqueue_in(&mut tx, &job(1, 1)).await;
    assert!(
        matches!(refused, Err(EnqueueInError::OtherFile { .. })),
        "{refused:?}"
    );
    let mut conn = pool.acquire().await.unwrap();
    let refused = queue.enqueue_in(&mut *conn, &job(1, 1)).await;
    assert!(
        matches!(refused, Err(EnqueueInError::NoTransaction)),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_in_memory_has_no_transactions() {
    let queue = Queue::<Job>::builder("q").build().await.unwrap();
    let dir = TempDir::new().unwrap();
    let pool = pool(&dir.path().join("any.db")).await;
    let mut tx = pool.begin().await.unwrap();
    let refused = queue.enqueue_in(&mut tx, &job(1, 1)).await;
    assert!(
        matches!(refused, Err(EnqueueInError::OtherDatabase)),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_has_one_owner_at_a_time() {
    let place = place().await.unwrap();
    let queue = place.builder().build().await.unwrap();
    let second = place.builder().build().await;
    match second.err() {
        Some(BuildError::Backend(BackendError::Unfit { reason, .. })) => {
            assert!(reason.contains("queue"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    queue.enqueue(job(1, 1)).await.unwrap();
    let (workers, mut told) = telling(&queue, 1, |_, _| async { Ok(()) });
    next(&mut told).await;
    drained(&queue).await;
    workers.shutdown(secs(5)).await;
}
