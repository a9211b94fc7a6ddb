use std::time::Duration;

use perf_queue::{BuildError, Memory, Queue, Rate};

use crate::support::{Log, busiest_window, ms, secs};

#[tokio::test(start_paused = true)]
async fn the_rate_is_kept_in_every_window_and_used_in_full() {
    let queue = Queue::<u32>::builder("q")
        .rate_limit(Rate::per_second(200))
        .build()
        .await
        .unwrap();
    let log = Log::new();
    queue.enqueue_batch((0..500).collect()).await.unwrap();
    let workers = queue
        .workers(16, {
            let log = log.clone();
            move |job, _| {
                log.add(job);
                async {
                    tokio::time::sleep(ms(50)).await;
                    Ok(())
                }
            }
        })
        .spawn();
    queue.drain().await.unwrap();
    let times = log.times();
    assert_eq!(log.values(), (0..500).collect::<Vec<_>>());
    assert_eq!(busiest_window(&times, secs(1)), 200);
    assert!(times.windows(2).all(|t| t[1] - t[0] >= ms(5)));
    let took = times[499] - times[0] + ms(50);
    assert!(took >= ms(2_545) && took < ms(2_575), "{took:?}");
    drop(workers);
}

#[tokio::test(start_paused = true)]
async fn a_limit_of_a_key_holds_no_worker_and_delays_no_other_key() {
    let queue = Queue::<(u32, u32)>::builder("q")
        .key(|job: &(u32, u32)| job.0)
        .rate_limit_per_key(Rate::per_second(1))
        .build()
        .await
        .unwrap();
    let log = Log::new();
    // One worker, two hot keys with a job a second, and a hundred keys with one job.
    let workers = queue
        .workers(1, {
            let log = log.clone();
            move |job, _| {
                log.add(job);
                async { Ok(()) }
            }
        })
        .spawn();
    let hot = (0..4).flat_map(|n| [(0, n), (1, n)]);
    let cold = (2..102).map(|key| (key, 0));
    queue
        .enqueue_batch(hot.chain(cold).collect())
        .await
        .unwrap();
    queue.drain().await.unwrap();
    for (at, (key, n)) in log.entries().iter() {
        match key {
            0 | 1 => assert!(*at >= secs((*n).into()) && *at < secs((*n).into()) + ms(10)),
            _ => assert_eq!(*at, ms(0)),
        }
    }
    for hot in 0..2 {
        let order: Vec<u32> = log
            .values()
            .iter()
            .filter(|j| j.0 == hot)
            .map(|j| j.1)
            .collect();
        assert_eq!(order, [0, 1, 2, 3]);
    }
    drop(workers);
}

#[tokio::test(start_paused = true)]
async fn a_limited_backlog_shows_in_the_stats() {
    let queue = Queue::<u32>::builder("q")
        .key(|job: &u32| job % 2)
        .rate_limit_per_key(Rate::per_minute(1))
        .build()
        .await
        .unwrap();
    let workers = queue.workers(4, |_, _| async { Ok(()) }).spawn();
    queue.enqueue_batch((0..10).collect()).await.unwrap();
    tokio::time::sleep(secs(2)).await;
    let stats = queue.stats().await.unwrap();
    assert_eq!((stats.ready, stats.limited, stats.completed), (0, 8, 2));
    assert_eq!((stats.workers_idle, stats.workers_busy), (4, 0));
    assert_eq!(stats.oldest_age, Some(secs(2)));
    drop(workers);
}

#[tokio::test(start_paused = true)]
async fn a_burst_starts_at_once_and_stays_in_the_window() {
    let queue = Queue::<u32>::builder("q")
        .rate_limit(Rate::new(10, secs(1)).burst(10))
        .build()
        .await
        .unwrap();
    let log = Log::new();
    let workers = queue
        .workers(20, {
            let log = log.clone();
            move |job, _| {
                log.add(job);
                async { Ok(()) }
            }
        })
        .spawn();
    queue.enqueue_batch((0..30).collect()).await.unwrap();
    queue.drain().await.unwrap();
    let times = log.times();
    assert_eq!(times[9], ms(0));
    assert_eq!((times[10], times[19]), (secs(1), secs(1)));
    assert_eq!(times[29], secs(2));
    drop(workers);
}

