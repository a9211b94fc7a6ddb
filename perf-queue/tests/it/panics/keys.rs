use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use perf_queue::{Backoff, EnqueueOptions, JobError, Memory, Queue};

use super::room;
use crate::support::secs;

/// A key whose `Hash` panics while it is armed.
#[derive(Debug, Clone)]
struct Key {
    number: u32,
    armed: Arc<AtomicBool>,
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        assert!(!self.armed.load(SeqCst), "armed");
        self.number.hash(state);
    }
}

/// Jobs of the key of their number, of which some are armed.
async fn queue(
    capacity: usize,
    armed: impl Fn(u32) -> Arc<AtomicBool> + Send + Sync + 'static,
) -> Queue<u32> {
    let key = move |job: &u32| Key {
        number: *job,
        armed: armed(*job),
    };
    Queue::<u32>::builder("keys")
        .key(key)
        .backend(Memory::bounded(capacity))
        .retry(Backoff::exponential(secs(0)..secs(0)).max_attempts(1))
        .build()
        .await
        .unwrap()
}

/// All that is queued is run, and there is room for as much as ever.
async fn is_whole(queue: &Queue<u32>, capacity: usize) {
    for _ in 0..2 {
        let workers = queue.workers(2, |_, _| async { Ok(()) }).spawn();
        queue.drain().await.unwrap();
        let stats = queue.stats().await.unwrap();
        assert_eq!(stats.completed, stats.enqueued);
        assert_eq!((stats.workers_idle, stats.in_flight), (2, 0));
        workers.shutdown(secs(1)).await;
        assert_eq!(room(queue, 0).await, capacity);
    }
}

