//! The SQLite backend.

use std::path::Path;
use std::sync::Arc;

use perf_queue::{BackendError, Backoff, BuildError, EnqueueInError, Queue, Sqlite};
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

/// A runtime that ends in the middle of a job, without a word to the file.
fn die_with_a_job(place: &OnSqlite, add: bool) {
    let place = place.clone();
    let dying = std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let queue = opened(&place).await;
            if add {
                queue.enqueue(job(1, 1)).await.unwrap();
            }
            let (workers, mut told) = telling(&queue, 1, |_, _| std::future::pending());
            tokio::select! {
                _ = next(&mut told) => {}
                // It is dead already.
                _ = queue.drain() => {}
            }
            std::mem::forget((queue, workers));
        });
        runtime.shutdown_timeout(std::time::Duration::ZERO);
    });
    dying.join().unwrap();
}

/// As soon as who had the file before has let go of it.
async fn opened(place: &OnSqlite) -> Queue<Job> {
    loop {
        match once(place).build().await {
            Err(BuildError::Backend(BackendError::Unfit { .. })) => {
                tokio::task::yield_now().await;
            }
            built => return built.unwrap(),
        }
    }
}

fn once(place: &OnSqlite) -> perf_queue::QueueBuilder<Job, u32, Sqlite> {
    place.builder().retry(Backoff::default().max_attempts(1))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_whose_last_attempt_took_its_process_along_is_a_dead_letter() {
    let place = place().await.unwrap();
    let dying = place.clone();
    // The first time it may have been too soon for the file to know that it ran; the second time it
    // is suspect, and does not start before the file knows.
    tokio::task::spawn_blocking(move || {
        die_with_a_job(&dying, true);
        die_with_a_job(&dying, false);
    })
    .await
    .unwrap();
    let queue = opened(&place).await;
    let (workers, mut told) = telling(&queue, 1, |_, _| async { Ok(()) });
    drained(&queue).await;
    assert!(told.try_recv().is_err(), "it ran again");
    let letters = queue.dead_letters().list(9).await.unwrap();
    assert_eq!((letters.len(), letters[0].job.clone()), (1, Ok(job(1, 1))));
    assert!(letters[0].error().contains("process"), "{letters:?}");
    workers.shutdown(secs(5)).await;
}
