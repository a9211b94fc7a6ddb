//! Code of the application's that panics: keys, jobs, errors, recorders, subscribers. No job, no room, no
//! count and no worker is lost.

mod errors;
mod jobs;
mod keys;
mod metrics;
mod tracing;

use perf_queue::Queue;

/// The room that is left, found by taking it; what is enqueued is `job`.
async fn room<T: Clone + Send + 'static>(queue: &Queue<T>, job: T) -> usize {
    let mut room = 0;
    while queue.try_enqueue(job.clone()).await.is_ok() {
        room += 1;
    }
    room
}
