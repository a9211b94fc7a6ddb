//! How jobs get in.

use std::time::{Duration, Instant};

use perf_queue::{EnqueueBatchError, EnqueueError, EnqueueOptions, JobError, TryEnqueueError};

use super::{Job, Place, drained, job, next, telling};
use crate::support::{ms, secs};

pub(crate) async fn a_job_runs_once_with_its_id_and_context(place: impl Place) {
    let queue = place.builder().build().await.unwrap();
    let (workers, mut told) = telling(&queue, 2, |_, _| async { Ok(()) });
    let id = queue.enqueue(job(1, 1)).await.unwrap();
    let (started, cx) = next(&mut told).await;
    assert_eq!((started, cx.id(), cx.attempt()), (job(1, 1), id, 1));
    assert!(cx.age() < secs(20) && cx.waited() <= cx.age() + ms(1));
    drained(&queue).await;
    workers.shutdown(secs(5)).await;
    assert!(told.try_recv().is_err(), "it ran again");
}

pub(crate) async fn a_batch_goes_in_whole_and_in_order(place: impl Place) {
    let queue = place.builder().build().await.unwrap();
    let jobs: Vec<Job> = (0..500).map(|n| job(1, n)).collect();
    let ids = queue.enqueue_batch(jobs.clone()).await.unwrap();
    assert_eq!(queue.enqueue_batch(Vec::new()).await.unwrap(), []);
    let (workers, mut told) = telling(&queue, 1, |_, _| async { Ok(()) });
    for (wanted, id) in jobs.into_iter().zip(ids) {
        let (started, cx) = next(&mut told).await;
        assert_eq!((started, cx.id()), (wanted, id));
    }
    drained(&queue).await;
    workers.shutdown(secs(5)).await;
}

pub(crate) async fn each_job_of_a_batch_has_options_of_its_own(place: impl Place) {
    let queue = place.builder().build().await.unwrap();
    let unique = || EnqueueOptions::new().unique("one", secs(600));
    let jobs = [
        (job(1, 1), EnqueueOptions::new()),
        (job(1, 2), EnqueueOptions::new().priority(1)),
        (job(1, 3), EnqueueOptions::new().delay(secs(600))),
        (job(2, 4), unique()),
        (job(2, 5), unique()),
    ];
    let ids = queue.enqueue_batch_with(jobs).await.unwrap();
    assert_eq!(ids.len(), 5);
    assert_eq!(ids[3], ids[4], "the second has the id of the first");
    let again = queue.try_enqueue_with(job(2, 6), unique()).await.unwrap();
    assert_eq!(again, ids[3]);
    let stats = queue.stats().await.unwrap();
    assert_eq!((stats.ready, stats.scheduled), (3, 1));
    let (workers, mut told) = telling(&queue, 1, |_, _| async { Ok(()) });
    let mut started = Vec::new();
    for _ in 0..3 {
        started.push(next(&mut told).await.0.n);
    }
    let of_key_1: Vec<u32> = started.iter().copied().filter(|n| *n < 4).collect();
    assert_eq!(of_key_1, [2, 1]);
    assert!(started.contains(&4), "{started:?}");
    workers.shutdown(secs(5)).await;
}

/// Nothing falls over or is forgotten, and no job runs twice.
pub(crate) async fn any_number_of_jobs_may_fall_due_at_once(place: impl Place) {
    const JOBS: u32 = 50_000;
    let queue = place.builder_of(JOBS as usize).build().await.unwrap();
    let due = Instant::now() + secs(4);
    for from in (0..JOBS).step_by(10_000) {
        let jobs = (from..from + 10_000).map(|n| {
            let delay = due.saturating_duration_since(Instant::now());
            (job(n % 5_000, n), EnqueueOptions::new().delay(delay))
        });
        queue.enqueue_batch_with(jobs).await.unwrap();
    }
    let (workers, mut told) = telling(&queue, 4, |_, _| async { Ok(()) });
    let mut seen = vec![false; JOBS as usize];
    for _ in 0..JOBS {
        let (job, _) = next(&mut told).await;
        assert!(
            !std::mem::replace(&mut seen[job.n as usize], true),
            "{job:?}"
        );
    }
    drained(&queue).await;
    workers.shutdown(secs(5)).await;
    assert!(told.try_recv().is_err(), "one ran twice");
}

pub(crate) async fn a_full_queue_gives_the_job_back_or_waits(place: impl Place) {
    let queue = place.builder_of(2).build().await.unwrap();
    queue.try_enqueue(job(1, 1)).await.unwrap();
    queue.try_enqueue(job(2, 2)).await.unwrap();
    match queue.try_enqueue(job(3, 3)).await {
        Err(TryEnqueueError::Full(back)) => assert_eq!(back, job(3, 3)),
        other => panic!("{other:?}"),
    }
    let waiting = {
        let queue = queue.clone();
        tokio::spawn(async move { queue.enqueue(job(4, 4)).await })
    };
    let (workers, mut told) = telling(&queue, 1, |_, _| async { Ok(()) });
    waiting.await.unwrap().unwrap();
    for _ in 0..3 {
        next(&mut told).await;
    }
    drained(&queue).await;
    workers.shutdown(secs(5)).await;
}

