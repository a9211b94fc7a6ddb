use super::*;

/// Adds rows of these kinds as one batch; returns the outcomes in a word each.
async fn outcomes(fake: &Fake, kinds: &[Kind]) -> Vec<&'static str> {
    let batcher = fake.batcher(|o| o.limits.timeout = secs(10));
    let tickets: Vec<_> = (0..)
        .zip(kinds)
        .map(|(id, kind)| batcher.try_add(of(*kind, id)))
        .collect();
    let mut words = Vec::new();
    for ticket in tickets {
        let outcome = match ticket {
            Ok(ticket) => ticket.await,
            Err(error) => Err(error),
        };
        words.push(word(&outcome));
        if let Some(row) = outcome.err().and_then(AddError::into_row) {
            assert_eq!(row.id, words.len() as u64 - 1, "each has its own row");
        }
    }
    words
}

#[tokio::test(start_paused = true)]
async fn a_refused_row_is_its_callers_alone() {
    let fake = Fake::new();
    let kinds = [Kind::Good, Kind::Refused, Kind::Good, Kind::Refused];
    let words = outcomes(&fake, &kinds).await;
    assert_eq!(words, ["written", "refused", "written", "refused"]);
    assert_eq!(fake.written(), [[0, 2]]);
}

#[tokio::test(start_paused = true)]
async fn a_row_that_cannot_be_encoded_is_never_accepted() {
    let fake = Fake::new();
    let kinds = [Kind::FailsAtAdd, Kind::Good, Kind::PanicsAtAdd];
    let words = outcomes(&fake, &kinds).await;
    assert_eq!(words, ["refused", "written", "refused"]);
    assert_eq!(fake.begun(), [[1]]);
}

#[tokio::test(start_paused = true)]
async fn a_panic_at_the_write_is_its_rows_alone() {
    let fake = Fake::new();
    let kinds = [Kind::Good, Kind::PanicsAtWrite, Kind::Refused, Kind::Good];
    let words = outcomes(&fake, &kinds).await;
    assert_eq!(words, ["written", "refused", "refused", "written"]);
    assert_eq!(fake.written().concat(), [0, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_range_that_only_the_commit_refused_is_written_row_by_row() {
    let fake = Fake::new();
    fake.fault(Fault::Range);
    let words = outcomes(&fake, &[Kind::Good, Kind::Refused]).await;
    assert_eq!(words, ["written", "refused"]);
    // A single row that its commit refuses is refused.
    fake.fault(Fault::Range);
    assert_eq!(outcomes(&fake, &[Kind::Good]).await, ["refused"]);
}

#[tokio::test(start_paused = true)]
async fn a_row_whose_drop_panics_does_not_hide_the_others_outcomes() {
    let fake = Fake::new();
    let kinds = [Kind::PanicsAtDrop, Kind::Good];
    assert_eq!(outcomes(&fake, &kinds).await, ["written", "written"]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_fails_as_a_whole_gives_all_rows_back_with_one_error() {
    let fake = Fake::new();
    fake.fault(Fault::Fatal);
    let batcher = fake.batcher(|_| {});
    let tickets = [0, 1].map(|id| batcher.try_add(row(id)).unwrap());
    let mut sources = Vec::new();
    for (id, ticket) in (0..).zip(tickets) {
        match ticket.await.unwrap_err() {
            AddError::Batch { row, source } if row.id == id => sources.push(source),
            other => panic!("{other:?}"),
        }
    }
    assert!(Arc::ptr_eq(&sources[0], &sources[1]));
    assert!(matches!(*sources[0], BatchError::Database { rows: 2, .. }));
    batcher.add(row(2)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn no_connection_fails_the_batch_and_not_the_next() {
    let fake = Fake::new();
    *fake.log.refuses_connections.lock().unwrap() = 1;
    let batcher = fake.batcher(|_| {});
    let error = batcher.add(row(0)).await.unwrap_err();
    assert!(error.is_retryable());
    assert!(matches!(
        error,
        AddError::Batch { source, .. } if matches!(*source, BatchError::Acquire { rows: 1, .. })
    ));
    batcher.add(row(1)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_unanswered_commit_is_told_as_such() {
    let fake = Fake::new();
    for fault in [Fault::CommitUnknown, Fault::PanicsInCommit] {
        fake.fault(fault);
        let words = outcomes(&fake, &[Kind::Good, Kind::Good]).await;
        assert_eq!(words, ["unknown", "unknown"], "{fault:?}");
    }
    assert!(fake.written().is_empty(), "nothing is tried again");
}
