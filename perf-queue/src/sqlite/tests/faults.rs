use sqlx::SqliteConnection;

use super::*;
use crate::sqlite::file::OwnedFile;
use crate::sqlite::start::start_on;

fn is_unavailable<T: std::fmt::Debug>(refused: Result<T, BackendError>) {
    let refused = refused.unwrap_err();
    assert!(refused.is_retryable(), "{refused}");
}

/// A journal whose file cannot grow beyond 64 pages.
async fn open_small(dir: &Dir) -> (Journal, Vec<Stored>) {
    let mut file = OwnedFile::take(&dir.file(), "test").unwrap();
    let mut conn = file.open().await.unwrap();
    let limit = sqlx::raw_sql("PRAGMA max_page_count = 64");
    limit.execute(&mut conn).await.unwrap();
    start_on(conn, file, "test", 10).await.unwrap()
}

const JOBS: &str = "SELECT count(*) FROM perf_queue_job";

#[tokio::test]
async fn a_full_disk_refuses_jobs_and_not_their_ends() {
    let dir = Dir::new();
    let (journal, _) = open_small(&dir).await;
    let row = append(&journal, "before").await;
    let large = || job(vec![b'x'; 300_000]);
    is_unavailable(journal.append(vec![large()]).await);
    is_unavailable(journal.append(vec![job("small"), large()]).await);
    // What fails along with a job that has no room is written all the same.
    journal.end(row, End::Done);
    is_unavailable(journal.append(vec![large()]).await);
    assert_eq!(number(&dir.file(), JOBS).await, 0);
    journal.flush().await.unwrap();
    append(&journal, "after").await;
    journal.shutdown().await;
    assert_eq!(payloads(&dir.open().await.1), ["after"]);
}

#[tokio::test]
async fn what_was_full_is_usable_again_when_jobs_end() {
    let dir = Dir::new();
    let (journal, _) = open_small(&dir).await;
    let mut added = Vec::new();
    let refused = loop {
        match journal.append(vec![job(vec![b'x'; 10_000])]).await {
            Ok(rows_) => added.extend(rows(&rows_)),
            Err(error) => break error,
        }
    };
    assert!(refused.to_string().contains("full"), "{refused}");
    for row in added {
        journal.end(row, End::Done);
    }
    journal.flush().await.unwrap();
    append(&journal, "again").await;
}

#[tokio::test]
async fn ends_are_kept_while_the_file_is_gone() {
    let dir = Dir::new();
    let (journal, _) = dir.open().await;
    let done = append(&journal, "done").await;
    let again = append(&journal, "again").await;
    let away = dir.file().with_extension("away");
    std::fs::rename(dir.file(), &away).unwrap();
    journal.end(done, End::Done);
    journal.end(again, retry(2, "away"));
    for _ in 0..3 {
        let refused = journal.flush().await.unwrap_err();
        assert!(refused.to_string().contains("put it back"), "{refused}");
    }
    let refused = journal.append(vec![job("lost")]).await.unwrap_err();
    assert!(matches!(refused, BackendError::Unfit { .. }), "{refused}");
    std::fs::rename(&away, dir.file()).unwrap();
    // By itself, without anybody asking for it.
    while number(&dir.file(), JOBS).await > 1 {
        tokio::task::yield_now().await;
    }
    journal.shutdown().await;
    let (_journal, jobs) = dir.open().await;
    assert_eq!(payloads(&jobs), ["again"]);
    assert_eq!(jobs[0].errors, ["away"]);
    assert_eq!(jobs[0].attempt, 2);
}

#[tokio::test]
async fn a_file_that_was_replaced_gets_no_jobs() {
    let dir = Dir::new();
    let (journal, _) = dir.open().await;
    append(&journal, "old").await;
    std::fs::remove_file(dir.file()).unwrap();
    std::fs::write(dir.file(), "").unwrap();
    let refused = journal.append(vec![job("new")]).await.unwrap_err();
    assert!(matches!(refused, BackendError::Unfit { .. }), "{refused}");
}

#[tokio::test]
async fn a_commit_waits_for_a_transaction_of_somebody_else() {
    let dir = Dir::new();
    let (journal, _) = dir.open().await;
    let row = append(&journal, "first").await;
    let url = format!("sqlite://{}", dir.file().display());
    let mut conn = SqliteConnection::connect(&url).await.unwrap();
    let tx = conn.begin_with("BEGIN IMMEDIATE").await.unwrap();
    journal.end(row, End::Done);
    let journal = std::sync::Arc::new(journal);
    let other = std::sync::Arc::clone(&journal);
    let waits = tokio::spawn(async move { append(&other, "second").await });
    tx.rollback().await.unwrap();
    waits.await.unwrap();
    journal.shutdown().await;
    assert_eq!(payloads(&dir.open().await.1), ["second"]);
}

#[tokio::test]
async fn a_file_that_stays_locked_is_an_error_and_then_forgotten() {
    let dir = Dir::new();
    let (journal, _) = dir.open().await;
    let row = append(&journal, "first").await;
    let url = format!("sqlite://{}", dir.file().display());
    let mut conn = SqliteConnection::connect(&url).await.unwrap();
    let tx = conn.begin_with("BEGIN IMMEDIATE").await.unwrap();
    journal.end(row, End::Done);
    is_unavailable(journal.append(vec![job("refused")]).await);
    tx.rollback().await.unwrap();
    append(&journal, "second").await;
    journal.shutdown().await;
    assert_eq!(payloads(&dir.open().await.1), ["second"]);
}

#[tokio::test]
async fn a_connection_is_never_made_to_a_file_that_has_taken_the_place() {
    let dir = Dir::new();
    let mut file = OwnedFile::take(&dir.file(), "test").unwrap();
    file.open().await.unwrap();
    let away = dir.file().with_extension("away");
    std::fs::rename(dir.file(), &away).unwrap();
    assert!(file.connect().await.is_err());
    assert!(!dir.file().exists());
    std::fs::write(dir.file(), "").unwrap();
    let refused = file.connect().await.unwrap_err();
    assert!(refused.to_string().contains("put it back"), "{refused}");
    std::fs::rename(&away, dir.file()).unwrap();
    file.connect().await.unwrap();
}
