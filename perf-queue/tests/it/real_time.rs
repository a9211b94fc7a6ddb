use std::time::{Duration, Instant};

use perf_queue::{Memory, Queue, QueueBackend, Rate};

use crate::support::{Log, busiest_window, ms, secs};

/// On the real clock: the limit holds on a busy machine, too, and most of it is used.
async fn send_500_at_200_a_second<B: QueueBackend<u32, ()>>(backend: B) -> Duration {
    let queue = Queue::<u32>::builder(testkit::unique("real_time"))
        .backend(backend)
        .rate_limit(Rate::per_second(200))
        .build()
        .await
        .unwrap();
    let log = Log::new();
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
    let start = Instant::now();
    queue.enqueue_batch((0..500).collect()).await.unwrap();
    queue.drain().await.unwrap();
    let took = start.elapsed();
    // The log reads the clock a little after the grant, so its windows are a little shorter; on a
    // server, a start may be up to 50 ms later than its slot.
    assert!(busiest_window(&log.times(), secs(1) - ms(50)) <= 200);
    drop(workers);
    took
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rate_is_kept_and_mostly_used_on_the_real_clock() {
    let took = send_500_at_200_a_second(Memory::default()).await;
    assert!(took > ms(2_500) && took < ms(3_500), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures the machine: run it alone, in release mode"]
async fn five_hundred_jobs_at_200_a_second_take_at_most_3_percent_more_than_2500_ms() {
    for _ in 0..3 {
        at_most_3_percent_more(Memory::default()).await;
    }
}

async fn at_most_3_percent_more<B: QueueBackend<u32, ()>>(backend: B) {
    let took = send_500_at_200_a_second(backend).await;
    println!("{took:?}");
    assert!(took < ms(2_575), "{took:?}");
}

#[cfg(feature = "redis")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures the machine: run it alone, in release mode"]
async fn the_same_on_redis() {
    if let Some(server) = testkit::Redis::shared().await {
        let backend = || perf_queue::Redis::connect(server.url()).allow_data_loss();
        for _ in 0..3 {
            at_most_3_percent_more(backend()).await;
        }
    }
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures the machine: run it alone, in release mode"]
async fn the_same_on_postgres() {
    if let Some(server) = testkit::Postgres::shared().await {
        let url = server.schema_url().await;
        let pool = sqlx::PgPool::connect(&url).await.unwrap();
        for _ in 0..3 {
            at_most_3_percent_more(perf_queue::Postgres::new(pool.clone())).await;
        }
    }
}
