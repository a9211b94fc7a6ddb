use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use perf_queue::{Drain, Queue};

use crate::support::{Log, ms, secs};

fn counts(drain: Drain) -> (usize, usize, usize) {
    (drain.completed, drain.released, drain.stuck)
}

#[tokio::test(start_paused = true)]
async fn shutdown_lets_running_jobs_finish_and_leaves_the_rest_queued() {
    let queue = Queue::<u32>::builder("q").build().await.unwrap();
    let workers = queue
        .workers(3, |_, _| async {
            tokio::time::sleep(secs(1)).await;
            Ok(())
        })
        .spawn();
    queue.enqueue_batch((0..10).collect()).await.unwrap();
    tokio::time::sleep(ms(500)).await;
    let (one, two) = tokio::join!(workers.shutdown(secs(5)), workers.shutdown(secs(5)));
    assert_eq!(counts(one), (3, 0, 0));
    assert_eq!(two, one);
    assert_eq!(workers.shutdown(ms(0)).await, one);
    let stats = queue.stats().await.unwrap();
    assert_eq!((stats.completed, stats.ready, stats.in_flight), (3, 7, 0));
    assert_eq!((stats.workers_idle, stats.workers_busy), (0, 0));

    // The queue lives on, and other workers take over.
    queue.try_enqueue(10).await.unwrap();
    let others = queue.workers(3, |_, _| async { Ok(()) }).spawn();
    queue.drain().await.unwrap();
    assert_eq!(queue.stats().await.unwrap().completed, 11);
    drop(others);
}

