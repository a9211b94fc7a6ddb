use super::*;

/// Whether the file has a job marked as started.
async fn is_marked(dir: &Dir, row: RowId) -> bool {
    number(
        &dir.file(),
        &format!(
            "SELECT started FROM perf_queue_job WHERE seq = {}",
            row.to_u64()
        ),
    )
    .await
        == 1
}

#[tokio::test]
async fn a_job_that_runs_for_a_while_is_marked() {
    let dir = Dir::new();
    let (journal, _) = dir.open().await;
    let row = append(&journal, "slow").await;
    journal.started(row);
    while !is_marked(&dir, row).await {
        tokio::task::yield_now().await;
    }
    journal.end(row, End::Released);
    journal.flush().await.unwrap();
    assert!(!is_marked(&dir, row).await);
}

#[tokio::test]
async fn a_job_that_was_running_comes_back_as_the_next_attempt() {
    let dir = Dir::new();
    let (journal, _) = dir.open().await;
    let row = append(&journal, "fatal").await;
    append(&journal, "harmless").await;
    journal.started(row);
    while !is_marked(&dir, row).await {
        tokio::task::yield_now().await;
    }
    // Not told how it ended, as if the process had died.
    journal.shutdown().await;
    for _ in 0..2 {
        let (journal, jobs) = dir.open().await;
        assert_eq!(payloads(&jobs), ["fatal", "harmless"]);
        assert_eq!([jobs[0].attempt, jobs[1].attempt], [2, 1]);
        assert_eq!(jobs[0].errors, ["the process ended while the job ran"]);
        journal.shutdown().await;
    }
}

#[tokio::test]
async fn a_quick_job_costs_no_mark() {
    let dir = Dir::new();
    let (journal, _) = dir.open().await;
    let row = append(&journal, "quick").await;
    let before = changes(&dir).await;
    journal.started(row);
    journal.end(row, End::Released);
    journal.flush().await.unwrap();
    assert_eq!(changes(&dir).await, before);
}

/// Grows with each commit.
async fn changes(dir: &Dir) -> u64 {
    let wal = dir.file().with_extension("db-wal");
    std::fs::metadata(wal).unwrap().len()
}
