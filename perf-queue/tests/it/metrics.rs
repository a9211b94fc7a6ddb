use std::collections::BTreeMap;

use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use perf_queue::{Backoff, EnqueueOptions, JobError, Queue, Rate};

use crate::support::secs;

/// `name{label=value,..}` of all that was recorded; a histogram counts its samples.
pub(crate) fn values(snapshot: metrics_util::debugging::Snapshot) -> BTreeMap<String, f64> {
    let all = snapshot.into_vec();
    let described = all.iter().all(|(_, _, text, _)| text.is_some());
    assert!(described, "a metric has no description");
    all.into_iter()
        .map(|(key, _, _, value)| {
            let labels: Vec<String> = key
                .key()
                .labels()
                .map(|l| format!("{}={}", l.key(), l.value()))
                .collect();
            let value = match value {
                DebugValue::Counter(n) => n as f64,
                DebugValue::Gauge(g) => g.into_inner(),
                DebugValue::Histogram(samples) => samples.len() as f64,
            };
            (
                format!("{}{{{}}}", key.key().name(), labels.join(",")),
                value,
            )
        })
        .collect()
}

#[test]
fn metrics_tell_what_happened() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    metrics::with_local_recorder(&recorder, || {
        runtime.block_on(async {
            let queue = Queue::<u32>::builder("mail")
                .rate_limit(Rate::per_second(10))
                .retry(Backoff::exponential(secs(0)..secs(0)).max_attempts(2))
                .build()
                .await
                .unwrap();
            let workers = queue
                .workers(2, |job, cx| async move {
                    match job {
                        1 => Err(JobError::retry("no")),
                        2 => Err(JobError::discard("no")),
                        3 if cx.age() < secs(1) => Err(JobError::retry_after(secs(2))),
                        4 => {
                            tokio::time::sleep(secs(100)).await;
                            Ok(())
                        }
                        _ => Ok(()),
                    }
                })
                .spawn();
            queue.enqueue_batch((0..5).collect()).await.unwrap();
            tokio::time::sleep(secs(10)).await;
            let later = EnqueueOptions::new().delay(secs(60));
            queue.enqueue_with(5, later).await.unwrap();
            tokio::time::sleep(secs(2)).await;
            let seen = values(snapshotter.snapshot());
            let expected = [
                ("queue_depth{queue=mail,state=ready}", 0.0),
                ("queue_depth{queue=mail,state=scheduled}", 1.0),
                ("queue_depth{queue=mail,state=limited}", 0.0),
                ("queue_depth{queue=mail,state=in_flight}", 1.0),
                ("queue_depth{queue=mail,state=dead}", 1.0),
                ("queue_workers{queue=mail,state=busy}", 1.0),
                ("queue_workers{queue=mail,state=idle}", 1.0),
                ("queue_oldest_job_age_seconds{queue=mail}", 0.0),
                ("queue_jobs_enqueued_total{queue=mail}", 6.0),
                (
                    "queue_jobs_processed_total{queue=mail,outcome=completed}",
                    2.0,
                ),
                (
                    "queue_jobs_processed_total{queue=mail,outcome=retried}",
                    1.0,
                ),
                (
                    "queue_jobs_processed_total{queue=mail,outcome=snoozed}",
                    1.0,
                ),
                (
                    "queue_jobs_processed_total{queue=mail,outcome=discarded}",
                    1.0,
                ),
                ("queue_jobs_processed_total{queue=mail,outcome=dead}", 1.0),
                ("queue_job_wait_seconds{queue=mail}", 7.0),
                ("queue_job_duration_seconds{queue=mail}", 6.0),
                ("queue_rate_limited_total{queue=mail,scope=queue}", 5.0),
                ("queue_rate_limited_total{queue=mail,scope=key}", 0.0),
            ];
            let expected: BTreeMap<String, f64> = expected
                .iter()
                .map(|(k, v)| ((*k).to_owned(), *v))
                .collect();
            assert_eq!(seen, expected);
            workers.shutdown(secs(0)).await;
        });
    });
    drop(runtime);
    let seen = values(snapshotter.snapshot());
    assert_eq!(seen["queue_depth{queue=mail,state=scheduled}"], 0.0);
}
