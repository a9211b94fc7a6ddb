use super::*;

#[tokio::test]
async fn jobs_are_there_again_in_their_order() {
    let dir = Dir::new();
    let (journal, jobs) = dir.open().await;
    assert_eq!(jobs, []);
    append(&journal, "a").await;
    append(&journal, "b").await;
    append(&journal, "c").await;
    journal.shutdown().await;
    let (_journal, jobs) = dir.open().await;
    assert_eq!(payloads(&jobs), ["a", "b", "c"]);
    assert!(jobs.iter().all(|job| job.attempt == 1 && !job.blocks));
    assert!(jobs.iter().all(|job| job.due.is_zero()));
}
