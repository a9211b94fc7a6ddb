//! What is dropped.

use perf_queue::{Backoff, JobError, Queue, QueueBuilder};

use super::{HANGS, Job, Place, drained, job, next, telling};
use crate::support::{ms, secs};

fn dying<P: Place>(place: &P) -> QueueBuilder<Job, u32, P::Backend> {
    let once = Backoff::exponential(ms(1)..ms(2)).max_attempts(1);
    place.builder().retry(once)
}

async fn die(queue: &Queue<Job>, jobs: std::ops::Range<u32>) {
    let (workers, mut told) = telling(queue, 1, |_, _| async { Err(JobError::retry("no")) });
    for n in jobs {
        queue.enqueue(job(1, n)).await.unwrap();
        next(&mut told).await;
    }
    drained(queue).await;
    workers.shutdown(secs(5)).await;
}

async fn letters(queue: &Queue<Job>) -> Vec<u32> {
    let letters = queue.dead_letters().list(99).await.unwrap();
    letters
        .iter()
        .map(|dead| dead.job.as_ref().unwrap().n)
        .collect()
}

pub(crate) async fn dead_letters_are_kept_up_to_a_number_and_the_dropped_are_counted(
    place: impl Place,
) {
    let queue = dying(&place).keep_dead_letters(3).build().await.unwrap();
    die(&queue, 0..5).await;
    assert_eq!(letters(&queue).await, [2, 3, 4]);
    let stats = queue.stats().await.unwrap();
    assert_eq!((stats.dead, stats.dead_dropped, stats.died), (3, 2, 5));
}

pub(crate) async fn no_dead_letter_is_kept_where_none_shall_be(place: impl Place) {
    let queue = dying(&place).keep_dead_letters(0).build().await.unwrap();
    die(&queue, 0..2).await;
    assert_eq!(letters(&queue).await, [0; 0]);
    let stats = queue.stats().await.unwrap();
    assert_eq!((stats.dead, stats.dead_dropped), (0, 2));
}

pub(crate) async fn old_dead_letters_are_purged(place: impl Place) {
    let queue = dying(&place).build().await.unwrap();
    die(&queue, 0..2).await;
    tokio::time::sleep(secs(2)).await;
    let between = std::time::Instant::now();
    die(&queue, 2..3).await;
    let dead = queue.dead_letters();
    assert_eq!(dead.purge_older_than(secs(600)).await.unwrap(), 0);
    // In the middle of the two seconds, however long ago they are.
    let older = between.elapsed() + secs(1);
    assert_eq!(dead.purge_older_than(older).await.unwrap(), 2);
    assert_eq!(letters(&queue).await, [2]);
    let stats = queue.stats().await.unwrap();
    assert_eq!((stats.dead, stats.dead_dropped), (1, 0));
    assert_eq!(dead.purge().await.unwrap(), 1);
}

pub(crate) async fn dead_letters_go_when_their_time_is_over(place: impl Place) {
    let queue = dying(&place).keep_dead_letters_for(ms(100));
    let queue = queue.build().await.unwrap();
    die(&queue, 0..2).await;
    tokio::time::timeout(HANGS, async {
        while queue.stats().await.unwrap().dead > 0 {
            tokio::time::sleep(ms(50)).await;
        }
    })
    .await
    .expect("they are dropped");
}