#[tokio::test(start_paused = true)]
async fn jobs_of_a_key_run_one_by_one_in_order_beside_other_keys() {
    let queue = Queue::<(u32, u32)>::builder("q")
        .key(|job: &(u32, u32)| job.0)
        .concurrency_per_key(1)
        .build()
        .await
        .unwrap();
    let log = Log::new();
    let workers = queue
        .workers(8, {
            let log = log.clone();
            move |job, _| {
                let log = log.clone();
                async move {
                    log.add((job, "start"));
                    tokio::time::sleep(ms(10)).await;
                    log.add((job, "end"));
                    Ok(())
                }
            }
        })
        .spawn();
    let jobs = (0..50).flat_map(|n| (0..4).map(move |key| (key, n)));
    queue.enqueue_batch(jobs.collect()).await.unwrap();
    queue.drain().await.unwrap();
    for key in 0..4 {
        let seen: Vec<_> = log
            .values()
            .into_iter()
            .filter(|(job, _)| job.0 == key)
            .map(|(job, what)| (job.1, what))
            .collect();
        let expected: Vec<_> = (0..50).flat_map(|n| [(n, "start"), (n, "end")]).collect();
        assert_eq!(seen, expected);
    }
    // Four keys side by side, 50 jobs of 10 ms each.
    assert_eq!(log.times().last(), Some(&ms(500)));
    drop(workers);
}

#[tokio::test(start_paused = true)]
async fn colliding_hashes_do_not_merge_keys() {
    #[derive(Clone, PartialEq, Eq)]
    struct Same(u32);
    impl std::hash::Hash for Same {
        fn hash<H: std::hash::Hasher>(&self, _: &mut H) {}
    }
    let queue = Queue::<u32>::builder("q")
        .key(|job: &u32| Same(*job))
        .rate_limit_per_key(Rate::per_minute(1))
        .build()
        .await
        .unwrap();
    let workers = queue.workers(1, |_, _| async { Ok(()) }).spawn();
    queue.enqueue_batch((0..20).collect()).await.unwrap();
    tokio::time::sleep(secs(1)).await;
    assert_eq!(queue.stats().await.unwrap().completed, 20);
    drop(workers);
}

#[tokio::test]
async fn settings_that_do_not_fit_are_refused() {
    let build = || Queue::<u32>::builder("q");
    let error = build().rate_limit(Rate::per_second(0)).build().await.err();
    assert!(matches!(
        error,
        Some(BuildError::Rate {
            option: "rate_limit",
            ..
        })
    ));
    for rate in [
        Rate::per_second(10).burst(11),
        Rate::per_second(10).burst(0),
        Rate::new(10, ms(0)),
        Rate::per_second(1_000_001),
    ] {
        let error = build().rate_limit(rate).build().await.err();
        assert!(matches!(error, Some(BuildError::Rate { .. })), "{rate:?}");
    }
    let error = build().concurrency_per_key(1).build().await.err();
    assert!(matches!(error, Some(BuildError::KeyRequired { .. })));
    let error = build()
        .key(|n: &u32| *n)
        .concurrency_per_key(0)
        .build()
        .await
        .err();
    assert!(matches!(error, Some(BuildError::Bound { .. })));
    for lease in [ms(0), ms(99), Duration::MAX] {
        let error = build().lease(lease).build().await.err();
        assert!(matches!(error, Some(BuildError::Lease { .. })), "{lease:?}");
    }
    let error = build().backend(Memory::bounded(0)).build().await.err();
    assert_eq!(
        error.unwrap().to_string(),
        "Memory::bounded is 0: it must be from 1 to 4294967294"
    );
}

/// It used to be built, and to stand still at the first job that had to wait.
#[test]
fn a_queue_needs_timers() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let built = runtime.block_on(Queue::<u32>::builder("q").build());
    assert!(matches!(built.err(), Some(BuildError::NoTimers)));
}

#[test]
fn a_queue_needs_a_runtime() {
    use std::future::Future;
    use std::task::{Context, Poll, Waker};
    let mut build = std::pin::pin!(Queue::<u32>::builder("q").build());
    let Poll::Ready(Err(error)) = build.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    else {
        panic!("no runtime, and yet a queue");
    };
    assert!(matches!(error, BuildError::NoRuntime));
}
