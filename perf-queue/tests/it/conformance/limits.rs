//! Limits, penalties and pauses.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use perf_queue::{JobContext, JobError, Rate, Scope};

use super::{Job, Place, drained, job, next, telling};
use crate::support::{busiest_window, ms, secs};

/// How much later than its slot a job may start: slots come over a network, and from timers.
const LATE: Duration = Duration::from_millis(150);

/// When a job started, counted from its enqueue: known to the worker that took it, however late the
/// test hears of it.
pub(crate) fn started(cx: &JobContext) -> Duration {
    cx.age()
}

pub(crate) async fn the_limit_over_all_is_kept_and_used(place: impl Place) {
    let queue = place.builder().rate_limit(Rate::new(50, secs(1)));
    let queue = queue.build().await.unwrap();
    let jobs: Vec<Job> = (0..75).map(|n| job(n % 5, n)).collect();
    queue.enqueue_batch(jobs).await.unwrap();
    let (workers, mut told) = telling(&queue, 4, |_, _| async { Ok(()) });
    let mut times = Vec::new();
    for _ in 0..75 {
        times.push(started(&next(&mut told).await.1));
    }
    times.sort_unstable();
    let (first, last) = (times[0], times[74]);
    let took = last - first;
    assert!(took + LATE >= ms(1_480), "{took:?} for 75 at 50/s");
    // Slots that a busy machine misses are lost.
    assert!(took <= ms(1_480) * 3, "{took:?} for 75 at 50/s");
    // A job that starts late can crowd a window by the starts of that time.
    let busiest = busiest_window(&times, secs(1));
    assert!(busiest <= 55, "{busiest} in a second");
    drained(&queue).await;
    workers.shutdown(secs(5)).await;
}

pub(crate) async fn the_limit_of_a_key_holds_up_no_other_key(place: impl Place) {
    let queue = place.builder().rate_limit_per_key(Rate::new(4, secs(4)));
    let queue = queue.build().await.unwrap();
    let slow = (0..4).map(|n| job(1, n));
    let others = (2..52).map(|key| job(key, 0));
    queue
        .enqueue_batch(slow.chain(others).collect())
        .await
        .unwrap();
    let (workers, mut told) = telling(&queue, 2, |_, _| async { Ok(()) });
    let (mut slow, mut others) = (Vec::new(), Duration::ZERO);
    for _ in 0..54 {
        let (job, cx) = next(&mut told).await;
        let started = started(&cx);
        if job.key == 1 {
            slow.push(started);
        } else {
            others = others.max(started);
        }
    }
    slow.sort_unstable();
    assert!(others < slow[2], "others waited {others:?} beside {slow:?}");
    let took = slow[3] - slow[0];
    assert!(
        took + LATE >= secs(3) && took < secs(9),
        "{took:?} for 4 at 1/s"
    );
    drained(&queue).await;
    workers.shutdown(secs(5)).await;
}

pub(crate) async fn concurrency_per_key_is_never_exceeded(place: impl Place) {
    let queue = place
        .builder()
        .concurrency_per_key(2)
        .build()
        .await
        .unwrap();
    let jobs: Vec<Job> = (0..60).map(|n| job(n % 3, n)).collect();
    queue.enqueue_batch(jobs).await.unwrap();
    let running: Arc<[AtomicU32; 3]> = Arc::default();
    let most = Arc::new(AtomicU32::new(0));
    let (workers, mut told) = {
        let (running, most) = (Arc::clone(&running), Arc::clone(&most));
        telling(&queue, 12, move |job, _| {
            let (running, most) = (Arc::clone(&running), Arc::clone(&most));
            async move {
                let key = &running[job.key as usize];
                most.fetch_max(key.fetch_add(1, SeqCst) + 1, SeqCst);
                tokio::time::sleep(ms(2)).await;
                key.fetch_sub(1, SeqCst);
                Ok(())
            }
        })
    };
    for _ in 0..60 {
        next(&mut told).await;
    }
    drained(&queue).await;
    assert_eq!(most.load(SeqCst), 2, "and both places are used");
    workers.shutdown(secs(5)).await;
}

pub(crate) async fn a_penalty_stops_its_key_alone(place: impl Place) {
    penalty(place, Scope::Key).await;
}

pub(crate) async fn a_penalty_stops_the_queue(place: impl Place) {
    penalty(place, Scope::Queue).await;
}

async fn penalty(place: impl Place, scope: Scope) {
    const WAIT: Duration = Duration::from_millis(2_500);
    let queue = place.builder().build().await.unwrap();
    let refused = AtomicBool::new(false);
    let (workers, mut told) = telling(&queue, 1, move |job, _| {
        let refuse = job.n == 1 && !refused.swap(true, SeqCst);
        async move {
            if refuse {
                return Err(JobError::retry_after(WAIT).penalize(scope));
            }
            Ok(())
        }
    });
    queue.enqueue(job(1, 1)).await.unwrap();
    let start = Instant::now();
    assert_eq!(next(&mut told).await.0, job(1, 1));
    // The verdict is on its way.
    while queue.stats().await.unwrap().in_flight > 0 {
        tokio::task::yield_now().await;
    }
    queue
        .enqueue_batch(vec![job(1, 2), job(2, 3)])
        .await
        .unwrap();
    let mut seen = Vec::new();
    for _ in 0..3 {
        let (job, cx) = next(&mut told).await;
        assert_eq!(cx.attempt(), 1, "a snooze is no attempt");
        seen.push((job.n, start.elapsed()));
    }
    let at = |n| seen.iter().find(|(m, _)| *m == n).unwrap().1;
    // By the clock of the backend, in milliseconds.
    let wait = WAIT - ms(20);
    assert!(at(1) >= wait && at(2) >= wait, "{seen:?}");
    match scope {
        Scope::Key => assert!(at(3) < wait, "{seen:?}"),
        Scope::Queue => assert!(at(3) >= wait, "{seen:?}"),
    }
    drained(&queue).await;
    workers.shutdown(secs(5)).await;
}

