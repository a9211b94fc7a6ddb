use std::sync::{Arc, Mutex};
use std::time::Duration;

use perf_queue::{
    EnqueueBatchError, EnqueueError, EnqueueOptions, JobError, Memory, Queue, TryEnqueueError,
};

#[tokio::test]
async fn every_job_is_run_once() {
    let queue: Queue<u32> = Queue::<u32>::builder("q").build().await.unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let ids = queue.enqueue_batch((0..1_000).collect()).await.unwrap();
    assert_eq!(ids.len(), 1_000);
    let log = Arc::clone(&seen);
    let workers = queue
        .workers(10, move |job, cx| {
            let log = Arc::clone(&log);
            async move {
                log.lock().unwrap().push((job, cx.id(), cx.attempt()));
                Ok::<(), JobError>(())
            }
        })
        .spawn();
    for job in 1_000..1_100 {
        queue.enqueue(job).await.unwrap();
    }
    queue.drain().await.unwrap();
    let mut seen = std::mem::take(&mut *seen.lock().unwrap());
    seen.sort_unstable();
    assert_eq!(seen.len(), 1_100);
    assert!(seen.iter().zip(0..).all(|((job, ..), n)| *job == n));
    assert!(seen.iter().zip(&ids).all(|((_, id, _), given)| id == given));
    let stats = queue.stats().await.unwrap();
    assert_eq!((stats.completed, stats.enqueued), (1_100, 1_100));
    assert_eq!((stats.ready, stats.in_flight), (0, 0));
    drop(workers);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_gives_the_job_back_or_makes_the_producer_wait() {
    let queue = Queue::<&str>::builder("q")
        .backend(Memory::bounded(2))
        .build()
        .await
        .unwrap();
    queue.try_enqueue("a").await.unwrap();
    queue.try_enqueue("b").await.unwrap();
    match queue.try_enqueue("c").await {
        Err(TryEnqueueError::Full(job)) => assert_eq!(job, "c"),
        other => panic!("{other:?}"),
    }
    let waiting = tokio::spawn({
        let queue = queue.clone();
        async move { queue.enqueue("d").await }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!waiting.is_finished());
    let workers = queue.workers(1, |_, _| async { Ok(()) }).spawn();
    waiting.await.unwrap().unwrap();
    queue.drain().await.unwrap();
    assert_eq!(queue.stats().await.unwrap().completed, 3);
    drop(workers);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_enqueue_has_enqueued_nothing_and_keeps_no_room() {
    let queue = Queue::<u32>::builder("q")
        .backend(Memory::bounded(4))
        .build()
        .await
        .unwrap();
    queue.enqueue_batch(vec![1, 2, 3]).await.unwrap();
    let second = Duration::from_secs(1);
    let batch = tokio::time::timeout(second, queue.enqueue_batch(vec![4, 5])).await;
    assert!(batch.is_err());
    queue.try_enqueue(6).await.unwrap();
    assert!(
        tokio::time::timeout(second, queue.enqueue(7))
            .await
            .is_err()
    );
    assert_eq!(queue.stats().await.unwrap().enqueued, 4);
    let workers = queue.workers(2, |_, _| async { Ok(()) }).spawn();
    queue.drain().await.unwrap();
    queue.enqueue_batch(vec![8, 9, 10, 11]).await.unwrap();
    queue.drain().await.unwrap();
    assert_eq!(queue.stats().await.unwrap().completed, 8);
    drop(workers);
}

#[tokio::test]
async fn a_batch_that_never_fits_is_refused_whole() {
    let queue = Queue::<u32>::builder("q")
        .backend(Memory::bounded(2))
        .build()
        .await
        .unwrap();
    match queue.enqueue_batch(vec![1, 2, 3]).await {
        Err(EnqueueBatchError::TooMany { jobs, capacity: 2 }) => assert_eq!(jobs, [1, 2, 3]),
        other => panic!("{other:?}"),
    }
    assert_eq!(queue.stats().await.unwrap().ready, 0);
    assert!(queue.enqueue_batch(Vec::new()).await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_closed_queue_gives_jobs_back_also_to_those_who_wait() {
    let queue = Queue::<u32>::builder("q")
        .backend(Memory::bounded(1))
        .build()
        .await
        .unwrap();
    queue.enqueue(1).await.unwrap();
    let waiting = tokio::spawn({
        let queue = queue.clone();
        async move { queue.enqueue(2).await }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    queue.close();
    assert!(matches!(
        waiting.await.unwrap(),
        Err(EnqueueError::Closed(2))
    ));
    assert!(matches!(
        queue.try_enqueue(3).await,
        Err(TryEnqueueError::Other(EnqueueError::Closed(3)))
    ));
    assert!(matches!(
        queue.enqueue(4).await,
        Err(EnqueueError::Closed(4))
    ));
    assert!(matches!(
        queue.enqueue_batch(vec![5]).await,
        Err(EnqueueBatchError::Other(EnqueueError::Closed(jobs))) if jobs == [5]
    ));
    // What is queued still runs.
    let workers = queue.workers(1, |_, _| async { Ok(()) }).spawn();
    queue.drain().await.unwrap();
    assert_eq!(queue.stats().await.unwrap().completed, 1);
    drop(workers);
}

#[tokio::test(start_paused = true)]
async fn a_delayed_job_runs_when_its_time_has_come() {
    let queue = Queue::<u32>::builder("q").build().await.unwrap();
    let workers = queue
        .workers(2, |_, cx| async move {
            assert_eq!(cx.age(), Duration::from_secs(3));
            assert_eq!(cx.waited(), Duration::ZERO);
            Ok(())
        })
        .spawn();
    let options = EnqueueOptions::new().delay(Duration::from_secs(3));
    queue.enqueue_with(1, options).await.unwrap();
    assert_eq!(queue.stats().await.unwrap().scheduled, 1);
    queue.drain().await.unwrap();
    let stats = queue.stats().await.unwrap();
    assert_eq!((stats.completed, stats.retried), (1, 0));
    drop(workers);
}

#[tokio::test(start_paused = true)]
async fn a_job_that_fell_due_while_all_were_busy_is_counted_and_keeps_its_place() {
    let queue = Queue::<u32>::builder("q").build().await.unwrap();
    let later = EnqueueOptions::new().delay(Duration::from_millis(500));
    for job in 0..300 {
        queue.enqueue_with(job, later.clone()).await.unwrap();
    }
    // Nobody has asked for a job since, nor have the gauges been set.
    tokio::time::sleep(Duration::from_millis(700)).await;
    queue.enqueue(300).await.unwrap();
    let stats = queue.stats().await.unwrap();
    assert_eq!((stats.ready, stats.scheduled), (301, 0));
    assert_eq!(stats.oldest_age, Some(Duration::from_millis(200)));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let workers = queue
        .workers(1, move |job, _| {
            log.lock().unwrap().push(job);
            async { Ok(()) }
        })
        .spawn();
    queue.drain().await.unwrap();
    assert!(seen.lock().unwrap().iter().copied().eq(0..=300));
    drop(workers);
}

#[tokio::test(start_paused = true)]
async fn jobs_that_fall_due_show_in_the_stats_without_a_worker() {
    let queue = Queue::<u32>::builder("q").build().await.unwrap();
    let delay = EnqueueOptions::new().delay(Duration::from_secs(1));
    queue.enqueue_with(0, delay).await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let stats = queue.stats().await.unwrap();
    assert_eq!((stats.ready, stats.scheduled), (1, 0));
    assert_eq!(stats.oldest_age, Some(Duration::from_secs(4)));
}

/// As an application does that wants its own runs to be repeatable.
#[tokio::test]
async fn ids_differ_between_processes_that_seed_their_randomness_alike() {
    let mut ids = Vec::new();
    for _ in 0..2 {
        fastrand::seed(7);
        let queue = Queue::<u32>::builder("q").build().await.unwrap();
        ids.push(queue.enqueue(0).await.unwrap());
    }
    assert_ne!(ids[0], ids[1]);
}

#[test]
fn public_types_are_send_sync_and_debug() {
    fn check<T: Send + Sync + std::fmt::Debug>() {}
    type Handler = fn(u32, perf_queue::JobContext) -> std::future::Ready<Result<(), JobError>>;
    // A job need not be `Sync`.
    type Job = std::cell::Cell<u32>;
    check::<Queue<Job>>();
    check::<perf_queue::QueueBuilder<Job>>();
    check::<perf_queue::Workers>();
    check::<perf_queue::WorkersBuilder<Job, Handler>>();
    check::<perf_queue::DeadLetters<Job>>();
    check::<perf_queue::DeadLetter<u32>>();
    check::<perf_queue::Stats>();
    check::<perf_queue::Drain>();
    check::<perf_queue::Memory>();
    check::<perf_queue::Rate>();
    check::<perf_queue::Backoff>();
    check::<perf_queue::JobId>();
    check::<perf_queue::JobContext>();
    check::<perf_queue::JobError>();
    check::<perf_queue::Scope>();
    check::<EnqueueOptions>();
    check::<EnqueueError<u32>>();
    check::<TryEnqueueError<u32>>();
    check::<EnqueueBatchError<u32>>();
    check::<perf_queue::ReplayError>();
    check::<perf_queue::BackendError>();
    check::<perf_queue::BuildError>();
}
