use super::*;

const HOUR: Duration = Duration::from_secs(3_600);

async fn reopened(dir: &Dir, journal: Journal) -> Vec<Stored> {
    journal.shutdown().await;
    dir.open().await.1
}

#[tokio::test]
async fn the_highest_priority_comes_first() {
    let dir = Dir::new();
    let (journal, _) = dir.open().await;
    let jobs = [("a", 0), ("b", 5), ("c", -5), ("d", 5)].map(|(name, priority)| {
        let mut job = job(name);
        job.priority = priority;
        job
    });
    journal.append(jobs.into()).await.unwrap();
    let jobs = reopened(&dir, journal).await;
    assert_eq!(payloads(&jobs), ["b", "d", "a", "c"]);
}

#[tokio::test]
async fn a_delayed_job_takes_its_place_when_it_falls_due() {
    let dir = Dir::new();
    let (journal, _) = dir.open().await;
    let mut late = job("late");
    late.delay = HOUR;
    journal.append(vec![late, job("now")]).await.unwrap();
    let jobs = reopened(&dir, journal).await;
    assert_eq!(payloads(&jobs), ["now", "late"]);
}

#[tokio::test]
async fn a_retry_that_keeps_its_place_blocks() {
    let dir = Dir::new();
    let (journal, _) = dir.open().await;
    let first = append(&journal, "first").await;
    append(&journal, "second").await;
    journal.started(first);
    let end = End::Retry {
        attempt: 2,
        after: HOUR,
        place: Place::Kept,
        error: "no".to_owned(),
    };
    journal.end(first, end);
    let jobs = reopened(&dir, journal).await;
    assert_eq!(payloads(&jobs), ["first", "second"]);
    assert!(jobs[0].blocks && !jobs[1].blocks);
    assert!(jobs[0].due > HOUR - Duration::from_secs(10));
}

#[tokio::test]
async fn a_retry_that_rejoins_comes_when_it_is_due() {
    let dir = Dir::new();
    let (journal, _) = dir.open().await;
    let first = append(&journal, "first").await;
    append(&journal, "second").await;
    let snooze = End::Snooze {
        after: HOUR,
        place: Place::Rejoins,
    };
    journal.end(first, snooze);
    let jobs = reopened(&dir, journal).await;
    assert_eq!(payloads(&jobs), ["second", "first"]);
    assert!(!jobs[1].blocks && jobs[1].attempt == 1);
}

#[tokio::test]
async fn a_blocking_job_comes_first_whatever_its_priority() {
    let dir = Dir::new();
    let (journal, _) = dir.open().await;
    let mut low = job("low");
    low.priority = -1;
    let low = rows(&journal.append(vec![low, job("high")]).await.unwrap())[0];
    let snooze = End::Snooze {
        after: HOUR,
        place: Place::Kept,
    };
    journal.end(low, snooze);
    let jobs = reopened(&dir, journal).await;
    assert_eq!(payloads(&jobs), ["low", "high"]);
}

#[tokio::test]
async fn the_order_survives_a_clock_that_is_set_back() {
    let dir = Dir::new();
    let (journal, _) = dir.open().await;
    append(&journal, "first").await;
    append(&journal, "second").await;
    journal.shutdown().await;
    sql(
        &dir.file(),
        "UPDATE perf_queue_job SET enqueued = enqueued - 60000 WHERE seq = 2",
    )
    .await;
    assert_eq!(payloads(&dir.open().await.1), ["first", "second"]);
}