/// Jobs that a process has at hand already wait, too.
pub(crate) async fn a_penalty_stops_a_queue_that_is_running_fast(place: impl Place) {
    const WAIT: Duration = Duration::from_millis(700);
    let queue = place.builder().build().await.unwrap();
    let jobs = (0..2_000).map(|n| job(n % 7, n)).collect();
    queue.enqueue_batch(jobs).await.unwrap();
    let (count, refused) = (AtomicU32::new(0), Arc::new(OnceLock::new()));
    let refused_at = Arc::clone(&refused);
    let (workers, mut told) = telling(&queue, 1, move |_, _| {
        let refuse = count.fetch_add(1, SeqCst) == 1_500;
        if refuse {
            refused_at.set(Instant::now()).unwrap();
        }
        async move {
            if refuse {
                return Err(JobError::retry_after(WAIT).penalize(Scope::Queue));
            }
            Ok(())
        }
    });
    for n in 0..=2_000 {
        next(&mut told).await;
        if n == 1_501 {
            let waited = refused.get().unwrap().elapsed();
            // By the clock of the backend, in milliseconds.
            assert!(waited >= WAIT - ms(20), "{waited:?}");
        }
    }
    drained(&queue).await;
    workers.shutdown(secs(5)).await;
}

pub(crate) async fn nothing_starts_once_a_running_queue_is_paused(place: impl Place) {
    let queue = place.builder().build().await.unwrap();
    let jobs = (0..5_000).map(|n| job(n % 7, n)).collect();
    queue.enqueue_batch(jobs).await.unwrap();
    let (workers, mut told) = telling(&queue, 1, |_, _| async { Ok(()) });
    for _ in 0..500 {
        next(&mut told).await;
    }
    queue.pause().await.unwrap();
    let mut started = 500;
    while told.try_recv().is_ok() {
        started += 1;
    }
    let before = started;
    while tokio::time::timeout(ms(200), told.recv()).await.is_ok() {
        started += 1;
    }
    // The worker may have had one that it was about to start.
    assert!(started - before <= 1, "{before} of {started}");
    queue.resume().await.unwrap();
    for _ in started..5_000 {
        next(&mut told).await;
    }
    drained(&queue).await;
    workers.shutdown(secs(5)).await;
}

pub(crate) async fn nothing_starts_while_paused(place: impl Place) {
    let queue = place.builder().build().await.unwrap();
    queue.pause().await.unwrap();
    let (workers, mut told) = telling(&queue, 2, |_, _| async { Ok(()) });
    queue.enqueue(job(1, 1)).await.unwrap();
    assert!(queue.stats().await.unwrap().paused);
    let started = tokio::time::timeout(ms(200), told.recv()).await;
    assert!(started.is_err(), "{started:?}");
    queue.resume().await.unwrap();
    next(&mut told).await;
    assert!(!queue.stats().await.unwrap().paused);
    drained(&queue).await;
    workers.shutdown(secs(5)).await;
}

pub(crate) async fn limits_change_while_running(place: impl Place) {
    let queue = place.builder().rate_limit(Rate::new(1, secs(3_600)));
    let queue = queue.build().await.unwrap();
    let jobs: Vec<Job> = (0..30).map(|n| job(n, n)).collect();
    queue.enqueue_batch(jobs).await.unwrap();
    let (workers, mut told) = telling(&queue, 2, |_, _| async { Ok(()) });
    next(&mut told).await;
    let started = tokio::time::timeout(ms(150), told.recv()).await;
    assert!(started.is_err(), "{started:?}");
    let stats = queue.stats().await.unwrap();
    assert_eq!(stats.rate_limit, Some(Rate::new(1, secs(3_600))));
    assert_eq!(
        (stats.rate_limit_per_key, stats.concurrency_per_key),
        (None, None)
    );
    // The new one may be used before this is told that it is set.
    let start = Instant::now();
    queue.set_rate_limit(Rate::per_second(100)).await.unwrap();
    let stats = queue.stats().await.unwrap();
    assert_eq!(stats.rate_limit, Some(Rate::per_second(100)));
    for _ in 0..19 {
        next(&mut told).await;
    }
    let took = start.elapsed();
    assert!(
        took >= ms(120) && took < secs(20),
        "{took:?} for 19 at 100/s"
    );
    queue.set_rate_limit(None).await.unwrap();
    let slow = Rate::new(3, ms(300)).burst(2);
    queue.set_rate_limit_per_key(slow).await.unwrap();
    let stats = queue.stats().await.unwrap();
    assert_eq!(
        (stats.rate_limit, stats.rate_limit_per_key),
        (None, Some(slow))
    );
    for _ in 0..10 {
        next(&mut told).await;
    }
    drained(&queue).await;
    workers.shutdown(secs(5)).await;
}
