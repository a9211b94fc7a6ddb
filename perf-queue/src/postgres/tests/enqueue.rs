use std::time::Duration;

use sqlx::PgPool;

use super::support::*;
use crate::model::changes::Clock as _;
use crate::postgres::batch::Added;
use crate::remote::{Counts, How, Remote, Rules};

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
    assert_eq!(remote.counts().await.unwrap(), Counts::default());
}

#[tokio::test]
async fn a_job_comes_as_it_was_given() {
    let Some(remote) = open(Rules::default()).await else {
        return;
    };
    for key in [vec![], vec![0, 255], vec![7; 5_000]] {
        let mut job = job("");
        job.key = key;
        job.payload = vec![0, 1, 255];
        job.trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned();
        add(&remote, std::slice::from_ref(&job)).await;
        let got = take(&remote, 2).await.granted.pop().unwrap();
        assert_eq!(
            (got.lease.id, got.key, got.payload, got.trace, got.attempt),
            (job.id, job.key, job.payload, job.trace, 1)
        );
        assert!(got.errors.is_empty() && !got.limited && got.starts.is_zero());
        assert!(got.age < Duration::from_secs(10) && got.waited <= got.age);
    }
}

#[tokio::test]
async fn an_id_that_is_there_is_not_added_twice() {
    let Some(remote) = open(Rules::default()).await else {
        return;
    };
    let all = jobs("k", 3);
    add(&remote, &all).await;
    take(&remote, 1).await;
    let more = [all.clone(), jobs("k", 1)].concat();
    add(&remote, &more).await;
    add(&remote, &all).await;
    assert_eq!(got(&take(&remote, 9).await), ids(&more)[1..]);
}

#[tokio::test]
async fn a_batch_that_does_not_fit_is_not_added_at_all() {
    let Some(backend) = backend().await else {
        return;
    };
    let remote = backend.capacity(5).open("q", None).await.unwrap();
    let all = jobs("", 4);
    add(&remote, &all).await;
    assert_eq!(remote.enqueue(&jobs("", 2)).await.unwrap(), None);
    assert_eq!(remote.counts().await.unwrap().ready, 4);
    // An id that is there takes no room.
    let again = [all.clone(), jobs("", 1)].concat();
    add(&remote, &again).await;
    assert_eq!(remote.enqueue(&jobs("", 1)).await.unwrap(), None);
    add(&remote, &again).await;
    let first = take(&remote, 1).await;
    assert_eq!(
        remote.enqueue(&jobs("", 1)).await.unwrap(),
        None,
        "it is not done"
    );
    let how = How::Dead {
        error: "no".to_owned(),
    };
    remote
        .exchange(&[end(&first.granted[0], how)], want(0))
        .await
        .unwrap();
    let dead = first.granted[0].lease.id;
    add(&remote, &jobs("", 1)).await;
    assert_eq!(remote.replay(dead).await.unwrap(), None);
}

#[tokio::test]
async fn a_name_is_taken_for_its_time() {
    let Some(remote) = open(Rules::default()).await else {
        return;
    };
    let named = |name: &str, time| {
        let mut job = job("");
        job.unique = Some((name.to_owned(), time));
        job
    };
    let hour = Duration::from_secs(3_600);
    let (first, second, other) = (named("a", hour), named("a", hour), named("b", hour));
    let batch = [first.clone(), second.clone(), other.clone(), job("")];
    let under = remote.enqueue(&batch).await.unwrap().unwrap();
    assert_eq!(under, [first.id, first.id, other.id, batch[3].id]);
    assert_eq!(remote.counts().await.unwrap().ready, 3);
    let ended: Vec<_> = take(&remote, 9).await.granted.iter().map(done).collect();
    remote.exchange(&ended, want(0)).await.unwrap();
    // Though the job is done; and who did not get the answer gets it now.
    for again in [second, first.clone()] {
        assert_eq!(
            remote.enqueue(&[again]).await.unwrap(),
            Some(vec![first.id])
        );
    }
    assert_eq!(remote.counts().await.unwrap().ready, 0);
    // The time of who has it counts, and not that of who asks.
    let shorter = named("a", Duration::ZERO);
    let under = remote.enqueue(&[shorter]).await.unwrap();
    assert_eq!(under, Some(vec![first.id]));
    add(&remote, &[named("c", ms(1))]).await;
    let longer = named("c", hour);
    let start = std::time::Instant::now();
    while remote.enqueue(std::slice::from_ref(&longer)).await.unwrap() != Some(vec![longer.id]) {
        assert!(start.elapsed() < ms(10_000), "its time is over");
    }
}

#[tokio::test]
async fn a_delayed_job_is_not_granted_before_and_joins_then() {
    let Some(remote) = open(Rules::default()).await else {
        return;
    };
    // Sooner than a lease ends.
    let delay = LEASE / 2;
    for key in ["", "k"] {
        let mut late = job(key);
        late.delay = delay;
        let now = job(key);
        add(&remote, &[late.clone(), now.clone()]).await;
        let first = take(&remote, 9).await;
        assert_eq!(got(&first), [now.id]);
        let next = first.next.unwrap();
        assert!(next <= delay && next > delay / 2, "{next:?}");
        assert_eq!(remote.counts().await.unwrap().scheduled, 1);
        remote.advance(next).await;
        let then = take_until(&remote, want(9)).await;
        assert_eq!(got(&then), [late.id]);
        assert!(then.granted[0].age >= delay);
        let all = [done(&first.granted[0]), done(&then.granted[0])];
        remote.exchange(&all, want(0)).await.unwrap();
    }
}

