use super::*;
use crate::sqlite::file::OwnedFile;

#[tokio::test]
async fn jobs_are_there_again_in_their_order() {
    let dir = Dir::new();
    let (journal, jobs) = dir.open().await;
    assert_eq!(jobs, []);
    for payload in ["a", "b", "c"] {
        append(&journal, payload).await;
    }
    journal.shutdown().await;
    let (_journal, jobs) = dir.open().await;
    assert_eq!(payloads(&jobs), ["a", "b", "c"]);
    assert!(jobs.iter().all(|job| job.attempt == 1 && !job.blocks));
    assert!(jobs.iter().all(|job| job.due.is_zero()));
}

#[tokio::test]
async fn a_job_comes_back_as_it_was() {
    let dir = Dir::new();
    let (journal, _) = dir.open().await;
    let mut new = job([0, 255, 7]);
    new.id = JobId::new(u64::MAX, u64::MAX - 1);
    new.priority = -128;
    new.trace = "00-trace-01".to_owned();
    new.delay = Duration::from_secs(3_600);
    let added = journal.append(vec![new.clone(), job([])]).await.unwrap();
    assert_eq!(added[0].id, new.id);
    journal.shutdown().await;
    let (_journal, jobs) = dir.open().await;
    // The other one has a higher priority.
    let found = &jobs[1];
    assert_eq!((found.id, found.row), (new.id, added[0].row.unwrap()));
    assert_eq!(found.payload, new.payload);
    assert_eq!((found.priority, &found.trace), (-128, &new.trace));
    assert!(found.due > Duration::from_secs(3_590) && !found.blocks);
    assert!(found.age < Duration::from_secs(10));
    assert!(jobs[0].payload.is_empty());
}

#[tokio::test]
async fn batches_of_all_sizes_keep_their_order_and_know_their_rows() {
    let dir = Dir::new();
    let (journal, _) = dir.open().await;
    let mut expected = Vec::new();
    for size in [1, 2, 3, 7, 64, 511, 513, 1_500] {
        let jobs: Vec<_> = (0..size).map(|at| job(format!("{size} {at}"))).collect();
        let ids: Vec<_> = jobs.iter().map(|job| job.id).collect();
        let added = journal.append(jobs).await.unwrap();
        assert_eq!(added.iter().map(|it| it.id).collect::<Vec<_>>(), ids);
        expected.extend(ids.into_iter().zip(rows(&added)));
    }
    assert!(expected.is_sorted_by_key(|(_, row)| *row));
    assert_eq!(journal.append(Vec::new()).await.unwrap(), []);
    journal.shutdown().await;
    let (_journal, jobs) = dir.open().await;
    let found: Vec<_> = jobs.iter().map(|job| (job.id, job.row)).collect();
    assert_eq!(found, expected);
}

#[tokio::test]
async fn ended_jobs_do_not_come_back() {
    let dir = Dir::new();
    let (journal, _) = dir.open().await;
    let jobs = (0..1_000).map(|at| job(at.to_string())).collect();
    for (at, row) in rows(&journal.append(jobs).await.unwrap())
        .into_iter()
        .enumerate()
    {
        journal.started(row);
        if at != 500 {
            journal.end(row, End::Done);
        }
    }
    journal.flush().await.unwrap();
    journal.shutdown().await;
    let (_journal, jobs) = dir.open().await;
    assert_eq!(payloads(&jobs), ["500"]);
}

#[tokio::test]
async fn a_dropped_journal_writes_what_it_was_given() {
    let dir = Dir::new();
    let (journal, _) = dir.open().await;
    let done = append(&journal, "done").await;
    append(&journal, "left").await;
    journal.end(done, End::Done);
    drop(journal);
    // Once the writer has ended, the queue can be opened again.
    let (_journal, jobs) = loop {
        match Sqlite::open(dir.file()).start("test").await {
            Ok(opened) => break opened,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    assert_eq!(payloads(&jobs), ["left"]);
}

#[tokio::test]
async fn what_failed_comes_back_with_its_history() {
    let dir = Dir::new();
    let (journal, _) = dir.open().await;
    let row = append(&journal, "unlucky").await;
    for attempt in 1..=12 {
        journal.started(row);
        journal.end(row, retry(attempt + 1, &format!("\"error\" {attempt}")));
        if attempt % 5 == 0 {
            journal.flush().await.unwrap();
        }
    }
    journal.shutdown().await;
    let (_journal, jobs) = dir.open().await;
    assert_eq!(jobs[0].attempt, 13);
    let expected: Vec<_> = (3..=12).map(|it| format!("\"error\" {it}")).collect();
    assert_eq!(jobs[0].errors, expected);
}

#[tokio::test]
async fn several_queues_share_a_file() {
    let dir = Dir::new();
    let (one, _) = Sqlite::open(dir.file()).start("one").await.unwrap();
    let (two, _) = Sqlite::open(dir.file()).start("t/w:o").await.unwrap();
    let first = append(&one, "1").await;
    append(&two, "2").await;
    append(&one, "3").await;
    one.end(first, End::Done);
    one.flush().await.unwrap();
    assert_eq!(one.arrived(), None);
    one.shutdown().await;
    two.shutdown().await;
    let (_one, jobs) = Sqlite::open(dir.file()).start("one").await.unwrap();
    assert_eq!(payloads(&jobs), ["3"]);
    let (_two, jobs) = Sqlite::open(dir.file()).start("t/w:o").await.unwrap();
    assert_eq!(payloads(&jobs), ["2"]);
}

#[tokio::test]
async fn after_the_shutdown_nothing_is_taken() {
    let dir = Dir::new();
    let (journal, _) = dir.open().await;
    journal.shutdown().await;
    journal.shutdown().await;
    let refused = journal.append(vec![job("late")]).await;
    assert!(matches!(refused, Err(BackendError::Unavailable { .. })));
    assert!(journal.flush().await.is_err());
    assert!(!journal.arrival().await);
}

#[test]
fn a_bound_that_cannot_be_kept_is_an_error() {
    let sqlite = Sqlite::open("jobs.db");
    assert_eq!(sqlite.bound(), 100_000);
    assert!(sqlite.check().is_ok());
    for bound in [0, u32::MAX as usize] {
        let error = sqlite.clone().capacity(bound).check().unwrap_err();
        assert!(error.to_string().contains("Sqlite::capacity"), "{error}");
    }
}

#[test]
fn a_row_is_a_number_and_back() {
    for row in [1, i64::MAX as u64] {
        assert_eq!(RowId::from_u64(row).to_u64(), row);
    }
}

#[tokio::test]
async fn a_commit_is_on_the_disk() {
    let dir = Dir::new();
    let mut file = OwnedFile::take(&dir.file(), "test").unwrap();
    let mut conn = file.open().await.unwrap();
    let synchronous: i64 = sqlx::query_scalar("PRAGMA synchronous")
        .fetch_one(&mut conn)
        .await
        .unwrap();
    let journal: String = sqlx::query_scalar("PRAGMA journal_mode")
        .fetch_one(&mut conn)
        .await
        .unwrap();
    // FULL.
    assert_eq!((synchronous, journal.as_str()), (2, "wal"));
}
