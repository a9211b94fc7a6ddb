//! Real threads on the real clock: what a paused clock on one thread cannot show.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use perf_queue::{Backoff, JobContext, JobError, Memory, Queue, Scope, Workers};

use crate::support::{ms, secs};

/// Long enough for a machine that does ten other things; reached only by a queue that hangs.
const HANGS: Duration = Duration::from_secs(20);

/// What became of the jobs of one key.
#[derive(Default)]
struct Seen {
    running: AtomicBool,
    /// The number of the next job that may run.
    next: AtomicU32,
    wrong: AtomicUsize,
}

/// Frees the key of a job, also when its handler is dropped at a deadline.
struct Running<'a>(&'a Seen);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.store(false, SeqCst);
    }
}

/// Runs a job that often fails, and notes jobs of its key that overlap or are out of order.
async fn handle(seen: &Seen, number: u32, cx: &JobContext) -> Result<(), JobError> {
    let overlaps = seen.running.swap(true, SeqCst);
    let _running = Running(seen);
    if overlaps || seen.next.load(SeqCst) != number {
        seen.wrong.fetch_add(1, SeqCst);
    }
    match fastrand::u32(..60) {
        0 => tokio::time::sleep(ms(fastrand::u64(..3))).await,
        1..20 => tokio::task::yield_now().await,
        _ => {}
    }
    match fastrand::u32(..40) {
        0 if cx.attempt() < 100 => return Err(JobError::retry("not now")),
        1 => return Err(JobError::retry_after(ms(fastrand::u64(..4)))),
        2 => return Err(JobError::retry_after(ms(2)).penalize(Scope::Key)),
        3 if fastrand::u32(..100) == 0 => {
            return Err(JobError::retry_after(ms(1)).penalize(Scope::Queue));
        }
        4 if cx.attempt() < 100 => std::panic::resume_unwind(Box::new("not now")),
        _ => {}
    }
    seen.next.store(number + 1, SeqCst);
    Ok(())
}

fn workers(queue: &Queue<(usize, u32)>, count: usize, keys: &Arc<Vec<Seen>>) -> Workers {
    let keys = Arc::clone(keys);
    queue
        .workers(count, move |(key, number): (usize, u32), cx| {
            let keys = Arc::clone(&keys);
            async move { handle(&keys[key], number, &cx).await }
        })
        .spawn()
}

