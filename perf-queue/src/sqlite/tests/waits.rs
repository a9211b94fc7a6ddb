//! What a key still has to wait for when its process ends.

use super::restarts::{KILLED, SOON, built, plain};
use super::*;
use crate::{JobContext, JobError, Queue, QueueBuilder, Rate, Scope};

/// A job of the key that is to wait, and one of another.
const WAITS: u32 = 0;
const GOES: u32 = 1;

/// What starts, until the job of the key that may has come to its end.
async fn until_it_goes(queue: &Queue<u32>, jobs: Vec<u32>, says: Says) -> Vec<u32> {
    let (told, mut started) = tokio::sync::mpsc::unbounded_channel();
    let workers = queue.workers(1, move |job: u32, _: JobContext| {
        let _ = told.send(job);
        async move { says(job) }
    });
    let workers = workers.spawn();
    queue.enqueue_batch(jobs).await.unwrap();
    let mut seen = Vec::new();
    while seen.last() != Some(&GOES) {
        seen.push(started.recv().await.unwrap());
    }
    workers.shutdown(SOON).await;
    seen
}

type Build = fn(&Path) -> QueueBuilder<u32, u32, Sqlite>;
type Says = fn(u32) -> Result<(), JobError>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_handler_said_of_a_key_holds_in_the_next_process() {
    let penalty: Says = |job| match job {
        WAITS => Err(JobError::retry_after(Duration::from_secs(3_600)).penalize(Scope::Key)),
        _ => Ok(()),
    };
    let later: Says = |job| match job {
        WAITS => Err(JobError::retry_after(Duration::from_secs(3_600))),
        _ => Ok(()),
    };
    let one_by_one: Build = |file| plain(file).concurrency_per_key(1);
    for (build, says) in [(plain as Build, penalty), (one_by_one, later)] {
        for kill in [false, true] {
            let dir = Dir::new();
            let file = dir.file();
            let queue = built(|| build(&file)).await;
            let jobs = vec![WAITS, GOES];
            assert_eq!(until_it_goes(&queue, jobs, says).await, [WAITS, GOES]);
            drop(queue);
            drop(built(|| build(&file)).await);
            if kill {
                sql(&file, KILLED).await;
            }
            let queue = built(|| build(&file)).await;
            // The only worker would have come to it first.
            let jobs = vec![WAITS, GOES];
            assert_eq!(
                until_it_goes(&queue, jobs, |_| Ok(())).await,
                [GOES],
                "{kill}"
            );
            assert_eq!(
                number(&file, "SELECT count(*) FROM perf_queue_job").await,
                2
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wall_clock_set_forward_between_two_processes_shortens_no_wait_for_a_limit() {
    // As it was an hour ago by the wall clock, and a moment ago in this run of the system, or in another.
    const FORWARD: &str =
        "UPDATE perf_queue_past SET closed = closed - 3600000, changed = changed - 3600000;
        UPDATE perf_queue_keys SET closed = closed - 3600000;
        UPDATE perf_queue_clock SET wall = wall - 3600000";
    let rate = Rate::new(1, Duration::from_secs(600));
    for (other, then) in [
        ("", vec![GOES]),
        (
            "; UPDATE perf_queue_clock SET boot = 'another'",
            vec![WAITS, GOES],
        ),
    ] {
        let dir = Dir::new();
        let file = dir.file();
        let limited = || plain(&file).rate_limit_per_key(rate);
        assert_eq!(
            restarts::starts(built(limited).await, vec![WAITS], SOON).await,
            1
        );
        drop(built(limited).await);
        sql(&file, &format!("{FORWARD}{other}")).await;
        let queue = built(limited).await;
        let jobs = vec![WAITS, GOES];
        assert_eq!(
            until_it_goes(&queue, jobs, |_| Ok(())).await,
            then,
            "{other}"
        );
    }
}
