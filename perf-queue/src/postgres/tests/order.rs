use super::support::*;
use crate::remote::{How, Remote, Rules};

fn one_by_one() -> Rules {
    Rules {
        concurrency_per_key: Some(1),
        ..Rules::default()
    }
}

#[tokio::test]
async fn keys_take_turns() {
    let Some(remote) = open(Rules::default()).await else {
        return;
    };
    let (hot, cold) = (jobs("hot", 1_000), jobs("cold", 1));
    add(&remote, &hot).await;
    add(&remote, &cold).await;
    let first = take(&remote, 2).await;
    assert_eq!(got(&first), [hot[0].id, cold[0].id]);
    let second = remote
        .exchange(&[end(&first.granted[0], How::Released)], want(2))
        .await
        .unwrap();
    assert_eq!(got(&second), [hot[0].id, hot[1].id]);
    assert_eq!(second.granted[0].attempt, 1);
}

#[tokio::test]
async fn delayed_jobs_go_in_the_order_in_which_they_fell_due() {
    for key in ["", "k"] {
        let Some(remote) = open(Rules::default()).await else {
            return;
        };
        let mut all = jobs(key, 900);
        for (i, job) in all.iter_mut().enumerate() {
            job.delay = ms(1 + i as u64 * 7_919 % 900);
        }
        add(&remote, &all).await;
        while remote.counts().await.unwrap().scheduled > 0 {
            tokio::task::yield_now().await;
        }
        all.sort_by_key(|job| job.delay);
        let mut granted = Vec::new();
        while granted.len() < all.len() {
            granted.extend(got(&take(&remote, 1_000).await));
        }
        assert_eq!(granted, ids(&all));
    }
}

#[tokio::test]
async fn jobs_with_and_without_keys_share_and_none_is_left() {
    let Some(remote) = open(Rules::default()).await else {
        return;
    };
    add(&remote, &[jobs("k", 30), jobs("", 30)].concat()).await;
    let both = take(&remote, 10).await;
    let keyed = |exchange: &crate::remote::Exchange| {
        exchange
            .granted
            .iter()
            .filter(|job| !job.key.is_empty())
            .count()
    };
    assert_eq!((both.granted.len(), keyed(&both)), (10, 5));
    let rest = take(&remote, 100).await;
    assert_eq!((rest.granted.len(), keyed(&rest)), (50, 25));
    let unkeyed = jobs("", 20);
    add(&remote, &unkeyed).await;
    assert_eq!(got(&take(&remote, 30).await), ids(&unkeyed));
}

#[tokio::test]
async fn the_highest_priority_of_a_key_goes_first() {
    let Some(remote) = open(Rules::default()).await else {
        return;
    };
    for key in ["", "k"] {
        let mut all = jobs(key, 4);
        for (job, priority) in all.iter_mut().zip([0, -128, 127, 0]) {
            job.priority = priority;
        }
        add(&remote, &all).await;
        let expected = [all[2].id, all[0].id, all[3].id, all[1].id];
        let taken = take(&remote, 9).await;
        assert_eq!(got(&taken), expected);
        // Released, it is first of its key, whatever its priority.
        let last = &taken.granted[3];
        all[2].id = id();
        add(&remote, &all[2..3]).await;
        let next = remote
            .exchange(&[end(last, How::Released)], want(9))
            .await
            .unwrap();
        assert_eq!(got(&next), [expected[3], all[2].id]);
    }
}

#[tokio::test]
async fn one_at_a_time_keeps_the_order_through_retries_snoozes_and_releases() {
    let Some(remote) = open(one_by_one()).await else {
        return;
    };
    let (a, b) = (jobs("a", 3), jobs("b", 1));
    add(&remote, &a).await;
    add(&remote, &b).await;
    let taken = take(&remote, 9).await;
    assert_eq!(got(&taken), [a[0].id, b[0].id]);
    let hows = [
        How::Retry {
            after: ms(30),
            error: "one".to_owned(),
        },
        How::Snooze {
            after: ms(30),
            penalty: None,
        },
        How::Released,
        How::Retry {
            after: ms(0),
            error: "two".to_owned(),
        },
    ];
    let mut head = taken.granted[0].clone();
    for (i, how) in hows.into_iter().enumerate() {
        let answer = remote.exchange(&[end(&head, how)], want(9)).await.unwrap();
        if i < 2 {
            assert!(answer.granted.is_empty(), "it blocks its key");
        }
        let answer = match answer.granted.len() {
            0 => take_until(&remote, want(9)).await,
            _ => answer,
        };
        assert_eq!(got(&answer), [a[0].id]);
        head = answer.granted[0].clone();
    }
    assert_eq!(
        (head.attempt, &*head.errors),
        (3, &["one".to_owned(), "two".to_owned()][..])
    );
    let second = remote.exchange(&[done(&head)], want(9)).await.unwrap();
    assert_eq!(got(&second), [a[1].id]);
}

#[tokio::test]
async fn side_by_side_a_retry_steps_aside_and_rejoins_last() {
    for key in ["", "k"] {
        let Some(remote) = open(Rules::default()).await else {
            return;
        };
        let all = jobs(key, 3);
        add(&remote, &all).await;
        let first = take(&remote, 1).await;
        let how = How::Retry {
            after: ms(0),
            error: "x".to_owned(),
        };
        let rest = remote
            .exchange(&[end(&first.granted[0], how)], want(9))
            .await
            .unwrap();
        assert_eq!(got(&rest), [all[1].id, all[2].id, all[0].id]);
        assert_eq!(rest.granted[2].attempt, 2);
    }
}

#[tokio::test]
async fn no_more_jobs_of_a_key_run_than_may() {
    let rules = Rules {
        concurrency_per_key: Some(2),
        ..Rules::default()
    };
    let Some(remote) = open(rules).await else {
        return;
    };
    let (a, b) = (jobs("a", 5), jobs("b", 1));
    add(&remote, &a).await;
    add(&remote, &b).await;
    let taken = take(&remote, 9).await;
    assert_eq!(got(&taken), [a[0].id, b[0].id, a[1].id]);
    assert_eq!(remote.counts().await.unwrap().limited, 3);
    assert!(take(&remote, 9).await.granted.is_empty());
    let more = remote
        .exchange(&[done(&taken.granted[0])], want(9))
        .await
        .unwrap();
    assert_eq!(got(&more), [a[2].id]);
    // Changed while jobs run: those count.
    remote
        .set_rules(&Rules {
            concurrency_per_key: None,
            ..rules
        })
        .await
        .unwrap();
    remote
        .set_rules(&Rules {
            concurrency_per_key: Some(3),
            ..rules
        })
        .await
        .unwrap();
    assert_eq!(got(&take(&remote, 9).await), [a[3].id]);
}
