use super::support::*;
use crate::remote::{How, Remote, Rules};

#[tokio::test]
async fn jobs_come_in_the_order_of_enqueue_and_are_gone_when_done() {
    let Some(remote) = open(Rules::default()).await else {
        return;
    };
    let all = jobs("", 5);
    add(&remote, &all).await;
    let first = take(&remote, 3).await;
    assert_eq!(got(&first), ids(&all)[..3]);
    let ended: Vec<_> = first.granted.iter().map(done).collect();
    let rest = remote.exchange(&ended, want(10)).await.unwrap();
    assert_eq!(got(&rest), ids(&all)[3..]);
    assert!(rest.lost.is_empty());
    let ended: Vec<_> = rest.granted.iter().map(done).collect();
    let none = remote.exchange(&ended, want(10)).await.unwrap();
    assert_eq!((none.granted.len(), none.next), (0, None));
    assert_eq!(
        remote.counts().await.unwrap(),
        crate::remote::Counts::default()
    );
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
}
