use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use perf_queue::{Backoff, JobError, Memory, Queue};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use super::room;
use crate::support::secs;

/// What a subscriber panics at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Event,
    New,
    Enter,
    Exit,
    Close,
}

struct Panics {
    at: At,
    armed: Arc<AtomicBool>,
    spans: AtomicU64,
}

impl Panics {
    fn called(&self, at: At) {
        assert!(at != self.at || !self.armed.load(SeqCst), "no {at:?}");
    }
}

impl Subscriber for Panics {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("perf_queue")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        self.called(At::New);
        Id::from_u64(self.spans.fetch_add(1, SeqCst) + 1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {
        self.called(At::Event);
    }

    fn enter(&self, _: &Id) {
        self.called(At::Enter);
    }

    fn exit(&self, _: &Id) {
        self.called(At::Exit);
    }

    fn try_close(&self, _: Id) -> bool {
        self.called(At::Close);
        true
    }
}

/// The job that was to be logged counted as running for ever, and its worker was gone.
#[tokio::test(start_paused = true)]
async fn a_subscriber_that_panics_costs_no_job_no_room_and_no_worker() {
    for at in [At::Event, At::New, At::Enter, At::Exit, At::Close] {
        let armed = Arc::new(AtomicBool::new(false));
        let _default = tracing::subscriber::set_default(Panics {
            at,
            armed: Arc::clone(&armed),
            spans: AtomicU64::new(0),
        });
        let queue = Queue::<u32>::builder("tracing")
            .backend(Memory::bounded(20).dead_letters(0))
            .retry(Backoff::exponential(secs(0)..secs(0)).max_attempts(2))
            .build()
            .await
            .unwrap();
        let workers = queue
            .workers(2, |job, _| async move {
                match job {
                    1 => Err(JobError::retry("no")),
                    2 => Err(JobError::discard("no")),
                    3 => panic!("no"),
                    _ => Ok(()),
                }
            })
            .spawn();
        armed.store(true, SeqCst);
        queue.enqueue_batch((0..20).collect()).await.unwrap();
        queue.drain().await.unwrap();
        armed.store(false, SeqCst);
        let stats = queue.stats().await.unwrap();
        assert_eq!(stats.completed + stats.discarded + stats.died, 20, "{at:?}");
        let ends = (stats.completed, stats.discarded, stats.died);
        assert_eq!(ends, (17, 1, 2), "{at:?}");
        assert_eq!((stats.workers_idle, stats.in_flight), (2, 0), "{at:?}");
        assert_eq!(room(&queue, 9).await, 20, "{at:?}");
        queue.drain().await.unwrap();
        workers.shutdown(secs(1)).await;
    }
}
