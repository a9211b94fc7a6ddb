//! Metrics.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use metrics_util::debugging::DebuggingRecorder;
use perf_queue::{Backoff, EnqueueOptions, JobError, Rate};

use super::{Place, drained, job, next, telling};
use crate::metrics::values;
use crate::support::{ms, secs};

const GAUGES: [&str; 8] = [
    "queue_depth{queue=q,state=ready}",
    "queue_depth{queue=q,state=scheduled}",
    "queue_depth{queue=q,state=limited}",
    "queue_depth{queue=q,state=in_flight}",
    "queue_depth{queue=q,state=dead}",
    "queue_workers{queue=q,state=busy}",
    "queue_workers{queue=q,state=idle}",
    "queue_oldest_job_age_seconds{queue=q}",
];

pub(crate) async fn every_backend_has_the_metrics_of_the_contract(place: impl Place) {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let local = metrics::set_default_local_recorder(&recorder);
    let queue = place
        .builder()
        .rate_limit_per_key(Rate::new(1, ms(100)))
        .retry(Backoff::exponential(ms(0)..ms(0)).max_attempts(2));
    let queue = queue.build().await.unwrap();
    drop(local);
    let snoozed = AtomicBool::new(false);
    let (workers, mut told) = telling(&queue, 2, move |job, _| {
        let snooze = job.key == 3 && !snoozed.swap(true, SeqCst);
        async move {
            match job.key {
                1 => Err(JobError::retry("no")),
                2 => Err(JobError::discard("no")),
                3 if snooze => Err(JobError::retry_after(ms(50))),
                _ => Ok(()),
            }
        }
    });
    for key in [1, 2, 3, 4, 4] {
        let once = EnqueueOptions::new().unique(format!("{key}"), secs(60));
        queue.enqueue_with(job(key, 0), once).await.unwrap();
    }
    queue
        .enqueue_batch(vec![job(4, 1), job(4, 2)])
        .await
        .unwrap();
    // Twice the one that fails, and the one that is snoozed.
    for _ in 0..8 {
        next(&mut told).await;
    }
    drained(&queue).await;
    let stats = queue.stats().await.unwrap();
    assert_eq!((stats.enqueued, stats.completed, stats.died), (6, 4, 1));
    workers.shutdown(secs(5)).await;
    let mut seen = values(snapshotter.snapshot());
    let mut limited = |scope| {
        let name = format!("queue_rate_limited_total{{queue=q,scope={scope}}}");
        seen.remove(&name).unwrap()
    };
    // Those of key 4 at least.
    assert!(limited("key") >= 2.0);
    assert_eq!(limited("queue"), 0.0);
    let gauges: BTreeSet<&str> = GAUGES.into();
    let (found, counted): (Vec<_>, Vec<_>) = seen
        .iter()
        .map(|(name, value)| (name.as_str(), *value))
        .partition(|(name, _)| gauges.contains(name));
    assert_eq!(found.len(), GAUGES.len(), "{found:?}");
    let processed = |outcome| format!("queue_jobs_processed_total{{queue=q,outcome={outcome}}}");
    let expected = [
        ("queue_jobs_enqueued_total{queue=q}".to_owned(), 6.0),
        (processed("completed"), 4.0),
        (processed("retried"), 1.0),
        (processed("snoozed"), 1.0),
        (processed("discarded"), 1.0),
        (processed("dead"), 1.0),
        ("queue_job_wait_seconds{queue=q}".to_owned(), 8.0),
        ("queue_job_duration_seconds{queue=q}".to_owned(), 8.0),
    ];
    let mut expected: Vec<_> = expected.iter().map(|(n, v)| (n.as_str(), *v)).collect();
    expected.sort_by_key(|(name, _)| *name);
    assert_eq!(counted, expected);
}
