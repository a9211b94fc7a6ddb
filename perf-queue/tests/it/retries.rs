use std::time::Duration;

use perf_queue::{Backoff, JobError, Memory, Queue, ReplayError, Scope};

use crate::support::{Log, ms, secs};

fn fixed(attempts: u32) -> Backoff {
    Backoff::exponential(Duration::ZERO..Duration::ZERO).max_attempts(attempts)
}

#[tokio::test(start_paused = true)]
async fn a_failed_job_is_retried_with_growing_waits_and_then_dies() {
    let queue = Queue::<&str>::builder("q")
        .retry(Backoff::exponential(secs(1)..secs(60)).max_attempts(4))
        .build()
        .await
        .unwrap();
    let log = Log::new();
    let workers = queue
        .workers(1, {
            let log = log.clone();
            move |_, cx| {
                log.add((cx.id(), cx.attempt()));
                async { Err(JobError::retry(std::io::Error::other("no route"))) }
            }
        })
        .spawn();
    let id = queue.enqueue("job").await.unwrap();
    queue.drain().await.unwrap();
    assert_eq!(log.values(), [(id, 1), (id, 2), (id, 3), (id, 4)]);
    let times = log.times();
    for (n, pair) in times.windows(2).enumerate() {
        let wait = pair[1] - pair[0];
        assert!(wait <= secs(1 << n) + ms(1), "wait {n} is {wait:?}");
    }
    let dead = queue.dead_letters().list(10).await.unwrap();
    assert_eq!(dead.len(), 1);
    assert_eq!(
        (dead[0].id, dead[0].job.clone(), dead[0].attempts),
        (id, Ok("job"), 4)
    );
    assert_eq!(dead[0].error(), "no route");
    let stats = queue.stats().await.unwrap();
    assert_eq!((stats.retried, stats.died, stats.dead), (3, 1, 1));
    assert_eq!((stats.scheduled, stats.in_flight), (0, 0));
    drop(workers);
}

#[tokio::test(start_paused = true)]
async fn a_retry_blocks_its_key_where_order_matters() {
    let queue = Queue::<(char, u32)>::builder("q")
        .key(|job: &(char, u32)| job.0)
        .concurrency_per_key(1)
        .retry(Backoff::exponential(secs(10)..secs(10)))
        .build()
        .await
        .unwrap();
    let log = Log::new();
    let workers = queue
        .workers(4, {
            let log = log.clone();
            move |job, cx| {
                let log = log.clone();
                async move {
                    if job == ('a', 0) && cx.attempt() < 3 {
                        return Err(JobError::retry("not yet"));
                    }
                    log.add(job);
                    Ok(())
                }
            }
        })
        .spawn();
    let jobs = vec![('a', 0), ('a', 1), ('b', 0), ('b', 1)];
    queue.enqueue_batch(jobs).await.unwrap();
    queue.drain().await.unwrap();
    assert_eq!(log.values(), [('b', 0), ('b', 1), ('a', 0), ('a', 1)]);
    drop(workers);
}

#[tokio::test(start_paused = true)]
async fn a_retry_steps_aside_where_jobs_run_side_by_side() {
    let queue = Queue::<u32>::builder("q")
        .retry(Backoff::exponential(secs(1)..secs(1)))
        .build()
        .await
        .unwrap();
    let log = Log::new();
    let workers = queue
        .workers(1, {
            let log = log.clone();
            move |job, cx| {
                let log = log.clone();
                async move {
                    if job == 0 && cx.attempt() == 1 {
                        return Err(JobError::retry("not yet"));
                    }
                    tokio::time::sleep(ms(1)).await;
                    log.add(job);
                    Ok(())
                }
            }
        })
        .spawn();
    queue.enqueue_batch((0..4).collect()).await.unwrap();
    queue.drain().await.unwrap();
    let mut values = log.values();
    assert_ne!(values[0], 0);
    values.sort_unstable();
    assert_eq!(values, [0, 1, 2, 3]);
    drop(workers);
}

