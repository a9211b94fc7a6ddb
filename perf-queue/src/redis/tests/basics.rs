use std::time::Duration;

use super::support::*;
use crate::model::changes::Clock as _;
use crate::remote::{How, NewJob, Remote, Rules};
use crate::{BackendError, JobId, Scope};

#[tokio::test]
async fn a_job_comes_as_it_was_enqueued() {
    let Some(remote) = open().await else { return };
    let job = NewJob {
        key: b"k\0\xff{}:".to_vec(),
        payload: vec![0, 255, 10, 13],
        trace: "00-abc".to_owned(),
        ..job("", 3)
    };
    remote.add(std::slice::from_ref(&job)).await;
    let exchange = remote.claim(10).await;
    let [granted] = exchange.granted.as_slice() else {
        panic!("{exchange:?}")
    };
    assert_eq!((granted.lease.id, &granted.key), (job.id, &job.key));
    assert_eq!(
        (&granted.payload, &granted.trace),
        (&job.payload, &job.trace)
    );
    assert_eq!((granted.attempt, granted.errors.len()), (1, 0));
    assert_eq!((granted.starts, granted.limited), (Duration::ZERO, false));
    assert!(granted.age < Duration::from_secs(5) && granted.waited <= granted.age);
    assert!(!exchange.paused && exchange.lost.is_empty());
    assert!(
        remote
            .settle(granted.lease, How::Done)
            .await
            .lost
            .is_empty()
    );
    assert_eq!(remote.counts().await.unwrap().in_flight, 0);
}

#[tokio::test]
async fn jobs_of_a_key_go_by_priority_and_then_in_their_order() {
    let Some(remote) = open().await else { return };
    let prioritised = |number, priority| NewJob {
        priority,
        ..job("k", number)
    };
    remote.add(&jobs("k", 0..3)).await;
    remote
        .add(&[
            prioritised(3, -128),
            prioritised(4, 1),
            prioritised(5, 127),
            prioritised(6, 1),
        ])
        .await;
    remote.add(&jobs("k", 7..8)).await;
    assert_eq!(numbers(&remote.claim(10).await), [5, 4, 6, 0, 1, 2, 7, 3]);
}

#[tokio::test]
async fn keys_take_turns() {
    let Some(remote) = open().await else { return };
    remote.add(&jobs("hot", 0..1_000)).await;
    remote.add(&jobs("cold", 1_000..1_002)).await;
    assert_eq!(numbers(&remote.claim(5).await), [0, 1_000, 1, 1_001, 2]);
    // Also where each call takes one.
    remote.add(&jobs("cold", 1_002..1_004)).await;
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.extend(numbers(&remote.claim(1).await));
    }
    assert_eq!(seen, [3, 1_002, 4, 1_003]);
}

#[tokio::test]
async fn an_id_that_is_there_is_not_added_twice() {
    let Some(remote) = open().await else { return };
    remote.add(&jobs("k", 0..2)).await;
    let twice = [job("k", 1), job("k", 2), job("k", 2)];
    let ids = remote.enqueue(&twice).await.unwrap().unwrap();
    assert_eq!(ids, [twice[0].id, twice[1].id, twice[2].id]);
    let exchange = remote.claim(10).await;
    assert_eq!(numbers(&exchange), [0, 1, 2]);
    // In flight, and as a dead letter.
    remote.add(&jobs("k", 0..1)).await;
    let how = How::Dead {
        error: "no".to_owned(),
    };
    remote.settle(exchange.granted[0].lease, how).await;
    remote.add(&jobs("k", 0..1)).await;
    assert_eq!(remote.claim(10).await.granted, []);
}

