//! Flush, shutdown, and the last handle.

use tokio::time::Instant;

use super::super::DrainError;
use super::*;

#[tokio::test(start_paused = true)]
async fn flush_returns_when_all_rows_before_it_are_done() {
    let fake = Fake::with(MANY, 0);
    let batcher = fake.batcher(|o| o.limits.rows = 2);
    let tickets: Vec<_> = (0..5).map(|id| batcher.try_add(row(id)).unwrap()).collect();
    let flushing = batcher.clone();
    let flush = tokio::spawn(async move { flushing.flush().await });
    others_idle().await;
    let later = batcher.try_add(row(9)).unwrap();
    fake.writes.add_permits(2);
    others_idle().await;
    assert!(!flush.is_finished(), "row 4 is not written");
    fake.writes.add_permits(1);
    flush.await.unwrap().unwrap();
    assert_eq!(fake.written()[..2], [[0, 1], [2, 3]]);
    fake.writes.add_permits(1);
    for ticket in tickets.into_iter().chain([later]) {
        ticket.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn flush_does_not_wait_for_rows_after_it() {
    let fake = Fake::with(MANY, 1);
    let batcher = fake.batcher(|o| o.limits.rows = 1);
    let first = batcher.try_add(row(0)).unwrap();
    let flushing = batcher.clone();
    let flush = tokio::spawn(async move { flushing.flush().await });
    others_idle().await;
    let _later = batcher.try_add(row(1)).unwrap();
    flush.await.unwrap().unwrap();
    first.await.unwrap();
    assert_eq!(fake.written(), [[0]]);
}

#[tokio::test(start_paused = true)]
async fn flush_and_shutdown_do_not_linger() {
    let fake = Fake::new();
    let batcher = fake.batcher(|o| o.limits.linger = secs(5));
    let started = Instant::now();
    let first = batcher.try_add(row(0)).unwrap();
    others_idle().await;
    batcher.flush().await.unwrap();
    first.await.unwrap();
    let second = batcher.try_add(row(1)).unwrap();
    others_idle().await;
    batcher.shutdown().await.unwrap();
    second.await.unwrap();
    assert!(started.elapsed() < secs(1));
    assert_eq!(fake.written(), [[0], [1]]);
}

#[tokio::test(start_paused = true)]
async fn after_a_flush_rows_linger_again() {
    let fake = Fake::new();
    let batcher = fake.batcher(|o| o.limits.linger = secs(5));
    drop(batcher.try_add(row(0)).unwrap());
    batcher.flush().await.unwrap();
    let started = Instant::now();
    batcher.add(row(1)).await.unwrap();
    assert_eq!(started.elapsed(), secs(5));
}

#[tokio::test(start_paused = true)]
async fn flush_is_seen_however_full_the_buffer_is() {
    let fake = Fake::new();
    let batcher = fake.batcher(|o| {
        o.limits.linger = secs(5);
        o.memory = 3;
    });
    let tickets = [0, 1, 2].map(|id| batcher.try_add(row(id)).unwrap());
    assert!(matches!(batcher.try_add(row(3)), Err(AddError::Full(_))));
    let started = Instant::now();
    batcher.flush().await.unwrap();
    assert_eq!(started.elapsed(), Duration::ZERO);
    for ticket in tickets {
        ticket.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn an_empty_batcher_flushes_at_once() {
    let batcher = Fake::with(0, 0).batcher(|_| {});
    batcher.flush().await.unwrap();
    batcher.shutdown().await.unwrap();
    batcher.flush().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn shutdown_drains_and_turns_later_rows_away() {
    let fake = Fake::with(MANY, 0);
    let batcher = fake.batcher(|o| {
        o.limits.rows = 2;
        o.memory = 5;
    });
    let tickets: Vec<_> = (0..5).map(|id| batcher.try_add(row(id)).unwrap()).collect();
    let waiting = batcher.clone();
    let waits = tokio::spawn(async move { waiting.add(row(7)).await });
    others_idle().await;
    let shutdowns = [0, 1].map(|_| {
        let batcher = batcher.clone();
        tokio::spawn(async move { batcher.shutdown().await })
    });
    others_idle().await;
    let turned_away = waits.await.unwrap().unwrap_err();
    assert!(matches!(&turned_away, AddError::Closed(row) if row.id == 7));
    let late = batcher.try_add(row(8)).unwrap_err();
    assert!(matches!(&late, AddError::Closed(row) if row.id == 8));
    assert!(shutdowns.iter().all(|task| !task.is_finished()));
    fake.writes.add_permits(MANY);
    for task in shutdowns {
        task.await.unwrap().unwrap();
    }
    assert_eq!(fake.written().concat(), [0, 1, 2, 3, 4]);
    for ticket in tickets {
        ticket.await.unwrap();
    }
    batcher.shutdown().await.unwrap();
    assert_eq!(word(&batcher.add(row(9)).await), "closed");
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_whose_future_is_dropped_goes_on() {
    let fake = Fake::with(MANY, 0);
    let batcher = fake.batcher(|_| {});
    let ticket = batcher.try_add(row(0)).unwrap();
    let dropped = tokio::time::timeout(secs(1), batcher.shutdown()).await;
    assert!(dropped.is_err());
    assert_eq!(word(&batcher.add(row(1)).await), "closed");
    fake.writes.add_permits(1);
    batcher.shutdown().await.unwrap();
    ticket.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn dropping_the_last_handle_drains_and_ends_the_task() {
    let fake = Fake::with(MANY, 0);
    let batcher = fake.batcher(|o| o.limits.linger = secs(5));
    let done = batcher.handle.shared.done.clone();
    let ticket = batcher.try_add(row(0)).unwrap();
    drop(batcher.clone());
    drop(batcher);
    fake.writes.add_permits(1);
    ticket.await.unwrap();
    others_idle().await;
    assert!(done.has_changed().is_err(), "the task has ended");
    assert_eq!(fake.written(), [[0]]);
}

#[test]
fn a_runtime_that_goes_down_gives_the_rows_back() {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap()
    };
    let fake = Fake::new();
    fake.fault(Fault::Hangs);
    let first = runtime();
    let (batcher, tickets) = first.block_on(async {
        let batcher = fake.batcher(|o| o.limits.rows = 1);
        let tickets = [0, 1].map(|id| batcher.try_add(row(id)).unwrap());
        while fake.begun().is_empty() {
            tokio::task::yield_now().await;
        }
        (batcher, tickets)
    });
    drop(first);
    runtime().block_on(async {
        for ticket in tickets {
            assert_eq!(word(&ticket.await), "closed");
        }
        assert_eq!(batcher.flush().await, Err(DrainError::Stopped));
        assert_eq!(batcher.shutdown().await, Err(DrainError::Stopped));
        assert_eq!(word(&batcher.add(row(2)).await), "closed");
    });
}
