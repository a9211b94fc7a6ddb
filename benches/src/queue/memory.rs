//! The queue in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use perf_queue::{Memory, Queue, QueueBackend, QueueBuilder, Rate};
use tokio::runtime::Runtime;
use tokio::sync::{Mutex, Notify, mpsc};
use tokio::task::JoinSet;

use super::{JOBS, WORKERS};
use crate::{Entry, Group};

/// Beyond what the machine can do, so that the limits cost their bookkeeping and hold nothing back.
const NO_LIMIT: Rate = Rate::new(1_000_000, Duration::from_millis(10)).burst(1_000_000);

/// A job of 100 bytes that is a no-op.
type Job = [u8; 100];

/// The groups in memory; the first is that without limits.
pub fn groups(rt: &Arc<Runtime>) -> Vec<Group> {
    vec![
        Group::new(
            format!("queue/memory/{JOBS}"),
            JOBS as u64,
            vec![
                Entry::future("ours", rt, || ours(|queue| queue)),
                Entry::future("naive", rt, naive),
                Entry::future("tokio-mpsc", rt, shared_by_batches),
                Entry::future("floor", rt, floor),
            ],
        ),
        Group::new(
            format!("queue/memory-one-by-one/{JOBS}"),
            JOBS as u64,
            vec![
                Entry::future("ours", rt, one_by_one),
                Entry::future("naive", rt, naive),
                Entry::future("floor", rt, floor),
            ],
        ),
        Group::new(
            format!("queue/memory-limits-1000-keys/{JOBS}"),
            JOBS as u64,
            vec![
                Entry::future("ours", rt, || {
                    ours(|queue| {
                        queue
                            .key(|job: &Job| u16::from_le_bytes([job[0], job[1]]))
                            .rate_limit(NO_LIMIT)
                            .rate_limit_per_key(NO_LIMIT)
                            .concurrency_per_key(1)
                    })
                }),
                Entry::future("floor", rt, floor),
            ],
        ),
    ]
}

fn jobs() -> Vec<Job> {
    (0..JOBS)
        .map(|n| {
            let mut job = [0; 100];
            job[..2].copy_from_slice(&((n % 1_000) as u16).to_le_bytes());
            job
        })
        .collect()
}

#[expect(
    clippy::expect_used,
    reason = "without a queue there is nothing to measure"
)]
async fn ours<K>(with: impl FnOnce(QueueBuilder<Job>) -> QueueBuilder<Job, K>) -> Duration
where
    Memory: QueueBackend<Job, K>,
{
    let queue = Queue::<Job>::builder("bench").backend(Memory::bounded(JOBS));
    let queue = with(queue).build().await.expect("the settings fit");
    let workers = queue.workers(WORKERS, |_, _| async { Ok(()) }).spawn();
    let jobs = jobs();
    let start = Instant::now();
    queue.enqueue_batch(jobs).await.expect("there is room");
    queue.drain().await.expect("memory does not fail");
    let took = start.elapsed();
    workers.shutdown(Duration::from_secs(1)).await;
    took
}

/// As `ours`, without a batch.
#[expect(
    clippy::expect_used,
    reason = "without a queue there is nothing to measure"
)]
async fn one_by_one() -> Duration {
    let queue = Queue::<Job>::builder("bench").backend(Memory::bounded(JOBS));
    let queue = queue.build().await.expect("the settings fit");
    let workers = queue.workers(WORKERS, |_, _| async { Ok(()) }).spawn();
    let jobs = jobs();
    let start = Instant::now();
    for job in jobs {
        queue.enqueue(job).await.expect("there is room");
    }
    queue.drain().await.expect("memory does not fail");
    let took = start.elapsed();
    workers.shutdown(Duration::from_secs(1)).await;
    took
}

/// What people write by hand: workers that share the receiver of a channel.
async fn naive() -> Duration {
    let (send, receive) = mpsc::channel::<Job>(JOBS);
    let receive = Arc::new(Mutex::new(receive));
    let done = Arc::new((AtomicUsize::new(0), Notify::new()));
    for _ in 0..WORKERS {
        let (receive, done) = (Arc::clone(&receive), Arc::clone(&done));
        tokio::spawn(async move {
            loop {
                let Some(job) = receive.lock().await.recv().await else {
                    return;
                };
                std::hint::black_box(job);
                if done.0.fetch_add(1, Ordering::Relaxed) + 1 == JOBS {
                    done.1.notify_one();
                }
            }
        });
    }
    let jobs = jobs();
    let start = Instant::now();
    for job in jobs {
        if send.send(job).await.is_err() {
            break;
        }
    }
    done.1.notified().await;
    start.elapsed()
}

/// How many jobs a worker takes while it has the receiver.
const AT_ONCE: usize = 32;

/// The cheapest way for workers to share a receiver: each takes some jobs at once.
async fn shared_by_batches() -> Duration {
    let (send, receive) = mpsc::channel::<Job>(JOBS);
    let receive = Arc::new(Mutex::new(receive));
    let mut workers = JoinSet::new();
    for _ in 0..WORKERS {
        let receive = Arc::clone(&receive);
        workers.spawn(async move {
            let mut jobs = Vec::with_capacity(AT_ONCE);
            while receive.lock().await.recv_many(&mut jobs, AT_ONCE).await > 0 {
                for job in jobs.drain(..) {
                    std::hint::black_box(job);
                }
            }
        });
    }
    let jobs = jobs();
    let start = Instant::now();
    for job in jobs {
        if send.send(job).await.is_err() {
            break;
        }
    }
    drop(send);
    while workers.join_next().await.is_some() {}
    start.elapsed()
}

/// One channel, one consumer, no queue at all.
async fn floor() -> Duration {
    let (send, mut receive) = mpsc::channel::<Job>(JOBS);
    let jobs = jobs();
    let consumer = tokio::spawn(async move {
        while let Some(job) = receive.recv().await {
            std::hint::black_box(job);
        }
    });
    let start = Instant::now();
    for job in jobs {
        if send.send(job).await.is_err() {
            break;
        }
    }
    drop(send);
    // The consumer can only fail by panicking, and it has nothing to panic about.
    let _ = consumer.await;
    start.elapsed()
}
