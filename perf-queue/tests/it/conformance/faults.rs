//! What Jepsen's total queue asks: of what was acknowledged nothing is lost, and nothing comes out that
//! did not go in; here also that each key's jobs first run in their order.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use perf_queue::{EnqueueError, EnqueueOptions, Queue};

use super::{Job, Place, job};
use crate::support::{ms, secs};

/// Long enough for a server that restarts again and again.
const HANGS: Duration = Duration::from_secs(120);

const KEYS: u32 = 8;

/// Enqueues jobs and works them off for as long as `faults` runs, and checks the sum.
pub(crate) async fn nothing_is_lost(place: impl Place, faults: impl Future<Output = ()>) {
    // Two handles that know nothing of each other, as in two processes.
    let build = || {
        let queue = place.builder().lease(secs(2)).concurrency_per_key(1);
        queue.build()
    };
    let (queue, other) = (build().await.unwrap(), build().await.unwrap());
    let seen: Arc<Mutex<Vec<Job>>> = Arc::default();
    let work = |queue: &Queue<Job>| {
        let seen = Arc::clone(&seen);
        let handle = move |job: Job, _| {
            let seen = Arc::clone(&seen);
            async move {
                tokio::time::sleep(ms(1)).await;
                seen.lock().unwrap().push(job);
                Ok(())
            }
        };
        queue.workers(4, handle).spawn()
    };
    let workers = [work(&queue), work(&other)];
    let done = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let producer = tokio::spawn(produce(queue.clone(), Arc::clone(&done)));
    faults.await;
    done.store(true, std::sync::atomic::Ordering::SeqCst);
    let added = producer.await.unwrap();
    let drained = async {
        while let Err(error) = queue.drain().await {
            assert!(error.is_retryable(), "{error}");
        }
    };
    tokio::time::timeout(HANGS, drained)
        .await
        .expect("what is in the queue runs");
    for workers in workers {
        workers.shutdown(secs(10)).await;
    }
    check(added, &seen.lock().unwrap());
}

/// Jobs that are enqueued at least, however slow the machine is.
const AT_LEAST: u32 = 100;

/// Enqueues jobs until it is told to stop; returns how many.
async fn produce(queue: Queue<Job>, done: Arc<std::sync::atomic::AtomicBool>) -> u32 {
    let mut n = 0;
    while n < AT_LEAST || !done.load(std::sync::atomic::Ordering::SeqCst) {
        let mut next = job(n % KEYS, n);
        loop {
            // Where the answer is lost, a second try must not add it twice.
            let once = EnqueueOptions::new().unique(format!("job {n}"), secs(3_600));
            match queue.enqueue_with(next, once).await {
                Ok(_) => break,
                Err(EnqueueError::Backend { job, source }) => {
                    assert!(source.is_retryable(), "{source}");
                    next = job;
                }
                Err(error) => panic!("{error}"),
            }
        }
        n += 1;
        tokio::task::yield_now().await;
    }
    n
}

fn check(added: u32, seen: &[Job]) {
    let mut times: HashMap<&Job, u32> = HashMap::new();
    let mut last: HashMap<u32, u32> = HashMap::new();
    for job in seen {
        let times = times.entry(job).or_default();
        *times += 1;
        if *times == 1 {
            // The first run of each; a second one may come late.
            let before = last.insert(job.key, job.n);
            assert!(before < Some(job.n), "{job:?} ran first after {before:?}");
        }
    }
    let lost: Vec<u32> = (0..added)
        .filter(|n| !times.contains_key(&job(n % KEYS, *n)))
        .collect();
    assert!(lost.is_empty(), "lost of {added}: {lost:?}");
    assert_eq!(times.len(), added as usize, "some that were not enqueued");
    let twice = seen.len() - times.len();
    println!("{added} jobs, {twice} runs more than once");
    // Those that ran, or waited to run, when a fault came.
    assert!(twice < added as usize, "{twice} of {added}");
}
