//! Delivery timeouts and callers that go away.

use tokio::time::Instant;

use super::*;

type Letters = Arc<Mutex<Vec<(u64, &'static str)>>>;

fn with_letters(fake: &Fake, timeout: Duration) -> (Batcher<Row>, Letters) {
    let letters = Letters::default();
    let taken = Arc::clone(&letters);
    let batcher = fake.batcher(|o| {
        o.limits.timeout = timeout;
        o.memory = 10;
        o.dead_letter = Some(Box::new(move |error| {
            let word = failure(&error);
            let id = error.into_row().unwrap().id;
            taken.lock().unwrap().push((id, word));
        }));
    });
    (batcher, letters)
}

#[tokio::test(start_paused = true)]
async fn a_row_whose_time_is_over_before_its_batch_is_not_written() {
    let fake = Fake::with(0, MANY);
    let batcher = fake.batcher(|o| o.limits.timeout = secs(10));
    let started = Instant::now();
    let late = batcher.try_add(row(0)).unwrap();
    tokio::time::sleep(secs(4)).await;
    let in_time = batcher.try_add(row(1)).unwrap();
    let error = late.await.unwrap_err();
    assert!(matches!(&error, AddError::Timeout(row) if row.id == 0));
    assert!(error.is_retryable());
    assert_eq!(started.elapsed(), secs(10));
    fake.connections.add_permits(1);
    in_time.await.unwrap();
    assert_eq!(fake.begun(), [[1]]);
}

#[tokio::test(start_paused = true)]
async fn a_row_that_is_out_of_time_does_not_cost_the_place_in_the_pools_line() {
    let fake = Fake::with(0, MANY);
    let batcher = fake.batcher(|o| o.limits.timeout = secs(10));
    let late = batcher.try_add(row(0)).unwrap();
    others_idle().await;
    let connections = Arc::clone(&fake.connections);
    let behind = tokio::spawn(async move { connections.acquire().await.map(drop) });
    tokio::time::sleep(secs(4)).await;
    let in_time = batcher.try_add(row(1)).unwrap();
    assert_eq!(word(&late.await), "timeout");
    fake.connections.add_permits(1);
    in_time.await.unwrap();
    assert!(!behind.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_write_that_takes_too_long_is_dropped_and_says_whether_it_was_committing() {
    for (fault, expected) in [(Fault::Hangs, "timeout"), (Fault::HangsInCommit, "unknown")] {
        let fake = Fake::new();
        fake.fault(fault);
        let batcher = fake.batcher(|o| o.limits.timeout = secs(10));
        let started = Instant::now();
        let outcome = batcher.add(row(0)).await;
        assert_eq!(word(&outcome), expected);
        assert_eq!(started.elapsed(), secs(10));
        batcher.add(row(1)).await.unwrap();
        assert_eq!(fake.written(), [[1]]);
    }
}

#[tokio::test(start_paused = true)]
async fn rows_behind_a_write_that_hangs_have_their_own_time() {
    let fake = Fake::new();
    fake.fault(Fault::Hangs);
    let batcher = fake.batcher(|o| o.limits.timeout = secs(10));
    let hangs = batcher.try_add(row(0)).unwrap();
    tokio::time::sleep(secs(1)).await;
    let behind = batcher.try_add(row(1)).unwrap();
    assert_eq!(word(&hangs.await), "timeout");
    behind.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_row_of_a_batch_that_panicked_keeps_its_time() {
    let fake = Fake::with(1, MANY);
    let batcher = fake.batcher(|o| o.limits.timeout = secs(10));
    let tickets =
        [Kind::PanicsAtWrite, Kind::Good].map(|kind| batcher.try_add(of(kind, 0)).unwrap());
    // There is no second connection.
    for ticket in tickets {
        assert_eq!(word(&ticket.await), "timeout");
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_anywhere_else_leaves_the_task_alive() {
    let fake = Fake::new();
    fake.fault(Fault::PanicsWhenDropped);
    let batcher = fake.batcher(|o| o.limits.timeout = secs(10));
    assert_eq!(word(&batcher.add(row(0)).await), "batch");
    batcher.add(row(1)).await.unwrap();
    batcher.flush().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn no_timeout_is_too_long() {
    let fake = Fake::new();
    let batcher = fake.batcher(|o| o.limits.timeout = Duration::MAX);
    batcher.add(row(0)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_accepted_row_is_written_though_its_caller_has_gone() {
    let fake = Fake::with(MANY, 0);
    let (batcher, letters) = with_letters(&fake, secs(30));
    drop(batcher.try_add(row(0)).unwrap());
    let mut add = Box::pin(batcher.add(row(1)));
    assert!(futures_poll(add.as_mut()).is_none());
    drop(add);
    fake.writes.add_permits(MANY);
    batcher.flush().await.unwrap();
    assert_eq!(fake.written().concat(), [0, 1]);
    assert!(letters.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_row_whose_caller_went_before_there_was_room_was_never_accepted() {
    let fake = Fake::with(MANY, 0);
    let (batcher, letters) = with_letters(&fake, secs(30));
    let first = batcher.try_add(sized(0, 10)).unwrap();
    let mut add = Box::pin(batcher.add(sized(1, 10)));
    assert!(futures_poll(add.as_mut()).is_none());
    drop(add);
    fake.writes.add_permits(MANY);
    first.await.unwrap();
    batcher.add(sized(2, 10)).await.unwrap();
    assert_eq!(fake.written(), [[0], [2]]);
    assert!(letters.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_nobody_waits_for_is_a_dead_letter() {
    let fake = Fake::with(MANY, 0);
    let (batcher, letters) = with_letters(&fake, secs(30));
    // One goes before its answer, one has it and does not look.
    drop(batcher.try_add(of(Kind::Refused, 0)).unwrap());
    let unread = batcher.try_add(of(Kind::Refused, 1)).unwrap();
    let read = batcher.try_add(of(Kind::Refused, 2)).unwrap();
    fake.writes.add_permits(MANY);
    batcher.flush().await.unwrap();
    assert_eq!(*letters.lock().unwrap(), [(0, "refused")]);
    drop(unread);
    assert_eq!(word(&read.await), "refused");
    assert_eq!(*letters.lock().unwrap(), [(0, "refused"), (1, "refused")]);
}

#[tokio::test(start_paused = true)]
async fn a_row_nobody_waits_for_and_out_of_time_is_a_dead_letter() {
    let fake = Fake::with(0, MANY);
    let (batcher, letters) = with_letters(&fake, secs(3));
    drop(batcher.try_add(row(7)).unwrap());
    batcher.flush().await.unwrap();
    assert_eq!(*letters.lock().unwrap(), [(7, "timeout")]);
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_callback_that_panics_harms_nobody() {
    let fake = Fake::new();
    let batcher = fake.batcher(|o| o.dead_letter = Some(Box::new(|_| panic!("callback"))));
    drop(batcher.try_add(of(Kind::Refused, 0)).unwrap());
    let other = batcher.try_add(row(1)).unwrap();
    other.await.unwrap();
    batcher.add(row(2)).await.unwrap();
}

/// Polls once.
fn futures_poll<F: Future>(future: std::pin::Pin<&mut F>) -> Option<F::Output> {
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    match future.poll(&mut cx) {
        std::task::Poll::Ready(output) => Some(output),
        std::task::Poll::Pending => None,
    }
}
