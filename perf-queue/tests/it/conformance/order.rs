//! Order within keys, and turns between them.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use perf_queue::{Backoff, EnqueueOptions, JobError, Queue};

use super::{Job, Place, drained, job, next, telling};
use crate::support::{ms, secs};

pub(crate) async fn jobs_of_a_key_run_one_after_another_in_order(place: impl Place) {
    const KEYS: u32 = 20;
    const JOBS: u32 = 25;
    let queue = place
        .builder()
        .concurrency_per_key(1)
        .build()
        .await
        .unwrap();
    let busy: Vec<AtomicBool> = (0..KEYS).map(|_| AtomicBool::new(false)).collect();
    let busy = std::sync::Arc::new(busy);
    let (workers, mut told) = {
        let busy = std::sync::Arc::clone(&busy);
        telling(&queue, 8, move |job, _| {
            let busy = std::sync::Arc::clone(&busy);
            async move {
                let key = &busy[job.key as usize];
                assert!(!key.swap(true, SeqCst), "two at a time");
                tokio::task::yield_now().await;
                key.store(false, SeqCst);
                Ok(())
            }
        })
    };
    for n in 0..JOBS {
        let jobs = (0..KEYS).map(|key| job(key, n)).collect();
        queue.enqueue_batch(jobs).await.unwrap();
    }
    let mut seen: HashMap<u32, Vec<u32>> = HashMap::new();
    for _ in 0..KEYS * JOBS {
        let (job, cx) = next(&mut told).await;
        assert_eq!(cx.attempt(), 1);
        seen.entry(job.key).or_default().push(job.n);
    }
    for (key, numbers) in seen {
        assert_eq!(numbers, (0..JOBS).collect::<Vec<_>>(), "key {key}");
    }
    drained(&queue).await;
    workers.shutdown(secs(5)).await;
}

pub(crate) async fn a_retry_blocks_its_key_where_jobs_run_one_at_a_time(place: impl Place) {
    let backoff = Backoff::exponential(ms(40)..ms(80));
    let queue = place.builder().concurrency_per_key(1).retry(backoff);
    let queue = queue.build().await.unwrap();
    queue
        .enqueue_batch(vec![job(1, 1), job(1, 2)])
        .await
        .unwrap();
    let (workers, mut told) = telling(&queue, 4, |job, cx| async move {
        if job.n == 1 && cx.attempt() < 3 {
            return Err(JobError::retry("not yet"));
        }
        Ok(())
    });
    let mut seen = Vec::new();
    for _ in 0..4 {
        let (job, cx) = next(&mut told).await;
        seen.push((job.n, cx.attempt()));
    }
    assert_eq!(seen, [(1, 1), (1, 2), (1, 3), (2, 1)]);
    drained(&queue).await;
    workers.shutdown(secs(5)).await;
}

pub(crate) async fn higher_priorities_go_first_within_their_key(place: impl Place) {
    let queue = place
        .builder()
        .concurrency_per_key(1)
        .build()
        .await
        .unwrap();
    for (n, priority) in [(1, 0), (2, -5), (3, 7), (4, 0), (5, 7)] {
        let options = EnqueueOptions::new().priority(priority);
        queue.enqueue_with(job(1, n), options).await.unwrap();
    }
    let (workers, mut told) = telling(&queue, 1, |_, _| async { Ok(()) });
    let mut seen = Vec::new();
    for _ in 0..5 {
        seen.push(next(&mut told).await.0.n);
    }
    assert_eq!(seen, [3, 5, 1, 4, 2]);
    drained(&queue).await;
    workers.shutdown(secs(5)).await;
}

pub(crate) async fn a_key_with_many_jobs_does_not_delay_another(place: impl Place) {
    let queue = place.builder().build().await.unwrap();
    let hot: Vec<Job> = (0..2_000).map(|n| job(1, n)).collect();
    queue.enqueue_batch(hot).await.unwrap();
    queue.enqueue(job(2, 0)).await.unwrap();
    let (workers, mut told) = telling(&queue, 1, |_, _| async { Ok(()) });
    let mut before = 0;
    while next(&mut told).await.0.key != 2 {
        before += 1;
    }
    // In the first turn, or the next one where a batch was leased ahead.
    assert!(before <= 100, "{before} jobs of the other key went first");
    drained(&queue).await;
    workers.shutdown(secs(5)).await;
}

pub(crate) async fn a_keyless_queue_starts_jobs_in_order(place: impl Place) {
    let queue = Queue::<Job>::builder("keyless").backend(place.backend(1_000));
    let queue = queue.build().await.unwrap();
    let seen = std::sync::Arc::new(Mutex::new(Vec::new()));
    for n in 0..100 {
        queue.enqueue(job(n % 7, n)).await.unwrap();
    }
    let workers = {
        let seen = std::sync::Arc::clone(&seen);
        let handle = move |job: Job, _| {
            seen.lock().unwrap().push(job.n);
            async { Ok(()) }
        };
        queue.workers(1, handle).spawn()
    };
    drained(&queue).await;
    workers.shutdown(secs(5)).await;
    assert_eq!(*seen.lock().unwrap(), (0..100).collect::<Vec<_>>());
}