#[tokio::test]
async fn a_batch_is_added_whole_or_not_at_all() {
    let Some(backend) = backend().await else {
        return;
    };
    let remote = backend.capacity(5).open("q", None).await.unwrap();
    remote.add(&jobs("k", 0..3)).await;
    let mut named = jobs("k", 3..6);
    named[2].unique = Some(("name".to_owned(), LONG));
    assert_eq!(remote.enqueue(&named).await.unwrap(), None);
    assert_eq!(remote.counts().await.unwrap().ready, 3);
    // Neither was the name taken, nor does what is there already need room.
    let mut fitting = jobs("k", 0..5);
    fitting[4].unique = Some(("name".to_owned(), LONG));
    remote.add(&fitting).await;
    // Running jobs count, done ones and dead letters do not.
    let granted = remote.claim(5).await.granted;
    assert_eq!(remote.enqueue(&jobs("k", 5..6)).await.unwrap(), None);
    let dead = How::Dead {
        error: String::new(),
    };
    remote.settle(granted[0].lease, dead).await;
    remote.settle(granted[1].lease, How::Done).await;
    remote.add(&jobs("k", 5..7)).await;
    assert_eq!(remote.enqueue(&jobs("k", 7..8)).await.unwrap(), None);
}

#[tokio::test]
async fn a_name_is_taken_for_its_time_also_when_the_job_is_done() {
    let Some(remote) = open().await else { return };
    let unique = |number, time| NewJob {
        unique: Some(("welcome".to_owned(), time)),
        ..job("k", number)
    };
    let batch = [job("k", 0), unique(1, LONG), unique(2, LONG), job("k", 3)];
    let ids = remote.enqueue(&batch).await.unwrap().unwrap();
    let id = |number| JobId::new(7, number);
    assert_eq!(ids, [id(0), id(1), id(1), id(3)]);
    let exchange = remote.claim(10).await;
    assert_eq!(exchange.granted.len(), 3);
    remote.tell(&done(&exchange.granted)).await;
    let ids = remote.enqueue(&[unique(4, LONG)]).await.unwrap().unwrap();
    assert_eq!(ids, [id(1)]);
    // The retry of a lost answer says the same as the answer did.
    let ids = remote.enqueue(&[unique(1, LONG)]).await.unwrap().unwrap();
    assert_eq!(ids, [id(1)]);
    assert!(remote.claim(10).await.granted.is_empty());
}

#[tokio::test]
async fn a_name_is_free_again_after_its_time() {
    let Some(remote) = open().await else { return };
    let unique = |number| NewJob {
        unique: Some(("n".to_owned(), 30 * MS)),
        ..job("k", number)
    };
    remote.add(&[unique(1)]).await;
    loop {
        let ids = remote.enqueue(&[unique(2)]).await.unwrap().unwrap();
        if ids == [JobId::new(7, 2)] {
            break;
        }
        tokio::time::sleep(5 * MS).await;
    }
    assert_eq!(numbers(&remote.claim(10).await), [1, 2]);
}

#[tokio::test]
async fn a_delayed_job_comes_when_it_is_due_and_takes_its_place_then() {
    // Sooner than a lease ends.
    const DELAY: Duration = Duration::from_secs(15);
    let Some(remote) = open().await else { return };
    let delayed = NewJob {
        delay: DELAY,
        ..job("k", 0)
    };
    remote.add(&[delayed]).await;
    remote.add(&jobs("k", 1..2)).await;
    let exchange = remote.claim(10).await;
    assert_eq!(numbers(&exchange), [1]);
    let next = exchange.next.unwrap();
    assert!(next <= DELAY && next > DELAY / 2, "{next:?}");
    let counts = remote.counts().await.unwrap();
    assert_eq!((counts.scheduled, counts.in_flight), (1, 1));
    remote.tell(&done(&exchange.granted)).await;
    remote.advance(next).await;
    // Enqueued after it was due, so behind it, though nobody asked in between.
    remote.add(&jobs("k", 2..3)).await;
    let exchange = remote.claim(10).await;
    assert_eq!(numbers(&exchange), [0, 2]);
    assert!(exchange.granted[0].waited < exchange.granted[0].age - DELAY / 2);
}

#[tokio::test]
async fn an_empty_queue_has_nothing_to_wait_for() {
    let Some(remote) = open().await else { return };
    let exchange = remote.claim(10).await;
    assert_eq!((exchange.granted.len(), exchange.next), (0, None));
    remote.add(&jobs("k", 0..2)).await;
    assert_eq!(remote.claim(1).await.next, Some(Duration::ZERO));
    assert_eq!(remote.enqueue(&[]).await.unwrap(), Some(Vec::new()));
}

