//! What tests of applications use.

use perf_queue::testing::{self, Bounds, Captured, Outcome};
use perf_queue::{Backoff, EnqueueOptions, JobError, Memory, Queue, Rate, Scope, TryEnqueueError};

use crate::support::{Log, ms, secs};

#[tokio::test(start_paused = true)]
async fn what_was_enqueued_is_captured_with_its_options() {
    let captured = Captured::new();
    let queue = Queue::builder("q")
        .backend(captured.clone())
        .key(|job: &(u32, &str)| job.0)
        .build()
        .await
        .unwrap();
    let id = queue.enqueue((1, "plain")).await.unwrap();
    let options = EnqueueOptions::new()
        .delay(secs(5))
        .priority(3)
        .unique("name", secs(60))
        .trace("00-1");
    let with = queue.enqueue_with((2, "with"), options.clone()).await;
    let with = with.unwrap();
    let again = queue.enqueue_with((2, "with"), options).await.unwrap();
    assert_eq!(again, with, "the name is taken");
    queue.enqueue_batch(vec![(3, "a"), (3, "b")]).await.unwrap();
    let jobs = captured.jobs();
    let texts: Vec<_> = jobs.iter().map(|job| (job.key, job.job.1)).collect();
    assert_eq!(texts, [(1, "plain"), (2, "with"), (3, "a"), (3, "b")]);
    assert_eq!((jobs[0].id, jobs[0].delay), (id, ms(0)));
    assert_eq!((&jobs[0].unique, jobs[0].priority), (&None, 0));
    let one = &jobs[1];
    assert_eq!((one.id, one.delay, one.priority), (with, secs(5), 3));
    assert_eq!(one.unique, Some(("name".to_owned(), secs(60))));
    assert_eq!(one.trace.as_deref(), Some("00-1"));
    assert_eq!(captured.take().len(), 4);
    assert_eq!(captured.jobs(), []);
    let stats = queue.stats().await.unwrap();
    assert_eq!(
        (stats.ready, stats.scheduled),
        (3, 1),
        "they are still there"
    );
}

#[tokio::test(start_paused = true)]
async fn a_job_that_was_not_enqueued_is_not_captured() {
    let captured = Captured::<u32>::on(Memory::bounded(1));
    let queue = Queue::builder("q").backend(captured.clone());
    let queue = queue.build().await.unwrap();
    queue.enqueue(1).await.unwrap();
    let full = queue.try_enqueue(2).await;
    assert!(matches!(full, Err(TryEnqueueError::Full(2))));
    queue.close();
    assert!(queue.enqueue(3).await.is_err());
    assert_eq!(captured.jobs().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_queue_runs_until_idle_through_delays_limits_and_retries() {
    let start = std::time::Instant::now();
    let captured = Captured::new();
    let queue = Queue::builder("q")
        .backend(captured.clone())
        .key(|job: &u32| *job)
        .rate_limit_per_key(Rate::per_minute(1))
        .retry(Backoff::exponential(secs(600)..secs(600)).max_attempts(2))
        .build()
        .await
        .unwrap();
    let week = EnqueueOptions::new().delay(secs(7 * 86_400));
    queue.enqueue_with(1, week).await.unwrap();
    queue.enqueue_batch(vec![2, 2, 3, 4, 5]).await.unwrap();
    let log = Log::new();
    let run = {
        let (log, queue) = (log.clone(), queue.clone());
        testing::run_until_idle(&queue.clone(), move |job, cx| {
            log.add((job, cx.attempt()));
            let queue = queue.clone();
            async move {
                match job {
                    1 => {
                        queue.enqueue(9).await.unwrap();
                        Ok(())
                    }
                    3 => Err(JobError::retry("no")),
                    4 if cx.age() < secs(30) => Err(JobError::retry_after(secs(40))),
                    5 => Err(JobError::discard("blocked")),
                    _ => Ok(()),
                }
            }
        })
        .await
    };
    assert!(run.idle);
    assert_eq!((run.completed, run.retried, run.died), (5, 1, 1));
    assert_eq!((run.snoozed, run.discarded), (1, 1), "{:?}", log.values());
    assert!(run.took >= secs(7 * 86_400), "{:?}", run.took);
    assert_eq!(log.values().last(), Some(&(9, 1)), "enqueued meanwhile");
    let dead = queue.dead_letters().list(9).await.unwrap();
    assert_eq!((dead[0].job.clone(), dead[0].error()), (Ok(3), "no"));
    assert!(start.elapsed() < secs(20), "in no time");
}

#[tokio::test(start_paused = true)]
async fn a_run_ends_at_its_bounds_and_gives_back_what_it_has() {
    let queue = Queue::<u32>::builder("q").build().await.unwrap();
    queue.enqueue_batch(vec![1, 2, 3]).await.unwrap();
    let bounds = Bounds::new().runs(2);
    let run = testing::run_within(&queue, bounds, |_, _| async { Ok(()) }).await;
    assert_eq!((run.idle, run.completed), (false, 2));
    assert_eq!(queue.stats().await.unwrap().ready, 1);

    let bounds = Bounds::new().time(secs(60));
    let run = testing::run_within(&queue, bounds, |_, _| async {
        Err(JobError::retry_after(secs(25)))
    })
    .await;
    assert_eq!((run.idle, run.snoozed, run.took), (false, 3, secs(60)));
    assert_eq!(queue.stats().await.unwrap().scheduled, 1);

    let run = testing::run_within(&queue, bounds, |_, _| std::future::pending()).await;
    assert_eq!((run.idle, run.completed, run.took), (false, 0, secs(60)));
    let run = testing::run_until_idle(&queue, |_, cx| async move {
        assert_eq!(cx.attempt(), 1, "given back as if it had not started");
        Ok(())
    })
    .await;
    assert_eq!((run.idle, run.completed), (true, 1));
}

#[test]
fn a_handler_is_called_without_a_queue() {
    let outcome = |result| Outcome::of(result);
    assert_eq!(testing::context(3).attempt(), 3);
    assert_eq!(outcome(Ok(())), Outcome::Completed);
    let failed = std::io::Error::other("no route");
    let failed = outcome(Err(failed.into()));
    assert_eq!(failed, Outcome::Retry("no route".to_owned()));
    let penalty = JobError::retry_after(secs(7)).penalize(Scope::Queue);
    assert_eq!(
        format!("{:?}", outcome(Err(penalty))),
        "RetryAfter { wait: 7s, penalty: Some(Queue) }"
    );
    let discarded = outcome(Err(JobError::discard("blocked")));
    assert_eq!(discarded, Outcome::Discard("blocked".to_owned()));
}
