//! Where jobs outlive the handles of their queue.

use std::time::Duration;

use perf_queue::{
    Backoff, BuildError, EnqueueError, EnqueueOptions, JobError, Queue, QueueBackend, QueueBuilder,
    Rate, Scope,
};

use super::{HANGS, Job, Place, drained, job, next, telling};
use crate::support::{ms, secs};

/// Builds the queue, as soon as those that had it before have let go of it.
async fn build<T, K, B>(builder: impl Fn() -> QueueBuilder<T, K, B>) -> Queue<T>
where
    T: Send + 'static,
    B: QueueBackend<T, K>,
{
    let start = std::time::Instant::now();
    loop {
        match builder().build().await {
            Ok(queue) => return queue,
            Err(BuildError::Backend(_)) if start.elapsed() < HANGS => {
                tokio::task::yield_now().await;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

async fn reopen(place: &impl Place) -> Queue<Job> {
    let retry = Backoff::exponential(ms(1)..ms(2)).max_attempts(3);
    build(|| {
        let builder = place.builder().concurrency_per_key(1);
        builder.retry(retry.clone())
    })
    .await
}

/// Runs the queue's first job, which says this, and lets go of the queue.
async fn say_and_drop(queue: Queue<Job>, said: fn() -> JobError) {
    let (workers, mut told) = telling(&queue, 1, move |job, _| async move {
        match job.n {
            0 => Err(said()),
            _ => Ok(()),
        }
    });
    assert_eq!(next(&mut told).await.0.n, 0);
    while queue.stats().await.unwrap().in_flight > 0 {
        tokio::task::yield_now().await;
    }
    workers.shutdown(secs(5)).await;
}

pub(crate) async fn a_retry_blocks_its_key_after_a_restart_too<P: Place>(place: P) {
    let one_by_one = || {
        let retry = Backoff::exponential(secs(60)..secs(60));
        place.builder().concurrency_per_key(1).retry(retry)
    };
    let queue = build(one_by_one).await;
    let jobs = vec![job(1, 0), job(1, 1), job(1, 2)];
    queue.enqueue_batch(jobs).await.unwrap();
    // It is said after this.
    let start = std::time::Instant::now();
    say_and_drop(queue, || JobError::retry_after(secs(4))).await;
    let queue = build(one_by_one).await;
    queue.enqueue(job(2, 9)).await.unwrap();
    let (workers, mut told) = telling(&queue, 2, |_, _| async { Ok(()) });
    assert_eq!(next(&mut told).await.0, job(2, 9), "another key's");
    assert_eq!(next(&mut told).await.0, job(1, 0));
    assert!(start.elapsed() > ms(3_980), "{:?}", start.elapsed());
    assert_eq!(next(&mut told).await.0, job(1, 1));
    assert_eq!(next(&mut told).await.0, job(1, 2));
    drained(&queue).await;
    workers.shutdown(secs(5)).await;
}

pub(crate) async fn a_penalty_of_the_queue_outlives_it<P: Place>(place: P) {
    let queue = build(|| place.builder()).await;
    queue.enqueue_batch(vec![job(1, 0)]).await.unwrap();
    let said = || JobError::retry_after(secs(2)).penalize(Scope::Queue);
    // It is said after this.
    let start = std::time::Instant::now();
    say_and_drop(queue, said).await;
    let queue = build(|| place.builder()).await;
    queue.enqueue(job(2, 9)).await.unwrap();
    let (workers, mut told) = telling(&queue, 2, |_, _| async { Ok(()) });
    for _ in 0..2 {
        next(&mut told).await;
        assert!(start.elapsed() > ms(1_980), "{:?}", start.elapsed());
    }
    drained(&queue).await;
    workers.shutdown(secs(5)).await;
}

pub(crate) async fn limits_and_a_pause_outlive_their_queue<P: Place>(place: P) {
    let queue = build(|| place.builder().rate_limit(Rate::per_second(500))).await;
    let never = Rate::new(1, secs(3_600));
    queue.set_rate_limit_per_key(never).await.unwrap();
    queue.pause().await.unwrap();
    let jobs = vec![job(1, 0), job(1, 1)];
    queue.enqueue_batch(jobs).await.unwrap();
    drop(queue);

    let queue = build(|| place.builder()).await;
    assert!(queue.stats().await.unwrap().paused);
    let (workers, mut told) = telling(&queue, 2, |_, _| async { Ok(()) });
    let started = tokio::time::timeout(ms(200), told.recv()).await;
    assert!(started.is_err(), "while paused: {started:?}");
    queue.resume().await.unwrap();
    assert_eq!(next(&mut told).await.0, job(1, 0));
    let started = tokio::time::timeout(ms(200), told.recv()).await;
    assert!(started.is_err(), "above the limit: {started:?}");
    workers.shutdown(secs(5)).await;
    drop((queue, workers));

    // Who names other limits than the last builder sets them.
    let queue = build(|| place.builder().rate_limit_per_key(Rate::per_second(500))).await;
    assert!(!queue.stats().await.unwrap().paused);
    // One, as of two the second may be the first to tell.
    let (workers, mut told) = telling(&queue, 1, |_, _| async { Ok(()) });
    queue.enqueue(job(1, 2)).await.unwrap();
    assert_eq!(next(&mut told).await.0, job(1, 1));
    assert_eq!(next(&mut told).await.0, job(1, 2));
    drained(&queue).await;
    workers.shutdown(secs(5)).await;
}

pub(crate) async fn what_was_set_stays_until_the_code_changes<P: Place>(place: P) {
    let never = Rate::new(1, secs(3_600));
    let code = || place.builder().rate_limit(never).concurrency_per_key(3);
    // One of the limits that it was built with, and one that it was not.
    let queue = build(code).await;
    queue.set_rate_limit(Rate::per_second(900)).await.unwrap();
    queue.set_rate_limit_per_key(never).await.unwrap();
    drop(queue);
    let queue = build(code).await;
    let jobs = vec![job(1, 0), job(2, 0), job(1, 1)];
    queue.enqueue_batch(jobs).await.unwrap();
    let (workers, mut told) = telling(&queue, 3, |_, _| async { Ok(()) });
    let mut first = [next(&mut told).await.0, next(&mut told).await.0];
    first.sort_by_key(|job| job.key);
    assert_eq!(first, [job(1, 0), job(2, 0)], "more than one in an hour");
    let more = tokio::time::timeout(ms(200), told.recv()).await;
    assert!(more.is_err(), "above the limit of its key: {more:?}");
    workers.shutdown(secs(5)).await;
    drop((queue, workers, told));
    // What changes in the code takes effect, and nothing else does.
    let code = || place.builder().rate_limit(never).concurrency_per_key(2);
    let queue = build(code).await;
    let jobs = vec![job(3, 0), job(3, 1)];
    queue.enqueue_batch(jobs).await.unwrap();
    let (workers, mut told) = telling(&queue, 3, |_, _| async { Ok(()) });
    while next(&mut told).await.0 != job(3, 0) {}
    while let Ok(more) = tokio::time::timeout(ms(200), told.recv()).await {
        assert_ne!(more.map(|told| told.0), Some(job(3, 1)));
    }
    workers.shutdown(secs(5)).await;
    drop((queue, workers, told));
    let queue = build(|| code().rate_limit_per_key(Rate::per_second(500))).await;
    let (workers, mut told) = telling(&queue, 3, |_, _| async { Ok(()) });
    while next(&mut told).await.0 != job(3, 1) {}
    drained(&queue).await;
    workers.shutdown(secs(5)).await;
}

pub(crate) async fn jobs_survive_their_queue(place: impl Place) {
    let queue = reopen(&place).await;
    for n in 0..20 {
        let options = EnqueueOptions::new().trace(format!("trace {n}"));
        queue.enqueue_with(job(n % 2, n), options).await.unwrap();
    }
    let (workers, mut told) = telling(&queue, 1, |job, _| async move {
        match job.n {
            0 | 1 => Ok(()),
            _ => std::future::pending().await,
        }
    });
    for _ in 0..3 {
        next(&mut told).await;
    }
    let drain = workers.shutdown(Duration::ZERO).await;
    assert_eq!(drain.released, 1);
    drop((queue, workers, told));

    let queue = reopen(&place).await;
    assert_eq!(queue.stats().await.unwrap().in_flight, 0);
    let (workers, mut told) = telling(&queue, 4, |_, _| async { Ok(()) });
    let mut seen = [Vec::new(), Vec::new()];
    for _ in 2..20 {
        let (job, cx) = next(&mut told).await;
        assert_eq!(cx.attempt(), 1);
        assert_eq!(cx.trace(), Some(format!("trace {}", job.n).as_str()));
        seen[job.key as usize].push(job.n);
    }
    assert!(seen.iter().all(|numbers| numbers.is_sorted()), "{seen:?}");
    drained(&queue).await;
    workers.shutdown(secs(5)).await;
}

pub(crate) async fn dead_letters_and_attempts_survive_their_queue(place: impl Place) {
    let queue = reopen(&place).await;
    let (workers, mut told) = telling(&queue, 1, |_, cx| async move {
        Err(JobError::retry(format!("error {}", cx.attempt())))
    });
    let id = queue.enqueue(job(1, 1)).await.unwrap();
    for _ in 0..3 {
        next(&mut told).await;
    }
    drained(&queue).await;
    workers.shutdown(secs(5)).await;
    drop((queue, workers, told));
    let queue = reopen(&place).await;
    let letters = queue.dead_letters().list(9).await.unwrap();
    assert_eq!(
        (letters.len(), letters[0].id, letters[0].attempts),
        (1, id, 3)
    );
    assert_eq!(letters[0].errors, ["error 1", "error 2", "error 3"]);
}

pub(crate) async fn what_is_no_job_goes_to_the_dead_letters<P: Place>(place: P)
where
    P::Backend: QueueBackend<String, ()>,
{
    let strings = Queue::<String>::builder("q").backend(place.backend(100));
    let strings = strings.build().await.unwrap();
    let id = strings.enqueue("no job".to_owned()).await.unwrap();
    drop(strings);
    let queue = reopen(&place).await;
    queue.enqueue(job(1, 1)).await.unwrap();
    let (workers, mut told) = telling(&queue, 1, |_, _| async { Ok(()) });
    assert_eq!(next(&mut told).await.0, job(1, 1));
    drained(&queue).await;
    let letters = queue.dead_letters().list(9).await.unwrap();
    assert_eq!((letters.len(), letters[0].id), (1, id));
    let undecodable = letters[0].job.clone().unwrap_err();
    assert_eq!(undecodable.payload, b"\"no job\"");
    workers.shutdown(secs(5)).await;
}

/// A type that panics over some bytes, as one with an `unwrap` in its conversion does.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
#[serde(from = "String")]
pub(crate) struct Picky(String);

impl From<String> for Picky {
    fn from(text: String) -> Self {
        assert_ne!(text, "bad");
        Self(text)
    }
}

pub(crate) async fn a_job_whose_decoding_panics_goes_to_the_dead_letters<P: Place>(place: P)
where
    P::Backend: QueueBackend<String, ()> + QueueBackend<Picky, ()>,
{
    let strings = Queue::<String>::builder("q").backend(place.backend(100));
    let strings = strings.build().await.unwrap();
    let id = strings.enqueue("bad".to_owned()).await.unwrap();
    strings.enqueue("good".to_owned()).await.unwrap();
    drop(strings);
    let picky = build(|| Queue::<Picky>::builder("q").backend(place.backend(100))).await;
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let workers = picky.workers(1, move |job: Picky, _| {
        let _ = tell.send(job.0);
        async { Ok(()) }
    });
    let workers = workers.spawn();
    let ran = tokio::time::timeout(HANGS, told.recv()).await;
    assert_eq!(ran.expect("the other one runs").unwrap(), "good");
    tokio::time::timeout(HANGS, picky.drain())
        .await
        .unwrap()
        .unwrap();
    let letters = picky.dead_letters().list(9).await.unwrap();
    assert_eq!((letters.len(), letters[0].id), (1, id));
    assert_eq!(letters[0].job.as_ref().unwrap_err().payload, b"\"bad\"");
    workers.shutdown(secs(5)).await;
}

pub(crate) async fn a_job_that_is_too_large_comes_back<P: Place>(place: P)
where
    P::Backend: QueueBackend<String, ()>,
{
    let queue = Queue::<String>::builder("q").backend(place.backend(100));
    let queue = queue.max_payload(100).build().await.unwrap();
    match queue.enqueue("x".repeat(99)).await {
        Err(EnqueueError::PayloadTooLarge {
            job,
            size: 101,
            max: 100,
        }) => assert_eq!(job.len(), 99),
        other => panic!("{other:?}"),
    }
    queue.enqueue("x".repeat(98)).await.unwrap();
}

/// The tests of a backend that keeps bytes.
macro_rules! durable {
    ($place:path) => {
        $crate::conformance::conformance! { @ $place:
            durable::{
                jobs_survive_their_queue,
                a_retry_blocks_its_key_after_a_restart_too,
                a_penalty_of_the_queue_outlives_it,
                limits_and_a_pause_outlive_their_queue,
                what_was_set_stays_until_the_code_changes,
                dead_letters_and_attempts_survive_their_queue,
                what_is_no_job_goes_to_the_dead_letters,
                a_job_whose_decoding_panics_goes_to_the_dead_letters,
                a_job_that_is_too_large_comes_back,
            }
        }
    };
}
pub(crate) use durable;
