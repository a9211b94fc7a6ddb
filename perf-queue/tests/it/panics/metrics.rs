use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};
use perf_queue::{Backoff, JobError, Memory, Queue, Rate};

use super::room;
use crate::support::{ms, secs};

/// Panics at whatever is recorded, once it is armed.
#[derive(Debug, Clone, Default)]
struct Panics(Arc<AtomicBool>);

impl Panics {
    fn recorded(&self) {
        assert!(!self.0.load(SeqCst), "no metrics");
    }
}

impl CounterFn for Panics {
    fn increment(&self, _: u64) {
        self.recorded();
    }

    fn absolute(&self, _: u64) {}
}

impl GaugeFn for Panics {
    fn increment(&self, _: f64) {}

    fn decrement(&self, _: f64) {}

    fn set(&self, _: f64) {
        self.recorded();
    }
}

impl HistogramFn for Panics {
    fn record(&self, _: f64) {
        self.recorded();
    }
}

impl Recorder for Panics {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(Arc::new(self.clone()))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(Arc::new(self.clone()))
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(Arc::new(self.clone()))
    }
}

/// The job of a claim that a recorder panicked in was gone, and its worker, and the room of a batch.
#[test]
fn a_recorder_that_panics_costs_no_job_no_room_and_no_worker() {
    let recorder = Panics::default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    metrics::with_local_recorder(&recorder, || {
        runtime.block_on(async {
            let queue = Queue::<u32>::builder("metrics")
                .key(|job: &u32| job % 2)
                .rate_limit(Rate::per_second(100))
                .rate_limit_per_key(Rate::per_second(10))
                .backend(Memory::bounded(20))
                .retry(Backoff::exponential(secs(1)..secs(1)).max_attempts(2))
                .build()
                .await
                .unwrap();
            recorder.0.store(true, SeqCst);
            let workers = queue
                .workers(2, |job, cx| async move {
                    match job {
                        1 => Err(JobError::retry("no")),
                        2 => Err(JobError::discard("no")),
                        3 if cx.age() < secs(1) => Err(JobError::retry_after(secs(2))),
                        _ => Ok(()),
                    }
                })
                .spawn();
            queue.enqueue_batch((0..20).collect()).await.unwrap();
            queue.drain().await.unwrap();
            // Long enough for the gauges to be set.
            tokio::time::sleep(secs(3)).await;
            let stats = queue.stats().await.unwrap();
            let ends = (stats.completed, stats.retried, stats.snoozed);
            assert_eq!(ends, (18, 1, 1));
            let ends = (stats.discarded, stats.died, stats.enqueued);
            assert_eq!(ends, (1, 1, 20));
            assert_eq!((stats.workers_idle, stats.in_flight), (2, 0));
            workers.shutdown(ms(1)).await;
            assert_eq!(room(&queue, 0).await, 20);
        });
    });
}