/// Each key's jobs come from one producer, in order, through a queue that is often full, while
/// groups of workers grow, shrink, are shut down in the middle of their jobs, and are replaced.
async fn every_job_once_in_order(keys: usize, jobs: u32) {
    let queue = Queue::<(usize, u32)>::builder("q")
        .backend(Memory::bounded(2_000))
        .key(|job: &(usize, u32)| job.0)
        .concurrency_per_key(1)
        .retry(Backoff::exponential(ms(1)..ms(4)).max_attempts(u32::MAX))
        .build()
        .await
        .unwrap();
    let seen: Arc<Vec<Seen>> = Arc::new((0..keys).map(|_| Seen::default()).collect());
    let steady = workers(&queue, 6, &seen);
    let producers: Vec<_> = (0..4)
        .map(|part| {
            let queue = queue.clone();
            tokio::spawn(async move {
                for number in 0..jobs {
                    let mine = (part..keys).step_by(4).map(|key| (key, number));
                    if number % 3 == 0 {
                        for batch in mine.collect::<Vec<_>>().chunks(300) {
                            queue.enqueue_batch(batch.to_vec()).await.unwrap();
                        }
                    } else {
                        for job in mine {
                            queue.enqueue(job).await.unwrap();
                        }
                    }
                }
            })
        })
        .collect();
    let produced = Arc::new(AtomicBool::new(false));
    let trouble = tokio::spawn({
        let (queue, seen) = (queue.clone(), Arc::clone(&seen));
        let (steady, produced) = (steady.clone(), Arc::clone(&produced));
        async move {
            while !produced.load(SeqCst) {
                let passing = workers(&queue, 4, &seen);
                for count in [0, 3, 1, 6] {
                    steady.set_concurrency(count);
                    tokio::time::sleep(ms(1)).await;
                    passing.set_concurrency(6 - count);
                }
                passing.shutdown(ms(fastrand::u64(..2))).await;
            }
        }
    });
    let all = async {
        for producer in producers {
            producer.await.unwrap();
        }
        produced.store(true, SeqCst);
        trouble.await.unwrap();
        queue.drain().await.unwrap();
    };
    let ended = tokio::time::timeout(HANGS, all).await;
    let stats = queue.stats().await.unwrap();
    ended.unwrap_or_else(|_| panic!("the queue hangs: {stats:?}"));
    assert_eq!(stats.completed, keys as u64 * u64::from(jobs));
    assert_eq!((stats.died, stats.in_flight, stats.ready), (0, 0, 0));
    for (key, seen) in seen.iter().enumerate() {
        assert_eq!(seen.wrong.load(SeqCst), 0, "key {key}");
        assert_eq!(seen.next.load(SeqCst), jobs, "key {key}");
    }
    // All room has come back.
    assert!(queue.enqueue_batch(vec![(0, jobs); 2_000]).await.is_ok());
    steady.shutdown(secs(0)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_job_of_a_key_is_lost_doubled_or_out_of_order_whatever_happens_to_workers() {
    every_job_once_in_order(2_000, 10).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "takes a minute: run it in release mode"]
async fn no_job_of_a_key_is_lost_doubled_or_out_of_order_for_a_minute() {
    let (start, mut sum) = (Instant::now(), 0);
    while start.elapsed() < secs(60) {
        let (keys, jobs) = (fastrand::usize(1..5_000), fastrand::u32(5..40));
        every_job_once_in_order(keys, jobs).await;
        sum += keys * jobs as usize;
    }
    println!("{sum} jobs");
}

/// A number that is lowered and raised again while a worker is about to end must not lose that worker.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_come_back_when_their_number_goes_down_and_up_at_once() {
    let queue = Queue::<u32>::builder("q").build().await.unwrap();
    let group = queue.workers(1, |_, _| async { Ok(()) }).spawn();
    let rounds = async {
        for round in 0..20_000 {
            queue.enqueue_batch(vec![round; 8]).await.unwrap();
            for _ in 0..round % 7 {
                std::hint::spin_loop();
            }
            group.set_concurrency(0);
            group.set_concurrency(1);
            queue.drain().await.unwrap();
        }
    };
    let ended = tokio::time::timeout(HANGS, rounds).await;
    assert!(ended.is_ok(), "{:?}", queue.stats().await);
    drop(group);
}

/// Timers on the real clock, held by a worker that is often the one to be dismissed.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_timer_outlives_the_worker_that_holds_it() {
    let queue = Queue::<u32>::builder("q")
        .retry(Backoff::exponential(ms(1)..ms(8)).max_attempts(u32::MAX))
        .build()
        .await
        .unwrap();
    let start = |count| {
        queue
            .workers(count, |_, cx: JobContext| async move {
                match cx.attempt() {
                    1..6 => Err(JobError::retry("not now")),
                    _ => Ok(()),
                }
            })
            .spawn()
    };
    let steady = start(1);
    let rounds = async {
        for round in 0..300 {
            let passing = start(3);
            queue.enqueue_batch((0..4).collect()).await.unwrap();
            tokio::time::sleep(ms(round % 4)).await;
            if round % 2 == 0 {
                passing.shutdown(secs(0)).await;
            } else {
                drop(passing);
            }
            queue.drain().await.unwrap();
        }
    };
    let ended = tokio::time::timeout(HANGS, rounds).await;
    assert!(ended.is_ok(), "{:?}", queue.stats().await);
    drop(steady);
}
