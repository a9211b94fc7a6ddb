use sqlx::{Connection, SqliteConnection};

use super::*;
use crate::EnqueueInError;

async fn connect(path: &Path) -> SqliteConnection {
    let url = format!("sqlite://{}", path.display());
    SqliteConnection::connect(&url).await.unwrap()
}

#[tokio::test]
async fn a_job_arrives_when_its_transaction_commits() {
    let dir = Dir::new();
    let (journal, _) = dir.open().await;
    let mut conn = connect(&dir.file()).await;
    let mut tx = conn.begin().await.unwrap();
    let one = journal.enqueue_in(&mut tx, job("one")).await.unwrap();
    let two = journal.enqueue_in(&mut tx, job("two")).await.unwrap();
    assert_eq!(journal.arrived(), None);
    tx.commit().await.unwrap();
    let arrived = arrived(&journal).await;
    let ids: Vec<_> = arrived.iter().map(|job| job.id).collect();
    assert_eq!(ids, [one, two]);
    assert_eq!(payloads(&arrived), ["one", "two"]);
    // Once.
    append(&journal, "three").await;
    assert_eq!(journal.arrived(), None);
}

#[tokio::test]
async fn a_job_vanishes_with_its_transaction() {
    let dir = Dir::new();
    let (journal, _) = dir.open().await;
    let mut conn = connect(&dir.file()).await;
    let mut tx = conn.begin().await.unwrap();
    journal.enqueue_in(&mut tx, job("never")).await.unwrap();
    tx.rollback().await.unwrap();
    append(&journal, "own").await;
    assert_eq!(journal.arrived(), None);
    journal.shutdown().await;
    assert_eq!(payloads(&dir.open().await.1), ["own"]);
}

#[tokio::test]
async fn a_committed_job_is_seen_before_a_later_append_returns() {
    let dir = Dir::new();
    let (journal, _) = dir.open().await;
    let mut conn = connect(&dir.file()).await;
    for at in 0..50 {
        let mut tx = conn.begin().await.unwrap();
        let id = journal.enqueue_in(&mut tx, job(at.to_string())).await;
        tx.commit().await.unwrap();
        append(&journal, "later").await;
        let arrived = journal.arrived().unwrap();
        assert_eq!(arrived[0].id, id.unwrap());
    }
}

#[tokio::test]
async fn rows_of_other_processes_arrive() {
    let dir = Dir::new();
    let (journal, _) = dir.open().await;
    let queue = number(&dir.file(), "SELECT id FROM perf_queue").await;
    let insert = format!(
        "INSERT INTO perf_queue_job (queue, id_hi, id_lo, enqueued, payload)
         VALUES ({queue}, 1, 2, 0, 'text')"
    );
    sql(&dir.file(), &insert).await;
    let arrived = arrived(&journal).await;
    assert_eq!(arrived[0].id, JobId::new(1, 2));
}

#[tokio::test]
async fn many_jobs_arrive_in_the_order_of_commit() {
    let dir = Dir::new();
    let (journal, _) = dir.open().await;
    let queue = number(&dir.file(), "SELECT id FROM perf_queue").await;
    const MANY: u64 = 40_000;
    let insert = format!(
        "INSERT INTO perf_queue_job (queue, id_hi, id_lo, enqueued, payload)
         SELECT {queue}, 1, value, 0, 'text' FROM generate_series(1, {MANY})"
    );
    // The extension is not part of every build.
    let insert = insert.replace(
        &format!("generate_series(1, {MANY})"),
        &format!(
            "(WITH RECURSIVE n(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n \
             WHERE value < {MANY}) SELECT value FROM n)"
        ),
    );
    sql(&dir.file(), &insert).await;
    // More than wait at once; an append in between must not wait for them.
    append(&journal, "own").await;
    let mut next = 1;
    while next <= MANY {
        for job in arrived(&journal).await {
            assert_eq!(job.id, JobId::new(1, next));
            next += 1;
        }
    }
    assert_eq!(journal.arrived(), None);
}

