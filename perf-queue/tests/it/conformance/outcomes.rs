//! What becomes of jobs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use perf_queue::{Backoff, JobError};

use super::{Place, drained, job, next, telling};
use crate::support::{ms, secs};

fn quick(attempts: u32) -> Backoff {
    Backoff::exponential(ms(1)..ms(4)).max_attempts(attempts)
}

pub(crate) async fn a_failing_job_is_tried_again_and_then_dies_with_its_history(place: impl Place) {
    let queue = place.builder().retry(quick(3)).build().await.unwrap();
    let id = queue.enqueue(job(1, 1)).await.unwrap();
    let (workers, mut told) = telling(&queue, 2, |_, cx| async move {
        Err(JobError::retry(format!("error {}", cx.attempt())))
    });
    for attempt in 1..=3 {
        let (_, cx) = next(&mut told).await;
        assert_eq!((cx.id(), cx.attempt()), (id, attempt));
    }
    drained(&queue).await;
    let letters = queue.dead_letters().list(10).await.unwrap();
    assert_eq!(letters.len(), 1);
    let letter = &letters[0];
    assert_eq!((letter.id, letter.attempts), (id, 3));
    assert_eq!(letter.job, Ok(job(1, 1)));
    assert_eq!(letter.errors, ["error 1", "error 2", "error 3"]);
    assert_eq!(queue.stats().await.unwrap().dead, 1);
    workers.shutdown(secs(5)).await;
}

pub(crate) async fn a_dead_letter_runs_again_when_replayed(place: impl Place) {
    let queue = place.builder().retry(quick(1)).build().await.unwrap();
    let works = Arc::new(AtomicBool::new(false));
    let (workers, mut told) = {
        let works = Arc::clone(&works);
        telling(&queue, 2, move |_, _| {
            let works = works.load(SeqCst);
            async move {
                if works {
                    Ok(())
                } else {
                    Err(JobError::retry("down"))
                }
            }
        })
    };
    let id = queue.enqueue(job(1, 1)).await.unwrap();
    next(&mut told).await;
    drained(&queue).await;
    works.store(true, SeqCst);
    let dead = queue.dead_letters();
    assert!(dead.replay(id).await.unwrap());
    let (again, cx) = next(&mut told).await;
    assert_eq!((again, cx.id(), cx.attempt()), (job(1, 1), id, 1));
    drained(&queue).await;
    assert!(!dead.replay(id).await.unwrap(), "there is no letter");
    assert!(dead.list(1).await.unwrap().is_empty());
    workers.shutdown(secs(5)).await;
}

/// Only a letter that is there waits for room.
pub(crate) async fn what_is_no_dead_letter_is_not_replayed_into_a_full_queue(place: impl Place) {
    let queue = place.builder_of(4).retry(quick(1)).build().await.unwrap();
    let (workers, mut told) = telling(&queue, 2, |_, _| async { Err(JobError::retry("no")) });
    let id = queue.enqueue(job(1, 1)).await.unwrap();
    next(&mut told).await;
    drained(&queue).await;
    workers.shutdown(secs(5)).await;
    let dead = queue.dead_letters();
    assert!(dead.replay(id).await.unwrap());
    let jobs = (2..5).map(|n| job(n, n)).collect();
    queue.enqueue_batch(jobs).await.unwrap();
    let replayed = tokio::time::timeout(secs(10), dead.replay(id)).await;
    assert!(!replayed.expect("it waits for room").unwrap());
}

pub(crate) async fn dead_letters_are_purged(place: impl Place) {
    let queue = place.builder().retry(quick(1)).build().await.unwrap();
    let (workers, _told) = telling(&queue, 2, |_, _| async { Err(JobError::retry("no")) });
    let jobs = (0..5).map(|n| job(n, n)).collect();
    queue.enqueue_batch(jobs).await.unwrap();
    drained(&queue).await;
    let dead = queue.dead_letters();
    assert_eq!(dead.list(3).await.unwrap().len(), 3);
    assert_eq!(dead.purge().await.unwrap(), 5);
    assert_eq!(dead.purge().await.unwrap(), 0);
    workers.shutdown(secs(5)).await;
}

pub(crate) async fn a_panic_is_a_failed_attempt(place: impl Place) {
    let queue = place.builder().retry(quick(5)).build().await.unwrap();
    let (workers, mut told) = telling(&queue, 1, |_, cx| async move {
        if cx.attempt() == 1 {
            std::panic::resume_unwind(Box::new("oh"));
        }
        Ok(())
    });
    queue.enqueue(job(1, 1)).await.unwrap();
    assert_eq!(next(&mut told).await.1.attempt(), 1);
    assert_eq!(next(&mut told).await.1.attempt(), 2);
    drained(&queue).await;
    workers.shutdown(secs(5)).await;
}

pub(crate) async fn a_discarded_job_is_gone(place: impl Place) {
    let queue = place.builder().build().await.unwrap();
    let (workers, mut told) = telling(&queue, 1, |_, _| async {
        Err(JobError::discard("blocked"))
    });
    queue.enqueue(job(1, 1)).await.unwrap();
    next(&mut told).await;
    drained(&queue).await;
    let stats = queue.stats().await.unwrap();
    assert_eq!((stats.discarded, stats.dead), (1, 0));
    workers.shutdown(secs(5)).await;
}

pub(crate) async fn shutdown_gives_unfinished_jobs_back(place: impl Place) {
    let queue = place
        .builder()
        .concurrency_per_key(1)
        .build()
        .await
        .unwrap();
    let jobs = (0..6).map(|n| job(n % 2, n)).collect();
    queue.enqueue_batch(jobs).await.unwrap();
    let (workers, mut told) = telling(&queue, 2, |_, _| std::future::pending());
    let mut first = [next(&mut told).await.0.n, next(&mut told).await.0.n];
    let drain = workers.shutdown(Duration::ZERO).await;
    assert_eq!((drain.completed, drain.released), (0, 2));
    let (workers, mut told) = telling(&queue, 1, |_, _| async { Ok(()) });
    let mut seen = Vec::new();
    for _ in 0..6 {
        let (job, cx) = next(&mut told).await;
        assert_eq!(cx.attempt(), 1, "a release is no attempt");
        seen.push(job.n);
    }
    let key = |key: u32| -> Vec<u32> { seen.iter().copied().filter(|n| n % 2 == key).collect() };
    assert_eq!((key(0), key(1)), (vec![0, 2, 4], vec![1, 3, 5]));
    first.sort_unstable();
    assert_eq!(first, [0, 1]);
    drained(&queue).await;
    workers.shutdown(secs(5)).await;
}
