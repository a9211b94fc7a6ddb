use std::time::Duration;

use tokio::time::timeout;

use super::support::*;
use crate::redis::RedisRemote;
use crate::remote::{How, NewJob, Remote, Rules};

/// Two processes of one queue; the second has subscribed and heard nothing since.
async fn two() -> Option<(RedisRemote, RedisRemote)> {
    let backend = backend().await?;
    let one = backend.clone().open("q", None).await.unwrap();
    let two = backend.open("q", None).await.unwrap();
    woken(&two).await;
    Some((one, two))
}

async fn woken(remote: &RedisRemote) {
    timeout(Duration::from_secs(10), remote.woken())
        .await
        .unwrap();
}

async fn is_quiet(remote: &RedisRemote) -> bool {
    timeout(50 * MS, remote.woken()).await.is_err()
}

#[tokio::test]
async fn a_process_is_woken_by_the_first_job_and_not_by_those_behind_it() {
    let Some((one, two)) = two().await else {
        return;
    };
    assert!(is_quiet(&two).await);
    one.add(&jobs("k", 0..100)).await;
    woken(&two).await;
    one.add(&jobs("k", 100..200)).await;
    one.add(&jobs("j", 200..300)).await;
    assert!(is_quiet(&two).await);
    assert_eq!(two.claim(1_000).await.granted.len(), 300);
    one.add(&jobs("k", 300..301)).await;
    woken(&two).await;
}

#[tokio::test]
async fn a_process_is_woken_by_a_job_that_falls_due_before_any_other() {
    let Some((one, two)) = two().await else {
        return;
    };
    let delayed = |number, delay| NewJob {
        delay,
        ..job("k", number)
    };
    one.add(&[delayed(0, LONG)]).await;
    woken(&two).await;
    one.add(&[delayed(1, LONG)]).await;
    assert!(is_quiet(&two).await);
    one.add(&[delayed(2, LONG / 2)]).await;
    woken(&two).await;
}

#[tokio::test]
async fn a_process_is_woken_by_changed_rules_and_by_the_end_of_a_pause() {
    let Some((one, two)) = two().await else {
        return;
    };
    one.set_rules(&one_per_key()).await.unwrap();
    woken(&two).await;
    one.set_rules(&one_per_key()).await.unwrap();
    one.pause(true).await.unwrap();
    one.add(&jobs("k", 0..1)).await;
    assert!(is_quiet(&two).await);
    one.pause(false).await.unwrap();
    woken(&two).await;
}

#[tokio::test]
async fn a_process_is_woken_by_what_another_gives_back_or_leaves() {
    let Some((one, two)) = two().await else {
        return;
    };
    one.add(&jobs("k", 0..1)).await;
    woken(&two).await;
    let lease = one.claim(1).await.granted[0].lease;
    one.settle(lease, How::Released).await;
    woken(&two).await;
    let lease = one.claim(1).await.granted[0].lease;
    one.settle(lease, retry(LONG)).await;
    woken(&two).await;
    // Jobs that were freed by the end of another, and of which one took its part.
    one.set_rules(&one_per_key()).await.unwrap();
    woken(&two).await;
    one.add(&jobs("a", 1..3)).await;
    one.add(&jobs("b", 3..5)).await;
    woken(&two).await;
    let granted = one.claim(10).await.granted;
    assert_eq!(granted.len(), 2);
    let exchange = one.exchange(&done(&granted), want(1)).await.unwrap();
    assert_eq!(exchange.granted.len(), 1);
    woken(&two).await;
    assert_eq!(two.claim(10).await.granted.len(), 1);
}

#[tokio::test]
async fn a_process_that_takes_jobs_by_a_limit_does_not_wake_itself_for_ever() {
    let Some(backend) = backend().await else {
        return;
    };
    let rules = Rules {
        queue: Some(quota(1_000, Duration::from_secs(1), 1)),
        key: Some(quota(100, Duration::from_secs(1), 1)),
        ..Rules::default()
    };
    let remote = backend.open("q", Some(&rules)).await.unwrap();
    for key in 0..10 {
        remote
            .add(&jobs(&key.to_string(), 100 * key..100 * key + 50))
            .await;
    }
    woken(&remote).await;
    let mut trips = 0;
    let mut seen = 0;
    let mut wanted = want(10);
    wanted.within = 20 * MS;
    loop {
        let exchange = remote.exchange(&[], wanted).await.unwrap();
        trips += 1;
        seen += exchange.granted.len();
        if seen == 500 {
            break;
        }
        let _ = timeout(exchange.next.unwrap_or(MS), remote.woken()).await;
    }
    assert!(trips < 600, "{trips} trips");
}