#[tokio::test(start_paused = true)]
async fn retry_after_waits_as_told_and_uses_up_no_attempt() {
    let queue = Queue::<u32>::builder("q")
        .retry(fixed(1))
        .build()
        .await
        .unwrap();
    let log = Log::new();
    let workers = queue
        .workers(2, {
            let log = log.clone();
            move |job, cx| {
                let log = log.clone();
                async move {
                    log.add((job, cx.attempt()));
                    let runs = log.values().iter().filter(|(j, _)| *j == 0).count();
                    if job == 0 && runs < 3 {
                        return Err(JobError::retry_after(secs(7)));
                    }
                    Ok(())
                }
            }
        })
        .spawn();
    queue.enqueue_batch(vec![0, 1]).await.unwrap();
    queue.drain().await.unwrap();
    assert_eq!(log.values(), [(0, 1), (1, 1), (0, 1), (0, 1)]);
    assert_eq!(log.times(), [secs(0), secs(0), secs(7), secs(14)]);
    assert_eq!(queue.stats().await.unwrap().snoozed, 2);
    drop(workers);
}

/// Job 0 is refused once; the times at which the other jobs start tell what that stopped.
async fn starts_with_penalty(scope: Scope) -> Vec<(Duration, u32)> {
    let queue = Queue::<u32>::builder("q")
        .key(|job: &u32| job % 2)
        .build()
        .await
        .unwrap();
    let log = Log::new();
    let workers = queue
        .workers(1, {
            let log = log.clone();
            move |job, _| {
                let log = log.clone();
                async move {
                    log.add(job);
                    if job == 0 && log.values().len() == 1 {
                        return Err(JobError::retry_after(secs(5)).penalize(scope));
                    }
                    Ok(())
                }
            }
        })
        .spawn();
    queue.enqueue_batch(vec![0, 1, 2, 3]).await.unwrap();
    queue.drain().await.unwrap();
    drop(workers);
    let entries = log.entries();
    entries.clone()
}

#[tokio::test(start_paused = true)]
async fn a_penalty_stops_the_key_or_the_whole_queue() {
    let (t0, t5) = (secs(0), secs(5));
    assert_eq!(
        starts_with_penalty(Scope::Key).await,
        [(t0, 0), (t0, 1), (t0, 3), (t5, 0), (t5, 2)]
    );
    let mut queue = starts_with_penalty(Scope::Queue).await;
    queue[1..].sort_unstable();
    assert_eq!(queue, [(t0, 0), (t5, 0), (t5, 1), (t5, 2), (t5, 3)]);
}

#[tokio::test(start_paused = true)]
async fn a_discarded_job_is_neither_retried_nor_kept() {
    let queue = Queue::<u32>::builder("q").build().await.unwrap();
    let workers = queue
        .workers(1, |_, _| async { Err(JobError::discard("blocked")) })
        .spawn();
    queue.enqueue(1).await.unwrap();
    queue.drain().await.unwrap();
    let stats = queue.stats().await.unwrap();
    assert_eq!((stats.discarded, stats.dead, stats.retried), (1, 0, 0));
    drop(workers);
}

#[tokio::test(start_paused = true)]
async fn panics_of_handler_and_copy_are_failed_attempts_and_kill_no_worker() {
    #[derive(Debug)]
    struct Bomb(u32);
    impl Clone for Bomb {
        fn clone(&self) -> Self {
            assert_ne!(self.0, 2, "cannot be copied");
            Self(self.0)
        }
    }
    let queue = Queue::<Bomb>::builder("q")
        .retry(fixed(2))
        .build()
        .await
        .unwrap();
    let workers = queue
        .workers(1, |job: Bomb, _| {
            assert_ne!(job.0, 0, "in the call");
            async move {
                tokio::task::yield_now().await;
                assert_ne!(job.0, 1, "in the future");
                Ok(())
            }
        })
        .spawn();
    let jobs = (0..4).map(Bomb).collect();
    queue.enqueue_batch(jobs).await.unwrap();
    queue.drain().await.unwrap();
    let stats = queue.stats().await.unwrap();
    assert_eq!((stats.completed, stats.retried, stats.died), (1, 3, 3));
    drop(workers);
}

