use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_of_a_dropped_append_arrive_or_are_not_there() {
    let dir = Dir::new();
    let (journal, _) = dir.open().await;
    let mut known = Vec::new();
    for round in 0..200u32 {
        let jobs = vec![job(round.to_string()), job(format!("{round}b"))];
        let ids = [jobs[0].id, jobs[1].id];
        let mut append = pin!(journal.append(jobs));
        let mut cx = Context::from_waker(Waker::noop());
        let mut answer = None;
        // Dropped after so many polls: before, while and after the writer has it.
        for _ in 0..round {
            if let std::task::Poll::Ready(done) = append.as_mut().poll(&mut cx) {
                answer = Some(done.unwrap());
                break;
            }
            tokio::task::yield_now().await;
        }
        if answer.is_some() {
            known.extend(ids);
        }
    }
    journal.flush().await.unwrap();
    // A dropped answer is delivered with what comes after it.
    journal.flush().await.unwrap();
    while let Some(arrived) = journal.arrived() {
        known.extend(arrived.iter().map(|job| job.id));
    }
    journal.shutdown().await;
    let (_journal, jobs) = dir.open().await;
    let mut found: Vec<_> = jobs.iter().map(|job| job.id).collect();
    known.sort_unstable();
    found.sort_unstable();
    assert_eq!(known, found);
}