pub(crate) async fn a_batch_that_never_fits_comes_back(place: impl Place) {
    let queue = place.builder_of(2).build().await.unwrap();
    let jobs = vec![job(1, 1), job(1, 2), job(1, 3)];
    match queue.enqueue_batch(jobs.clone()).await {
        Err(EnqueueBatchError::TooMany {
            jobs: back,
            capacity: 2,
        }) => assert_eq!(back, jobs),
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn a_closed_queue_gives_jobs_back(place: impl Place) {
    let queue = place.builder().build().await.unwrap();
    queue.close();
    match queue.enqueue(job(1, 1)).await {
        Err(EnqueueError::Closed(back)) => assert_eq!(back, job(1, 1)),
        other => panic!("{other:?}"),
    }
    match queue.enqueue_batch(vec![job(1, 2)]).await {
        Err(EnqueueBatchError::Other(EnqueueError::Closed(back))) => assert_eq!(back, [job(1, 2)]),
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn a_delayed_job_runs_when_its_time_has_come(place: impl Place) {
    let queue = place.builder().build().await.unwrap();
    let (workers, mut told) = telling(&queue, 2, |_, _| async { Ok(()) });
    let start = Instant::now();
    let later = EnqueueOptions::new().delay(ms(900));
    queue.enqueue_with(job(1, 1), later).await.unwrap();
    queue.enqueue(job(1, 2)).await.unwrap();
    assert_eq!(next(&mut told).await.0, job(1, 2));
    assert_eq!(next(&mut told).await.0, job(1, 1));
    let took = start.elapsed();
    // By the clock of the backend, in milliseconds.
    assert!(took >= ms(895), "{took:?}");
    drained(&queue).await;
    workers.shutdown(secs(5)).await;
}

pub(crate) async fn a_unique_job_is_enqueued_once(place: impl Place) {
    let queue = place.builder().build().await.unwrap();
    let once = || EnqueueOptions::new().unique("welcome:42", Duration::from_secs(60));
    let first = queue.enqueue_with(job(1, 1), once()).await.unwrap();
    let (workers, mut told) = telling(&queue, 2, |_, _| async { Ok(()) });
    next(&mut told).await;
    drained(&queue).await;
    let again = queue.enqueue_with(job(1, 2), once()).await.unwrap();
    assert_eq!(again, first, "done, and still the only one of its name");
    let other = EnqueueOptions::new().unique("welcome:43", Duration::from_secs(60));
    assert_ne!(queue.enqueue_with(job(1, 3), other).await.unwrap(), first);
    assert_eq!(next(&mut told).await.0, job(1, 3));
    drained(&queue).await;
    workers.shutdown(secs(5)).await;
}

pub(crate) async fn a_unique_name_may_be_long(place: impl Place) {
    let queue = place.builder().build().await.unwrap();
    // Nothing that could be compressed.
    let long: String = std::iter::repeat_with(fastrand::alphanumeric)
        .take(10_000)
        .collect();
    let once = |end: &str| EnqueueOptions::new().unique(format!("{long}{end}"), secs(60));
    let first = queue.enqueue_with(job(1, 1), once("a")).await.unwrap();
    let again = queue.enqueue_with(job(1, 2), once("a")).await.unwrap();
    let other = queue.enqueue_with(job(1, 3), once("b")).await.unwrap();
    assert_eq!((again, queue.stats().await.unwrap().ready), (first, 2));
    assert_ne!(other, first);
}

pub(crate) async fn the_trace_travels_with_the_job(place: impl Place) {
    let queue = place.builder().build().await.unwrap();
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let options = EnqueueOptions::new().trace(trace);
    queue.enqueue_with(job(1, 1), options).await.unwrap();
    queue.enqueue(job(2, 2)).await.unwrap();
    let (workers, mut told) = telling(&queue, 1, |_, cx| async move {
        match cx.attempt() {
            1 => Err(JobError::retry_after(ms(1))),
            _ => Ok(()),
        }
    });
    let mut seen = [next(&mut told).await, next(&mut told).await];
    seen.sort_by_key(|(job, _)| job.key);
    assert_eq!(seen[0].1.trace(), Some(trace));
    assert_eq!(seen[1].1.trace(), None);
    workers.shutdown(secs(5)).await;
}

pub(crate) async fn stats_say_where_jobs_are(place: impl Place) {
    let queue = place
        .builder()
        .concurrency_per_key(1)
        .build()
        .await
        .unwrap();
    let hour = || EnqueueOptions::new().delay(secs(3_600));
    queue.enqueue_with(job(9, 9), hour()).await.unwrap();
    for n in 0..3 {
        queue.enqueue(job(1, n)).await.unwrap();
    }
    let stats = queue.stats().await.unwrap();
    assert_eq!((stats.scheduled, stats.in_flight, stats.dead), (1, 0, 0));
    assert_eq!(stats.ready + stats.limited, 3);
    assert!(stats.oldest_age.is_some());
    let (workers, mut told) = telling(&queue, 2, |_, _| std::future::pending());
    next(&mut told).await;
    let stats = queue.stats().await.unwrap();
    assert_eq!((stats.in_flight, stats.scheduled, stats.ready), (1, 1, 0));
    assert_eq!(stats.limited, 2, "their key is busy");
    assert_eq!((stats.workers_busy, stats.enqueued), (1, 4));
    workers.shutdown(Duration::ZERO).await;
    let stats = queue.stats().await.unwrap();
    assert_eq!((stats.in_flight, stats.ready + stats.limited), (0, 3));
}