#[tokio::test(start_paused = true)]
async fn panics_of_an_error_and_of_drops_lose_no_job_and_kill_no_worker() {
    #[derive(Debug)]
    struct Mute;
    impl std::fmt::Display for Mute {
        fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            panic!("no words")
        }
    }
    impl std::error::Error for Mute {}

    /// The queue's own copy panics when it is dropped; those that handlers get do not.
    #[derive(Debug)]
    struct Bomb(u32, bool);
    impl Clone for Bomb {
        fn clone(&self) -> Self {
            Self(self.0, false)
        }
    }
    impl Drop for Bomb {
        fn drop(&mut self) {
            assert!(!self.1 || std::thread::panicking(), "dropped");
        }
    }

    let queue = Queue::<Bomb>::builder("q")
        .backend(Memory::bounded(10).dead_letters(0))
        .retry(fixed(2))
        .build()
        .await
        .unwrap();
    let workers = queue
        .workers(1, |job: Bomb, _| async move {
            match job.0 {
                0 => Ok(()),
                1 => Err(JobError::discard("no")),
                2 => std::panic::panic_any(Bomb(9, true)),
                _ => Err(JobError::retry(Mute)),
            }
        })
        .spawn();
    for job in 0..4 {
        queue.enqueue(Bomb(job, true)).await.unwrap();
    }
    let drained = tokio::time::timeout(secs(60), queue.drain()).await;
    let stats = queue.stats().await.unwrap();
    assert!(drained.is_ok(), "{stats:?}");
    assert_eq!((stats.completed, stats.discarded, stats.died), (1, 1, 2));
    assert_eq!((stats.retried, stats.dead_dropped), (2, 2));
    drop(workers);
}

#[tokio::test(start_paused = true)]
async fn dead_letters_are_bounded_replayed_and_purged() {
    let queue = Queue::<u32>::builder("q")
        .backend(Memory::bounded(100).dead_letters(3))
        .retry(fixed(1))
        .build()
        .await
        .unwrap();
    let log = Log::new();
    let workers = queue
        .workers(1, {
            let log = log.clone();
            move |job, cx| {
                let log = log.clone();
                async move {
                    log.add(job);
                    let again = log.values().iter().filter(|j| **j == job).count() > 1;
                    assert_eq!(cx.attempt(), 1);
                    if again {
                        Ok(())
                    } else {
                        Err(JobError::retry("no"))
                    }
                }
            }
        })
        .spawn();
    let ids = queue.enqueue_batch((0..5).collect()).await.unwrap();
    queue.drain().await.unwrap();
    let dead = queue.dead_letters();
    let jobs: Vec<u32> = dead
        .list(9)
        .await
        .unwrap()
        .iter()
        .map(|l| l.job.clone().unwrap())
        .collect();
    assert_eq!(jobs, [2, 3, 4]);
    assert_eq!(queue.stats().await.unwrap().dead_dropped, 2);

    assert!(!dead.replay(ids[0]).await.unwrap());
    assert!(dead.replay(ids[3]).await.unwrap());
    queue.drain().await.unwrap();
    let stats = queue.stats().await.unwrap();
    assert_eq!((stats.completed, stats.dead), (1, 2));

    queue.close();
    assert!(matches!(
        dead.replay(ids[2]).await,
        Err(ReplayError::Closed)
    ));
    assert_eq!(dead.purge().await.unwrap(), 2);
    assert_eq!(queue.stats().await.unwrap().dead, 0);
    drop(workers);
}

#[tokio::test(start_paused = true)]
async fn room_comes_back_once_however_a_job_ends_and_a_replay_takes_it() {
    let queue = Queue::<u32>::builder("q")
        .backend(Memory::bounded(1))
        .retry(fixed(1))
        .build()
        .await
        .unwrap();
    let handler = |job, _| async move {
        match job {
            0 => Ok(()),
            1 => Err(JobError::discard("no")),
            _ => Err(JobError::retry("no")),
        }
    };
    for job in [0, 1, 2, 0] {
        queue.try_enqueue(job).await.unwrap();
        assert!(
            queue.try_enqueue(job).await.is_err(),
            "there is room for one"
        );
        let workers = queue.workers(1, handler).spawn();
        queue.drain().await.unwrap();
        workers.shutdown(secs(1)).await;
    }
    let dead = queue.dead_letters();
    let id = dead.list(1).await.unwrap()[0].id;
    assert!(dead.replay(id).await.unwrap());
    assert!(
        queue.try_enqueue(0).await.is_err(),
        "the letter has the room"
    );
}

#[tokio::test(start_paused = true)]
async fn any_error_is_a_retry_by_the_question_mark() {
    async fn send() -> Result<(), std::num::ParseIntError> {
        "x".parse::<u32>().map(|_| ())
    }
    let queue = Queue::<u32>::builder("q")
        .retry(fixed(1))
        .build()
        .await
        .unwrap();
    let workers = queue
        .workers(1, |_, _| async {
            send().await?;
            Ok(())
        })
        .spawn();
    queue.enqueue(1).await.unwrap();
    queue.drain().await.unwrap();
    let dead = queue.dead_letters().list(1).await.unwrap();
    assert_eq!(dead[0].error(), "invalid digit found in string");
    drop(workers);
}
