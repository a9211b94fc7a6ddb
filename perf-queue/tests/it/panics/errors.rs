use std::error::Error;
use std::future::{Ready, ready};
use std::task::{Context, Poll};

use perf_queue::{Backoff, Queue, Run};
use tower::Service;

use crate::support::secs;

/// An error that cannot be read.
struct Unreadable;

impl From<Unreadable> for Box<dyn Error + Send + Sync> {
    fn from(_: Unreadable) -> Self {
        panic!("unreadable")
    }
}

#[derive(Clone)]
struct Fails;

impl Service<Run<u32>> for Fails {
    type Response = ();
    type Error = Unreadable;
    type Future = Ready<Result<(), Unreadable>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Unreadable>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, run: Run<u32>) -> Self::Future {
        ready(match run.job {
            0 => Err(Unreadable),
            _ => Ok(()),
        })
    }
}

/// The job went with it, and the worker.
#[tokio::test(start_paused = true)]
async fn an_error_whose_conversion_panics_is_a_failed_attempt() {
    let queue = Queue::<u32>::builder("errors")
        .retry(Backoff::exponential(secs(1)..secs(1)).max_attempts(3))
        .build()
        .await
        .unwrap();
    let layer = tower::layer::layer_fn(|_| Fails);
    let workers = queue.workers(1, |_, _| async { Ok(()) }).layer(layer);
    let workers = workers.spawn();
    queue.enqueue_batch(vec![0, 1, 2]).await.unwrap();
    queue.drain().await.unwrap();
    let stats = queue.stats().await.unwrap();
    assert_eq!((stats.completed, stats.retried, stats.died), (2, 2, 1));
    assert_eq!((stats.workers_idle, stats.in_flight), (1, 0));
    let dead = queue.dead_letters().list(1).await.unwrap();
    assert_eq!(dead[0].job, Ok(0));
    assert_eq!(dead[0].error(), "an error whose conversion panics");
    workers.shutdown(secs(1)).await;
}