#[tokio::test(start_paused = true)]
async fn at_the_deadline_jobs_go_back_and_run_again_first_of_their_key() {
    let queue = Queue::<u32>::builder("q")
        .key(|_: &u32| ())
        .concurrency_per_key(1)
        .build()
        .await
        .unwrap();
    let workers = queue
        .workers(2, |_, _| async {
            tokio::time::sleep(secs(3_600)).await;
            Ok(())
        })
        .spawn();
    queue.enqueue_batch(vec![0, 1, 2]).await.unwrap();
    tokio::time::sleep(ms(1)).await;
    assert_eq!(counts(workers.shutdown(secs(2)).await), (0, 1, 0));
    let log = Log::new();
    let others = queue
        .workers(2, {
            let log = log.clone();
            move |job, cx| {
                log.add((job, cx.attempt()));
                async { Ok(()) }
            }
        })
        .spawn();
    queue.drain().await.unwrap();
    assert_eq!(log.values(), [(0, 1), (1, 1), (2, 1)]);
    drop(others);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_shutdown_can_be_called_again() {
    let queue = Queue::<u32>::builder("q").build().await.unwrap();
    let workers = queue
        .workers(1, |_, _| async {
            tokio::time::sleep(secs(10)).await;
            Ok(())
        })
        .spawn();
    queue.enqueue_batch(vec![0, 1]).await.unwrap();
    tokio::time::sleep(ms(1)).await;
    let cut = tokio::time::timeout(secs(1), workers.shutdown(secs(60))).await;
    assert!(cut.is_err());
    assert_eq!(counts(workers.shutdown(secs(60)).await), (1, 0, 0));
    assert_eq!(queue.stats().await.unwrap().ready, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_blocks_its_thread_does_not_hold_up_shutdown() {
    let queue = Queue::<u32>::builder("q").build().await.unwrap();
    let (started, mut wait) = tokio::sync::mpsc::channel(1);
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let ended = Arc::new(std::sync::Mutex::new(ended));
    let workers = queue
        .workers(1, move |_, _| {
            let (started, ended) = (started.clone(), Arc::clone(&ended));
            async move {
                started.send(()).await.unwrap();
                let _ = ended.lock().unwrap().recv();
                Ok(())
            }
        })
        .spawn();
    queue.enqueue(0).await.unwrap();
    wait.recv().await.unwrap();
    assert_eq!(counts(workers.shutdown(ms(10)).await), (0, 0, 1));
    drop(end);
    queue.drain().await.unwrap();
    assert_eq!(queue.stats().await.unwrap().completed, 1);
}

/// The worker that was woken for the second job waited for the thread of the first, and all others slept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_whose_worker_waits_for_a_blocked_thread_goes_to_another_one() {
    let queue = Queue::<u32>::builder("q").build().await.unwrap();
    let (started, second) = std::sync::mpsc::channel();
    let second = Arc::new(std::sync::Mutex::new(second));
    let workers = queue
        .workers(3, {
            let queue = queue.clone();
            move |job, _| {
                let (queue, started, second) =
                    (queue.clone(), started.clone(), Arc::clone(&second));
                async move {
                    if job == 1 {
                        started.send(()).unwrap();
                        return Ok(());
                    }
                    // Wakes a worker, on this thread.
                    queue.try_enqueue(1).await.unwrap();
                    second.lock().unwrap().recv_timeout(secs(30))?;
                    Ok(())
                }
            }
        })
        .spawn();
    while queue.stats().await.unwrap().workers_idle < 3 {
        tokio::task::yield_now().await;
    }
    queue.enqueue(0).await.unwrap();
    queue.drain().await.unwrap();
    let stats = queue.stats().await.unwrap();
    assert_eq!((stats.completed, stats.retried), (2, 0));
    workers.shutdown(secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn dropping_the_last_handle_stops_the_workers_after_their_job() {
    let queue = Queue::<u32>::builder("q").build().await.unwrap();
    let workers = queue
        .workers(1, |_, _| async {
            tokio::time::sleep(secs(1)).await;
            Ok(())
        })
        .spawn();
    queue.enqueue_batch(vec![0, 1]).await.unwrap();
    tokio::time::sleep(ms(500)).await;
    let clone = workers.clone();
    drop(workers);
    tokio::time::sleep(ms(1_000)).await;
    assert_eq!(queue.stats().await.unwrap().in_flight, 1);
    drop(clone);
    tokio::time::sleep(secs(5)).await;
    let stats = queue.stats().await.unwrap();
    assert_eq!((stats.completed, stats.in_flight), (2, 0));
    queue.enqueue(2).await.unwrap();
    tokio::time::sleep(secs(5)).await;
    assert_eq!(queue.stats().await.unwrap().ready, 1);
}

#[tokio::test(start_paused = true)]
async fn the_number_of_workers_changes_while_running() {
    let queue = Queue::<u32>::builder("q").build().await.unwrap();
    let running = Arc::new(AtomicUsize::new(0));
    let workers = queue
        .workers(0, {
            let running = Arc::clone(&running);
            move |_, _| {
                let running = Arc::clone(&running);
                async move {
                    running.fetch_add(1, SeqCst);
                    tokio::time::sleep(secs(10)).await;
                    running.fetch_sub(1, SeqCst);
                    Ok(())
                }
            }
        })
        .spawn();
    queue.enqueue_batch((0..100).collect()).await.unwrap();
    for (wanted, seen_at_once) in [(0, 0), (4, 4), (1, 4), (6, 6)] {
        workers.set_concurrency(wanted);
        tokio::time::sleep(ms(100)).await;
        assert_eq!(running.load(SeqCst), seen_at_once);
        tokio::time::sleep(secs(20)).await;
        assert_eq!(running.load(SeqCst), wanted);
    }
    // Fewer while idle as well.
    queue.drain().await.unwrap();
    workers.set_concurrency(2);
    tokio::time::sleep(ms(1)).await;
    assert_eq!(queue.stats().await.unwrap().workers_idle, 2);
    workers.shutdown(secs(1)).await;
    workers.set_concurrency(5);
    tokio::time::sleep(ms(1)).await;
    assert_eq!(queue.stats().await.unwrap().workers_idle, 0);
}

#[tokio::test(start_paused = true)]
async fn the_jobs_of_a_queue_are_dropped_with_its_last_handle() {
    let queue = Queue::<Arc<()>>::builder("q").build().await.unwrap();
    let workers = queue.workers(2, |_, _| async { Ok(()) }).spawn();
    queue.drain().await.unwrap();
    workers.shutdown(secs(1)).await;
    drop(workers);
    let job = Arc::new(());
    queue.enqueue(Arc::clone(&job)).await.unwrap();
    assert_eq!(Arc::strong_count(&job), 2);
    drop(queue);
    tokio::time::sleep(secs(5)).await;
    assert_eq!(Arc::strong_count(&job), 1);
}