#[tokio::test]
async fn a_unique_name_is_taken_across_transactions() {
    let dir = Dir::new();
    let (journal, _) = dir.open().await;
    let mut conn = connect(&dir.file()).await;
    let mut tx = conn.begin().await.unwrap();
    let named = || {
        let mut job = job("named");
        job.unique = Some(("name".to_owned(), Duration::from_secs(60)));
        job
    };
    let id = journal.enqueue_in(&mut tx, named()).await.unwrap();
    assert_eq!(journal.enqueue_in(&mut tx, named()).await.unwrap(), id);
    tx.commit().await.unwrap();
    let added = journal.append(vec![named()]).await.unwrap();
    assert_eq!((added[0].id, added[0].row), (id, None));
}

#[tokio::test]
async fn another_file_and_no_transaction_are_errors() {
    let dir = Dir::new();
    let (journal, _) = dir.open().await;
    let mut conn = connect(&dir.file()).await;
    let refused = journal.enqueue_in(&mut conn, job("lone")).await;
    assert!(matches!(refused, Err(EnqueueInError::NoTransaction)));
    for other in ["sqlite::memory:".to_owned(), {
        let other = dir.dir.path().join("other.db");
        format!("sqlite://{}?mode=rwc", other.display())
    }] {
        let mut conn = SqliteConnection::connect(&other).await.unwrap();
        let mut tx = conn.begin().await.unwrap();
        let refused = journal.enqueue_in(&mut tx, job("lost")).await.unwrap_err();
        assert!(matches!(refused, EnqueueInError::OtherFile { .. }));
        assert!(refused.to_string().contains("jobs.db"), "{refused}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn another_name_of_the_same_file_is_the_same_file() {
    let dir = Dir::new();
    let (journal, _) = dir.open().await;
    let link = dir.file().with_extension("link");
    std::os::unix::fs::symlink(dir.file(), &link).unwrap();
    let mut conn = connect(&link).await;
    let mut tx = conn.begin().await.unwrap();
    journal.enqueue_in(&mut tx, job("linked")).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(payloads(&arrived(&journal).await), ["linked"]);
}

#[tokio::test]
async fn a_strange_row_is_taken_for_a_job() {
    let dir = Dir::new();
    let (journal, _) = dir.open().await;
    let insert = "INSERT INTO perf_queue_job
        (queue, id_hi, id_lo, enqueued, payload, priority, attempt, due, trace, errors)
        SELECT id, 'x', 1.5, 'y', 17, 1000, -3, 'soon', x'ff', '{' FROM perf_queue";
    sql(&dir.file(), insert).await;
    let arrived = arrived(&journal).await;
    assert_eq!(arrived[0].payload, b"17");
    assert_eq!((arrived[0].attempt, arrived[0].priority), (1, 127));
    assert_eq!(arrived[0].errors, [""; 0]);
    journal.shutdown().await;
    let (_journal, jobs) = dir.open().await;
    assert_eq!(jobs[0].payload, b"17");
}

#[tokio::test]
async fn a_transaction_that_has_read_what_is_old_by_now_is_told_so() {
    let dir = Dir::new();
    let (journal, _) = dir.open().await;
    let mut conn = connect(&dir.file()).await;
    let mut tx = conn.begin().await.unwrap();
    let read = sqlx::query("SELECT count(*) FROM perf_queue_job");
    read.execute(&mut *tx).await.unwrap();
    append(&journal, "newer").await;
    let refused = journal.enqueue_in(&mut tx, job("stale")).await.unwrap_err();
    assert!(
        matches!(refused, EnqueueInError::Stale { .. }),
        "{refused:?}"
    );
    tx.rollback().await.unwrap();
    // A job with a name reads, too, and still there is no need for an immediate transaction.
    let mut tx = conn.begin().await.unwrap();
    let mut named = job("named");
    named.unique = Some(("name".to_owned(), Duration::from_secs(60)));
    journal.enqueue_in(&mut tx, named).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(payloads(&arrived(&journal).await), ["named"]);
}
