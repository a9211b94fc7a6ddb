//! Where several processes share a queue: here, several handles that know nothing of each other.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use perf_queue::{Backoff, JobError, Rate};

use super::{Job, Place, drained, job, next, telling};
use crate::support::{ms, secs};

pub(crate) async fn processes_share_the_jobs_in_order(place: impl Place) {
    let mut queues = Vec::new();
    for _ in 0..3 {
        let queue = place
            .builder()
            .concurrency_per_key(1)
            .build()
            .await
            .unwrap();
        queues.push(queue);
    }
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let (has_jobs, _) = tokio::sync::watch::channel([false; 3]);
    let mut workers = Vec::new();
    for (process, queue) in queues.iter().enumerate() {
        let (tell, has_jobs) = (tell.clone(), has_jobs.clone());
        let handle = move |job: Job, cx: perf_queue::JobContext| {
            tell.send((process, job, cx.attempt())).unwrap();
            has_jobs.send_modify(|has| has[process] = true);
            let mut has_jobs = has_jobs.subscribe();
            async move {
                // Else one that is faster may do all of the work.
                let all = has_jobs.wait_for(|has| *has == [true; 3]);
                all.await.map(drop).unwrap();
                tokio::time::sleep(ms(1)).await;
                Ok(())
            }
        };
        workers.push(queue.workers(4, handle).spawn());
    }
    for n in 0..30 {
        let jobs = (0..20).map(|key| job(key, n)).collect();
        queues[n as usize % 3].enqueue_batch(jobs).await.unwrap();
    }
    let mut seen: HashMap<u32, Vec<u32>> = HashMap::new();
    for _ in 0..600 {
        let next = tokio::time::timeout(super::HANGS, told.recv()).await;
        let (process, job, attempt) = next.expect("each process has jobs").unwrap();
        assert_eq!(attempt, 1, "in {process}");
        seen.entry(job.key).or_default().push(job.n);
    }
    for (key, numbers) in seen {
        assert_eq!(numbers, (0..30).collect::<Vec<_>>(), "key {key}");
    }
    assert_eq!(*has_jobs.borrow(), [true; 3]);
    drained(&queues[0]).await;
    for workers in workers {
        workers.shutdown(secs(5)).await;
    }
}

pub(crate) async fn the_limit_holds_over_all_processes(place: impl Place) {
    let limited = || place.builder().rate_limit(Rate::per_second(50));
    let (a, b) = (
        limited().build().await.unwrap(),
        limited().build().await.unwrap(),
    );
    let (work_a, mut told_a) = telling(&a, 4, |_, _| async { Ok(()) });
    let (work_b, mut told_b) = telling(&b, 4, |_, _| async { Ok(()) });
    let start = Instant::now();
    a.enqueue_batch((0..60).map(|n| job(n, n)).collect())
        .await
        .unwrap();
    let (mut by_a, mut by_b) = (0, 0);
    while by_a + by_b < 60 {
        tokio::select! {
            _ = next(&mut told_a) => by_a += 1,
            _ = next(&mut told_b) => by_b += 1,
        }
    }
    let took = start.elapsed();
    assert!(
        took >= ms(1_100) && took < secs(10),
        "{took:?} for 60 at 50/s"
    );
    drained(&a).await;
    work_a.shutdown(secs(5)).await;
    work_b.shutdown(secs(5)).await;
}

pub(crate) async fn a_pause_and_a_limit_of_one_process_are_those_of_all(place: impl Place) {
    let a = place.builder().build().await.unwrap();
    let b = place.builder().build().await.unwrap();
    let (workers, mut told) = telling(&b, 1, |_, _| async { Ok(()) });
    a.pause().await.unwrap();
    a.enqueue(job(1, 1)).await.unwrap();
    let started = tokio::time::timeout(ms(200), told.recv()).await;
    assert!(started.is_err(), "{started:?}");
    a.set_rate_limit(Rate::per_second(10)).await.unwrap();
    a.enqueue_batch((2..7).map(|n| job(n, n)).collect())
        .await
        .unwrap();
    let start = Instant::now();
    a.resume().await.unwrap();
    for _ in 0..6 {
        next(&mut told).await;
    }
    let took = start.elapsed();
    assert!(took >= ms(350) && took < secs(20), "{took:?} for 6 at 10/s");
    drained(&a).await;
    workers.shutdown(secs(5)).await;
}