/// The jobs before it counted as enqueued, but not in the room; one more was counted that was not there.
#[tokio::test(start_paused = true)]
async fn a_batch_whose_tenth_key_panics_is_as_if_it_had_ended_before_it() {
    for names in [false, true] {
        let queue = queue(20, |job| Arc::new((job == 9).into())).await;
        let enqueued = tokio::spawn({
            let queue = queue.clone();
            async move {
                if !names {
                    return drop(queue.enqueue_batch((0..20).collect()).await);
                }
                let named = |job: u32| EnqueueOptions::new().unique(job.to_string(), secs(60));
                let jobs = (0..20).map(|job| (job, named(job)));
                drop(queue.enqueue_batch_with(jobs).await);
            }
        });
        assert!(enqueued.await.unwrap_err().is_panic());
        let stats = queue.stats().await.unwrap();
        assert_eq!((stats.enqueued, stats.ready), (9, 9));
        // Its name is free.
        let name = EnqueueOptions::new().unique("9", secs(60));
        queue.try_enqueue_with(10, name).await.unwrap();
        assert_eq!(queue.stats().await.unwrap().enqueued, 10);
        assert_eq!(room(&queue, 0).await, 10);
        is_whole(&queue, 20).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_of_one_key_that_panics_has_enqueued_nothing() {
    let armed = Arc::new(AtomicBool::new(true));
    let its = Arc::clone(&armed);
    let queue = queue(20, move |_| Arc::clone(&its)).await;
    let enqueued = tokio::spawn({
        let queue = queue.clone();
        async move { queue.enqueue_batch(vec![1; 20]).await }
    });
    assert!(enqueued.await.unwrap_err().is_panic());
    let stats = queue.stats().await.unwrap();
    assert_eq!((stats.enqueued, stats.ready), (0, 0));
    armed.store(false, SeqCst);
    assert_eq!(room(&queue, 0).await, 20);
    is_whole(&queue, 20).await;
}

#[tokio::test(start_paused = true)]
async fn a_batch_one_of_whose_keys_cannot_be_found_has_enqueued_nothing() {
    let queue = queue(20, |job| {
        assert!(job != 9, "no key");
        Arc::default()
    })
    .await;
    let enqueued = tokio::spawn({
        let queue = queue.clone();
        async move { queue.enqueue_batch((0..20).collect()).await }
    });
    assert!(enqueued.await.unwrap_err().is_panic());
    assert_eq!(queue.stats().await.unwrap().enqueued, 0);
    assert_eq!(room(&queue, 0).await, 20);
    is_whole(&queue, 20).await;
}

/// Its last job's end took the worker and the room with it.
#[tokio::test(start_paused = true)]
async fn a_key_that_panics_as_it_is_forgotten_costs_nothing() {
    let armed = Arc::new(AtomicBool::new(false));
    let its = Arc::clone(&armed);
    let queue = queue(4, move |_| Arc::clone(&its)).await;
    let arm = Arc::clone(&armed);
    let workers = queue
        .workers(1, move |_, _| {
            arm.store(true, SeqCst);
            async { Ok(()) }
        })
        .spawn();
    queue.enqueue_batch(vec![1, 2, 3]).await.unwrap();
    queue.drain().await.unwrap();
    let stats = queue.stats().await.unwrap();
    assert_eq!((stats.completed, stats.workers_idle), (3, 1));
    workers.shutdown(secs(1)).await;
    armed.store(false, SeqCst);
    assert_eq!(room(&queue, 1).await, 4);
    is_whole(&queue, 4).await;
}

/// The letter was gone, and no job was there.
#[tokio::test(start_paused = true)]
async fn a_dead_letter_whose_key_panics_at_its_replay_stays() {
    let armed = Arc::new(AtomicBool::new(false));
    let lost = Arc::new(AtomicBool::new(false));
    let (its, no_key) = (Arc::clone(&armed), Arc::clone(&lost));
    let queue = queue(4, move |_| {
        assert!(!no_key.load(SeqCst), "no key");
        Arc::clone(&its)
    })
    .await;
    let workers = queue.workers(1, |_, _| async { Err(JobError::retry("no")) });
    let workers = workers.spawn();
    let ids = queue.enqueue_batch(vec![1, 2, 3]).await.unwrap();
    queue.drain().await.unwrap();
    workers.shutdown(secs(1)).await;
    for panics in [&armed, &lost] {
        panics.store(true, SeqCst);
        let replayed = tokio::spawn({
            let letters = queue.dead_letters();
            let id = ids[1];
            async move { letters.replay(id).await }
        });
        assert!(replayed.await.unwrap_err().is_panic());
        panics.store(false, SeqCst);
        let stats = queue.stats().await.unwrap();
        assert_eq!((stats.dead, stats.ready), (3, 0));
    }
    let letters = queue.dead_letters().list(9).await.unwrap();
    let left: Vec<_> = letters.iter().map(|letter| letter.id).collect();
    assert_eq!(left, ids);
    assert!(queue.dead_letters().replay(ids[1]).await.unwrap());
    assert_eq!(queue.stats().await.unwrap().ready, 1);
    assert_eq!(room(&queue, 0).await, 3);
}

/// It took the rest of its batch along, which was in the file and not in the queue, and their room.
#[cfg(feature = "sqlite")]
#[tokio::test]
async fn in_a_file_a_job_whose_key_panics_is_a_dead_letter_and_takes_nothing_along() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("jobs.db");
    let armed = Arc::new(AtomicBool::new(true));
    let open = async |capacity| {
        let its = Arc::clone(&armed);
        let key = move |job: &u32| {
            assert!(*job != 1 || !its.load(SeqCst), "no key");
            Key {
                number: *job,
                armed: if *job == 2 {
                    Arc::clone(&its)
                } else {
                    Arc::default()
                },
            }
        };
        let backend = perf_queue::Sqlite::open(&path).capacity(capacity);
        let queue = Queue::<u32>::builder("keys").key(key).backend(backend);
        queue.build().await.unwrap()
    };
    let queue = open(4).await;
    queue.enqueue_batch(vec![0, 1, 2, 3]).await.unwrap();
    let workers = queue.workers(2, |_, _| async { Ok(()) }).spawn();
    queue.drain().await.unwrap();
    assert_eq!(queue.stats().await.unwrap().completed, 2);
    let letters = queue.dead_letters().list(9).await.unwrap();
    let dead: Vec<_> = letters
        .iter()
        .map(|it| (it.job.clone(), it.error()))
        .collect();
    assert_eq!(dead, [(Ok(1), "its key panics"), (Ok(2), "its key panics")]);
    assert!(queue.dead_letters().replay(letters[0].id).await.unwrap());
    queue.drain().await.unwrap();
    assert_eq!(queue.dead_letters().list(9).await.unwrap().len(), 2);
    armed.store(false, SeqCst);
    assert!(queue.dead_letters().replay(letters[1].id).await.unwrap());
    queue.drain().await.unwrap();
    workers.shutdown(secs(1)).await;
    assert_eq!(room(&queue, 0).await, 4);
}