#[tokio::test]
async fn the_first_job_with_a_key_is_found_by_an_exchange_that_began_before() {
    let Some(backend) = backend().await else {
        return;
    };
    let remote = backend.open("q", None).await.unwrap();
    let server = testkit::Postgres::shared().await.unwrap();
    let pool = pool(&server.url()).await;
    add(&remote, &jobs("", 1)).await;
    let taken = take(&remote, 1).await;
    // Its enqueue is under way.
    let mut late = job("k");
    late.delay = ms(1);
    let added = Added::of(std::slice::from_ref(&late));
    let mut enqueue = pool.begin().await.unwrap();
    let query = remote.enqueue_query(&added, false);
    query.execute(&mut *enqueue).await.unwrap();
    tokio::time::sleep(ms(2)).await;
    // And this exchange has to wait for what it ends.
    let mut held = pool.begin().await.unwrap();
    let lock = format!("SELECT * FROM {}.jobs FOR UPDATE", remote.schema());
    let lock = sqlx::query(sqlx::AssertSqlSafe(lock));
    lock.execute(&mut *held).await.unwrap();
    let ended = [done(&taken.granted[0])];
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
                 AND query LIKE '%' || $1 || '%'";
    let meanwhile = async {
        loop {
            let waiting =
                sqlx::query_scalar::<_, i64>(waits).bind(remote.schema().replace('"', ""));
            if waiting.fetch_one(&pool).await.unwrap() > 0 {
                break;
            }
        }
        enqueue.commit().await.unwrap();
        held.commit().await.unwrap();
    };
    let (answer, ()) = tokio::join!(remote.exchange(&ended, want(9)), meanwhile);
    let mut answer = answer.unwrap();
    while answer.granted.is_empty() {
        assert_eq!(answer.next, Some(Duration::ZERO), "it is stranded");
        answer = take(&remote, 9).await;
    }
    assert_eq!(got(&answer), [late.id]);
}

#[tokio::test]
async fn jobs_of_a_transaction_come_with_its_commit_or_never() {
    let Some(backend) = backend().await else {
        return;
    };
    let server = testkit::Postgres::shared().await.unwrap();
    let pool: PgPool = pool(&server.url()).await;
    let remote = backend.open("q", None).await.unwrap();
    for key in ["", "k"] {
        let (first, second, gone) = (jobs(key, 2), jobs(key, 2), jobs(key, 2));
        let mut late = job(key);
        late.delay = Duration::from_secs(100);
        let mut one = pool.begin().await.unwrap();
        let mut two = pool.begin().await.unwrap();
        let mut none = pool.begin().await.unwrap();
        assert_eq!(
            remote.enqueue_all_in(&mut one, &second).await.unwrap(),
            Some(ids(&second))
        );
        remote.enqueue_all_in(&mut one, &[late]).await.unwrap();
        remote.enqueue_all_in(&mut two, &first).await.unwrap();
        remote.enqueue_all_in(&mut none, &gone).await.unwrap();
        assert!(take(&remote, 9).await.granted.is_empty());
        two.commit().await.unwrap();
        one.commit().await.unwrap();
        none.rollback().await.unwrap();
        let taken = take(&remote, 9).await;
        assert_eq!(got(&taken), [ids(&first), ids(&second)].concat());
        let ended: Vec<_> = taken.granted.iter().map(done).collect();
        remote.exchange(&ended, want(0)).await.unwrap();
    }
    let counts = remote.counts().await.unwrap();
    assert_eq!(
        (counts.scheduled, counts.ready, counts.in_flight),
        (2, 0, 0)
    );
}

#[tokio::test]
async fn more_jobs_than_are_looked_at_are_counted_all_the_same() {
    let held = Rules {
        concurrency_per_key: Some(1),
        ..Rules::default()
    };
    let Some(remote) = open(held).await else {
        return;
    };
    let counts = async || {
        let counts = remote.counts().await.unwrap();
        assert!(counts.oldest.is_some());
        let waiting = (counts.ready, counts.limited);
        (waiting, counts.scheduled, counts.in_flight)
    };
    add(&remote, &jobs("hot", 9_000)).await;
    add(&remote, &jobs("other", 2_000)).await;
    assert_eq!(counts().await, ((11_000, 0), 0, 0));
    // One of each key runs, and holds the others of its key back.
    assert_eq!(take(&remote, 1).await.granted.len(), 1);
    assert_eq!(counts().await, ((2_000, 8_999), 0, 1));
    assert_eq!(take(&remote, 9).await.granted.len(), 1);
    assert_eq!(counts().await, ((0, 10_998), 0, 2));
    let late = |mut job: crate::remote::NewJob| {
        job.delay = Duration::from_secs(100);
        job
    };
    add(
        &remote,
        &jobs("cold", 3).into_iter().map(late).collect::<Vec<_>>(),
    )
    .await;
    assert_eq!(counts().await, ((0, 10_998), 3, 2));
}

#[tokio::test]
async fn many_scheduled_jobs_are_told_from_few_others() {
    let Some(remote) = open(Rules::default()).await else {
        return;
    };
    let mut late = jobs("", 12_000);
    for job in &mut late {
        job.delay = Duration::from_secs(100);
    }
    add(&remote, &late).await;
    add(&remote, &jobs("", 5)).await;
    take(&remote, 2).await;
    let counts = remote.counts().await.unwrap();
    assert_eq!(
        (counts.ready, counts.scheduled, counts.in_flight),
        (3, 12_000, 2)
    );
}