pub(crate) async fn a_process_that_is_gone_loses_its_lease_and_no_job(place: impl Place) {
    let lease = || place.builder().lease(ms(600)).build();
    let (started, id) = die_with_a_job(&place).await;
    let queue = lease().await.unwrap();
    let start = Instant::now();
    let (workers, mut told) = telling(&queue, 1, |_, _| async { Ok(()) });
    let (again, cx) = next(&mut told).await;
    assert_eq!((again, cx.id(), cx.attempt()), (started, id, 2));
    assert!(start.elapsed() < secs(10), "{:?}", start.elapsed());
    drained(&queue).await;
    workers.shutdown(secs(5)).await;
}

pub(crate) async fn a_job_whose_last_process_is_gone_dies(place: impl Place) {
    let (started, id) = die_with_a_job(&place).await;
    let once = Backoff::default().max_attempts(1);
    let queue = place.builder().lease(ms(600)).retry(once).build();
    let queue = queue.await.unwrap();
    let (workers, mut told) = telling(&queue, 1, |_, _| async { Ok(()) });
    drained(&queue).await;
    assert!(told.try_recv().is_err(), "it ran again");
    let letters = queue.dead_letters().list(9).await.unwrap();
    assert_eq!((letters.len(), letters[0].id), (1, id));
    assert_eq!(letters[0].job, Ok(started));
    assert!(
        letters[0].error().contains("process"),
        "{}",
        letters[0].error()
    );
    workers.shutdown(secs(5)).await;
}

/// A job that runs in a process which is gone from one moment to the next.
async fn die_with_a_job(place: &impl Place) -> (Job, perf_queue::JobId) {
    // A runtime that ends in the middle of its job, without a word to the server.
    let dying = {
        let place = place.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            let started = runtime.block_on(async {
                let place = place.apart().await;
                let queue = place.builder().lease(ms(600)).build().await.unwrap();
                queue.enqueue(job(1, 1)).await.unwrap();
                let (workers, mut told) = telling(&queue, 1, |_, _| std::future::pending());
                let (job, cx) = next(&mut told).await;
                std::mem::forget((queue, workers));
                (job, cx.id())
            });
            runtime.shutdown_timeout(Duration::ZERO);
            started
        })
    };
    tokio::task::spawn_blocking(move || dying.join().unwrap())
        .await
        .unwrap()
}

pub(crate) async fn a_long_job_keeps_its_lease(place: impl Place) {
    let queue = place.builder().lease(secs(2)).build().await.unwrap();
    let (workers, mut told) = telling(&queue, 2, |_, _| async {
        tokio::time::sleep(secs(5)).await;
        Ok::<(), JobError>(())
    });
    queue.enqueue(job(1, 1)).await.unwrap();
    next(&mut told).await;
    drained(&queue).await;
    assert!(told.try_recv().is_err(), "it ran twice");
    workers.shutdown(secs(5)).await;
}

/// Jobs that were leased ahead of fast handlers go to another process when these become slow.
pub(crate) async fn a_process_whose_handlers_hang_keeps_no_jobs_from_others(place: impl Place) {
    const JOBS: u32 = 3_000;
    let hung = std::sync::Arc::new(tokio::sync::Notify::new());
    let build = || place.builder().build();
    let (queue, other) = (build().await.unwrap(), build().await.unwrap());
    let jobs = (0..JOBS).map(|n| job(n % 7, n)).collect();
    queue.enqueue_batch(jobs).await.unwrap();
    let release = std::sync::Arc::clone(&hung);
    let (workers, mut told) = telling(&queue, 1, move |job, _| {
        let hung = std::sync::Arc::clone(&hung);
        async move {
            if job.n == JOBS / 2 {
                hung.notified().await;
            }
            Ok(())
        }
    });
    let mut seen = 0;
    loop {
        seen += 1;
        if next(&mut told).await.0.n == JOBS / 2 {
            break;
        }
    }
    let (others, mut told) = telling(&other, 1, |_, _| async { Ok(()) });
    while seen < JOBS {
        next(&mut told).await;
        seen += 1;
    }
    release.notify_one();
    drained(&queue).await;
    workers.shutdown(secs(5)).await;
    others.shutdown(secs(5)).await;
}

/// The tests of a backend that several processes share.
macro_rules! shared {
    ($place:path) => {
        $crate::conformance::conformance! { @ $place:
            shared::{
                a_process_whose_handlers_hang_keeps_no_jobs_from_others,
                processes_share_the_jobs_in_order,
                the_limit_holds_over_all_processes,
                a_pause_and_a_limit_of_one_process_are_those_of_all,
                a_process_that_is_gone_loses_its_lease_and_no_job,
                a_job_whose_last_process_is_gone_dies,
                a_long_job_keeps_its_lease,
            }
            rates::{
                rates_by_a_closure_hold_over_all_processes,
            }
        }
    };
}
pub(crate) use shared;
