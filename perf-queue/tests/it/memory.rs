//! The in-memory backend.

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use perf_queue::{Memory, Queue};

use crate::conformance::{Place, conformance};

#[derive(Clone)]
struct InMemory;

impl Place for InMemory {
    type Backend = Memory;

    fn backend(&self, capacity: usize) -> Memory {
        Memory::bounded(capacity)
    }
}

async fn place() -> Option<InMemory> {
    Some(InMemory)
}

conformance!(place);

/// To find room at once must count as a step of the task, too, or the workers on its thread starve.
#[tokio::test]
async fn a_task_that_enqueues_in_a_loop_lets_the_workers_of_its_thread_run() {
    let queue = Queue::<u32>::builder("loop").build().await.unwrap();
    let enqueued = Arc::new(AtomicU32::new(0));
    let seen = Arc::clone(&enqueued);
    let first = Arc::new(OnceLock::new());
    let note = Arc::clone(&first);
    let workers = queue
        .workers(1, move |_, _| {
            note.get_or_init(|| seen.load(SeqCst));
            async { Ok(()) }
        })
        .spawn();
    for n in 0..10_000 {
        queue.enqueue(n).await.unwrap();
        enqueued.fetch_add(1, SeqCst);
    }
    queue.drain().await.unwrap();
    let first = *first.get().unwrap();
    assert!(
        first < 1_000,
        "the first job ran when {first} were enqueued"
    );
    workers.shutdown(Duration::ZERO).await;
}
