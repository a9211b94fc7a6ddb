//! Limits per key by a closure.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use perf_queue::{Backoff, EnqueueOptions, JobError, Queue, Rate};

use super::limits::started;
use super::{Job, Place, drained, job, next, telling};
use crate::support::{busiest_window, ms, secs};

/// How much later than its slot a job may start: slots come over a network, and from timers.
const LATE: Duration = Duration::from_millis(150);

/// So many in so many milliseconds. Keys from 100 on are groups.
fn rate_of(key: u32) -> (u32, u64) {
    match key {
        100.. => (4, 1_200),
        _ => (1, 400),
    }
}

fn rate(job: &Job) -> Rate {
    let (quota, period) = rate_of(job.key);
    Rate::new(quota, ms(period))
}

async fn build(place: &impl Place) -> Queue<Job> {
    let retry = Backoff::exponential(ms(1)..ms(2)).max_attempts(1);
    let builder = place.builder().rate_limit_per_key(rate).retry(retry);
    builder.build().await.unwrap()
}

fn assert_paced(key: u32, times: &[Duration]) {
    let (quota, period) = rate_of(key);
    let took = times[times.len() - 1] - times[0];
    let ideal = ms(period) * (times.len() as u32 - 1) / quota;
    assert!(took + LATE >= ideal, "{took:?} instead of {ideal:?}: {key}");
    // Slots that a busy machine misses are lost.
    assert!(took < ideal * 3, "{took:?} instead of {ideal:?}: {key}");
    // A job that starts late can crowd a window by one.
    let busiest = busiest_window(times, ms(period) - LATE);
    assert!(busiest <= quota as usize, "{busiest} in a window: {key}");
}

pub(crate) async fn keys_have_rates_of_their_own_by_a_closure(place: impl Place) {
    let queue = build(&place).await;
    let users = (0..6).map(|n| job(n % 2, n));
    let groups = (0..12).map(|n| job(100 + n % 2, n));
    queue
        .enqueue_batch(users.chain(groups).collect())
        .await
        .unwrap();
    let (workers, mut told) = telling(&queue, 4, |_, _| async { Ok(()) });
    let mut seen: HashMap<u32, Vec<Duration>> = HashMap::new();
    for _ in 0..18 {
        let (job, cx) = next(&mut told).await;
        seen.entry(job.key).or_default().push(started(&cx));
    }
    for (key, mut times) in seen {
        times.sort_unstable();
        assert_paced(key, &times);
    }
    drained(&queue).await;
    workers.shutdown(secs(5)).await;
}

pub(crate) async fn a_delayed_job_brings_the_rate_of_its_key(place: impl Place) {
    let queue = build(&place).await;
    let (workers, mut told) = telling(&queue, 2, |_, _| async { Ok(()) });
    let start = Instant::now();
    for n in 0..2 {
        let options = EnqueueOptions::new().delay(ms(50));
        queue.enqueue_with(job(1, n), options).await.unwrap();
    }
    next(&mut told).await;
    next(&mut told).await;
    let took = start.elapsed();
    assert!(took + LATE >= ms(450), "{took:?}");
    drained(&queue).await;
    workers.shutdown(secs(5)).await;
}

pub(crate) async fn a_replayed_letter_brings_the_rate_of_its_key(place: impl Place) {
    let queue = build(&place).await;
    let (workers, mut told) = telling(&queue, 2, |_, _| async { Err(JobError::retry("no")) });
    let ids = queue
        .enqueue_batch(vec![job(1, 0), job(1, 1)])
        .await
        .unwrap();
    next(&mut told).await;
    next(&mut told).await;
    drained(&queue).await;
    // Until the limit has forgotten the key.
    tokio::time::sleep(ms(900)).await;
    let start = Instant::now();
    for id in ids {
        assert!(queue.dead_letters().replay(id).await.unwrap());
    }
    next(&mut told).await;
    next(&mut told).await;
    let took = start.elapsed();
    assert!(took + LATE >= ms(400), "{took:?}");
    drained(&queue).await;
    workers.shutdown(secs(5)).await;
}

#[cfg(any(feature = "postgres", feature = "redis"))]
pub(crate) async fn rates_by_a_closure_hold_over_all_processes(place: impl Place) {
    let queues = [build(&place).await, build(&place).await];
    let mut work = Vec::new();
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let start = Instant::now();
    for queue in &queues {
        let tell = tell.clone();
        work.push(
            queue
                .workers(3, move |job: Job, _| {
                    tell.send((job.key, start.elapsed())).unwrap();
                    async { Ok(()) }
                })
                .spawn(),
        );
    }
    for n in 0..9 {
        let queue = &queues[n as usize % 2];
        let jobs = vec![job(100, n), job(101, n), job(1 + n % 3, n)];
        queue.enqueue_batch(jobs).await.unwrap();
    }
    let mut seen: HashMap<u32, Vec<Duration>> = HashMap::new();
    for _ in 0..27 {
        let (key, at) = tokio::time::timeout(super::HANGS, told.recv())
            .await
            .expect("a job starts")
            .unwrap();
        seen.entry(key).or_default().push(at);
    }
    // The handlers may be late, so nothing is said of the time between two of them.
    for (key, times) in &mut seen {
        times.sort_unstable();
        let (quota, period) = rate_of(*key);
        for (n, at) in times.iter().enumerate() {
            let slot = ms(period) * n as u32 / quota;
            assert!(*at + LATE >= slot, "{n} of {key} at {times:?}");
        }
    }
    drained(&queues[0]).await;
    for workers in work {
        workers.shutdown(secs(5)).await;
    }
}
