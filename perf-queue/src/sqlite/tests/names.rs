use super::*;

fn named(name: &str, time: Duration) -> NewJob {
    let mut job = job(name);
    job.unique = Some((name.to_owned(), time));
    job
}

const HOUR: Duration = Duration::from_secs(3_600);

#[tokio::test]
async fn a_name_is_taken_for_its_time() {
    let dir = Dir::new();
    let (journal, _) = dir.open().await;
    let first = journal.append(vec![named("a", HOUR)]).await.unwrap();
    let batch = vec![
        job("x"),
        named("a", HOUR),
        named("b", HOUR),
        named("b", HOUR),
    ];
    let ids: Vec<_> = batch.iter().map(|job| job.id).collect();
    let added = journal.append(batch).await.unwrap();
    assert_eq!(added[0].id, ids[0]);
    assert_eq!((added[1].id, added[1].row), (first[0].id, None));
    assert_eq!(added[2].id, ids[2]);
    assert_eq!((added[3].id, added[3].row), (ids[2], None));
    // Also if the job is done, and after a restart.
    journal.end(first[0].row.unwrap(), End::Done);
    journal.shutdown().await;
    let (journal, jobs) = dir.open().await;
    assert_eq!(payloads(&jobs), ["x", "b"]);
    let again = journal.append(vec![named("a", HOUR)]).await.unwrap();
    assert_eq!((again[0].id, again[0].row), (first[0].id, None));
}

#[tokio::test]
async fn a_name_is_free_after_its_time() {
    let dir = Dir::new();
    let (journal, _) = dir.open().await;
    journal.append(vec![named("a", HOUR)]).await.unwrap();
    journal.flush().await.unwrap();
    sql(
        &dir.file(),
        "UPDATE perf_queue_unique SET until = until - 3600001",
    )
    .await;
    let again = journal.append(vec![named("a", HOUR)]).await.unwrap();
    assert!(again[0].row.is_some());
    let kept = number(&dir.file(), "SELECT count(*) FROM perf_queue_unique").await;
    assert_eq!(kept, 1);
}

#[tokio::test]
async fn a_name_is_of_its_queue() {
    let dir = Dir::new();
    let (one, _) = Sqlite::open(dir.file()).start("one").await.unwrap();
    let (two, _) = Sqlite::open(dir.file()).start("two").await.unwrap();
    for journal in [one, two] {
        let added = journal.append(vec![named("a", HOUR)]).await.unwrap();
        assert!(added[0].row.is_some());
    }
}