#[tokio::test]
async fn while_paused_nobody_gets_a_job() {
    let Some(backend) = backend().await else {
        return;
    };
    let remote = backend.clone().open("q", None).await.unwrap();
    let other = backend.open("q", None).await.unwrap();
    remote.add(&jobs("k", 0..1)).await;
    other.pause(true).await.unwrap();
    let exchange = remote.claim(10).await;
    assert!(exchange.paused && exchange.granted.is_empty() && exchange.next.is_none());
    assert!(remote.counts().await.unwrap().paused);
    other.pause(false).await.unwrap();
    assert_eq!(remote.claim(10).await.granted.len(), 1);
}

#[tokio::test]
async fn processes_that_set_one_limit_each_keep_the_other() {
    let Some(backend) = backend().await else {
        return;
    };
    let one = backend.clone().open("q", None).await.unwrap();
    let two = backend.open("q", None).await.unwrap();
    for n in 1..40 {
        let (queue, key) = (
            Some(quota(n, 1_000 * MS, 1)),
            Some(quota(n + 1, 500 * MS, 1)),
        );
        let set = tokio::join!(
            one.set_rate(Scope::Queue, queue),
            two.set_rate(Scope::Key, key)
        );
        assert!(set.0.is_ok() && set.1.is_ok(), "{set:?}");
        let rules = one.rules().await.unwrap().unwrap();
        assert_eq!((rules.queue, rules.key), (queue, key));
    }
}

#[tokio::test]
async fn rules_are_shared_and_the_last_win() {
    let Some(backend) = backend().await else {
        return;
    };
    let remote = backend.clone().open("q", None).await.unwrap();
    assert_eq!(remote.rules().await.unwrap(), None);
    let rules = Rules {
        queue: Some(quota(30, Duration::from_secs(1), 1)),
        key: Some(quota(20, Duration::from_secs(60), 20)),
        concurrency_per_key: Some(1),
    };
    let other = backend.clone().open("q", Some(&rules)).await.unwrap();
    assert_eq!(remote.rules().await.unwrap(), Some(rules));
    remote.set_rules(&Rules::default()).await.unwrap();
    assert_eq!(other.rules().await.unwrap(), Some(Rules::default()));
    // Who does not bring any leaves them as they are.
    drop(backend.open("q", None).await.unwrap());
    assert_eq!(other.rules().await.unwrap(), Some(Rules::default()));
}

#[tokio::test]
async fn queues_of_other_names_are_apart() {
    let Some(backend) = backend().await else {
        return;
    };
    let one = backend.clone().open("one", None).await.unwrap();
    let two = backend.open("two", None).await.unwrap();
    one.add(&jobs("k", 0..1)).await;
    assert!(two.claim(10).await.granted.is_empty());
}

#[tokio::test]
async fn a_forgetful_server_is_refused_with_the_remedy() {
    let Some(server) = testkit::Redis::shared().await else {
        return;
    };
    let backend = crate::Redis::connect(server.url()).prefix(server.prefix());
    let error = backend.open("q", None).await.unwrap_err();
    let BackendError::Unfit { reason, .. } = error else {
        panic!("{error}")
    };
    assert!(
        reason.contains("appendonly yes") && reason.contains("allow_data_loss"),
        "{reason}"
    );
}

#[tokio::test]
async fn errors_say_whether_to_try_again() {
    let nobody = crate::Redis::connect("redis://127.0.0.1:1/")
        .open("q", None)
        .await;
    assert!(nobody.unwrap_err().is_retryable());
    let nonsense = crate::Redis::connect("http://127.0.0.1/")
        .open("q", None)
        .await;
    assert!(!nonsense.unwrap_err().is_retryable());
    assert!(crate::Redis::connect("").capacity(0).check().is_err());
    let hidden = format!("{:?}", crate::Redis::connect("redis://:secret@h/"));
    assert!(!hidden.contains("secret"), "{hidden}");
}
