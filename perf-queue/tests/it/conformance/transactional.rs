//! Where jobs are enqueued in the application's own transactions.

use perf_queue::InTransaction;
use sqlx::{Database, Pool, Transaction};

use super::{Place, drained, job, next, telling};
use crate::support::{ms, secs};

/// Jobs that are enqueued in transactions on the pool's database.
pub(crate) async fn transactions<DB: Database>(place: &impl Place, pool: Pool<DB>)
where
    for<'c> Transaction<'c, DB>: InTransaction,
{
    let queue = place
        .builder()
        .concurrency_per_key(1)
        .build()
        .await
        .unwrap();
    let (workers, mut told) = telling(&queue, 2, |_, _| async { Ok(()) });
    let mut tx = pool.begin().await.unwrap();
    queue.enqueue_in(&mut tx, &job(1, 1)).await.unwrap();
    tx.rollback().await.unwrap();
    let mut tx = pool.begin().await.unwrap();
    let id = queue.enqueue_in(&mut tx, &job(1, 2)).await.unwrap();
    queue.enqueue_in(&mut tx, &job(1, 3)).await.unwrap();
    let early = tokio::time::timeout(ms(100), told.recv()).await;
    assert!(early.is_err(), "before the commit: {early:?}");
    tx.commit().await.unwrap();
    let (started, cx) = next(&mut told).await;
    assert_eq!((started, cx.id()), (job(1, 2), id));
    assert_eq!(next(&mut told).await.0, job(1, 3));
    drained(&queue).await;
    workers.shutdown(secs(5)).await;
}
