use perf_queue::{Backoff, JobError, Memory, Queue, QueueBackend};

use super::room;
use crate::support::secs;

/// A job whose `Drop` panics, but for the handler's copy of it.
#[derive(Debug)]
#[cfg_attr(feature = "sqlite", derive(serde::Serialize, serde::Deserialize))]
struct Job {
    number: u32,
    #[cfg_attr(feature = "sqlite", serde(skip))]
    copy: bool,
}

impl Clone for Job {
    fn clone(&self) -> Self {
        Self {
            number: self.number,
            copy: true,
        }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        assert!(self.copy || std::thread::panicking(), "dropped");
    }
}

fn job(number: u32) -> Job {
    let copy = false;
    Job { number, copy }
}

async fn nothing_is_lost_with_a_job_whose_drop_panics<B: QueueBackend<Job, ()>>(backend: B) {
    let queue = Queue::<Job>::builder("drops")
        .backend(backend)
        .retry(Backoff::exponential(secs(0)..secs(0)).max_attempts(2))
        .build()
        .await
        .unwrap();
    let workers = queue
        .workers(2, |job: Job, _| async move {
            match job.number % 3 {
                0 => Ok(()),
                1 => Err(JobError::discard("no")),
                _ => Err(JobError::retry("no")),
            }
        })
        .spawn();
    for _ in 0..3 {
        for number in 0..9 {
            queue.enqueue(job(number)).await.unwrap();
        }
    }
    queue.drain().await.unwrap();
    let stats = queue.stats().await.unwrap();
    let ends = (stats.completed, stats.discarded, stats.died, stats.retried);
    assert_eq!(ends, (9, 9, 9, 9));
    assert_eq!((stats.workers_idle, stats.in_flight), (2, 0));
    workers.shutdown(secs(1)).await;
    assert_eq!(queue.dead_letters().purge().await.unwrap(), stats.dead);
    let harmless = Job {
        number: 0,
        copy: true,
    };
    assert_eq!(room(&queue, harmless).await, 4);
}

#[tokio::test(start_paused = true)]
async fn in_memory_nothing_is_lost_with_a_job_whose_drop_panics() {
    let backend = Memory::bounded(4).dead_letters(2);
    nothing_is_lost_with_a_job_whose_drop_panics(backend).await;
}

/// The job was dropped within its end, before its room was given back.
#[cfg(feature = "sqlite")]
#[tokio::test]
async fn in_a_file_nothing_is_lost_with_a_job_whose_drop_panics() {
    let dir = tempfile::tempdir().unwrap();
    let backend = perf_queue::Sqlite::open(dir.path().join("jobs.db")).capacity(4);
    nothing_is_lost_with_a_job_whose_drop_panics(backend).await;
}
