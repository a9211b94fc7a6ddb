//! Jobs of transactions that are in each other's way.

use sqlx::PgConnection;

use super::support::*;
use crate::remote::{Counts, Remote};
use crate::{Connection, EnqueueInError};

/// Runs what is else left for the commit, and keeps what it has locked.
async fn at_once(tx: &mut PgConnection) {
    let now = "SET CONSTRAINTS ALL IMMEDIATE";
    sqlx::query(now).execute(tx).await.unwrap();
}

#[tokio::test]
async fn transactions_that_commit_to_two_queues_in_either_order_do_not_wait() {
    let Some(backend) = backend().await else {
        return;
    };
    let a = backend.clone().open("a", None).await.unwrap();
    let b = backend.open("b", None).await.unwrap();
    let server = testkit::Postgres::shared().await.unwrap();
    let pool = pool(&server.url()).await;
    for key in ["", "k", ""] {
        for queue in [&a, &b] {
            // It sleeps, and so has to be woken.
            assert_eq!(take(queue, 1).await.next, None);
        }
        let (mut one, mut two) = (pool.begin().await.unwrap(), pool.begin().await.unwrap());
        a.enqueue_all_in(&mut one, &jobs(key, 1)).await.unwrap();
        b.enqueue_all_in(&mut two, &jobs(key, 1)).await.unwrap();
        at_once(&mut one).await;
        at_once(&mut two).await;
        let (of_one, of_two) = (jobs(key, 1), jobs(key, 1));
        let crossing = async {
            tokio::try_join!(
                b.enqueue_all_in(&mut one, &of_one),
                a.enqueue_all_in(&mut two, &of_two)
            )
        };
        let crossing = tokio::time::timeout(ms(10_000), crossing).await;
        crossing.expect("nobody waits").unwrap();
        one.commit().await.unwrap();
        two.commit().await.unwrap();
        for queue in [&a, &b] {
            assert_eq!(queue.counts().await.unwrap().ready, 2);
            let taken = take(queue, 9).await;
            let ended: Vec<_> = taken.granted.iter().map(done).collect();
            assert_eq!(ended.len(), 2);
            queue.exchange(&ended, want(0)).await.unwrap();
        }
    }
}

#[tokio::test]
async fn counts_that_were_added_are_folded_into_the_others() {
    let Some(backend) = backend().await else {
        return;
    };
    let remote = backend.open("q", None).await.unwrap();
    let server = testkit::Postgres::shared().await.unwrap();
    let held = format!("SELECT * FROM {}.counts FOR UPDATE", remote.schema());
    let pool = pool(&server.url()).await;
    let mut tx = pool.begin().await.unwrap();
    let held = sqlx::query(sqlx::AssertSqlSafe(held));
    held.execute(&mut *tx).await.unwrap();
    let meanwhile = async {
        for _ in 0..5 {
            add(&remote, &jobs("", 1)).await;
        }
        let first = take(&remote, 3).await;
        let ended: Vec<_> = first.granted.iter().map(done).collect();
        remote.exchange(&ended, want(0)).await.unwrap();
        assert_eq!(remote.counts().await.unwrap().ready, 2);
    };
    let meanwhile = tokio::time::timeout(ms(10_000), meanwhile).await;
    meanwhile.expect("nobody waits");
    tx.rollback().await.unwrap();
    let rest = take(&remote, 9).await;
    let ended: Vec<_> = rest.granted.iter().map(done).collect();
    remote.exchange(&ended, want(0)).await.unwrap();
    assert_eq!(remote.rows("counts").await, 16);
    assert_eq!(remote.counts().await.unwrap(), Counts::default());
}

#[tokio::test]
async fn a_transaction_with_immediate_constraints_holds_nobody_up() {
    let Some(backend) = backend().await else {
        return;
    };
    let server = testkit::Postgres::shared().await.unwrap();
    let pool = pool(&server.url()).await;
    for key in ["", "k"] {
        let remote = backend.clone().open(key, None).await.unwrap();
        let mut tx = pool.begin().await.unwrap();
        at_once(&mut tx).await;
        let late = jobs(key, 1);
        remote.enqueue_all_in(&mut tx, &late).await.unwrap();
        let others = async {
            let early = jobs(key, 1);
            add(&remote, &early).await;
            let taken = take(&remote, 9).await;
            assert_eq!(got(&taken), ids(&early));
            let idle = remote.exchange(&[done(&taken.granted[0])], want(9)).await;
            // Nobody would wake it, so it asks again soon.
            assert!(idle.unwrap().next.unwrap() <= ms(10));
        };
        let others = tokio::time::timeout(ms(10_000), others).await;
        others.expect("the queue goes on");
        tx.commit().await.unwrap();
        let taken = take(&remote, 9).await;
        assert_eq!(got(&taken), ids(&late));
        let ended = done(&taken.granted[0]);
        assert_eq!(remote.exchange(&[ended], want(9)).await.unwrap().next, None);
    }
}

#[tokio::test]
async fn a_transaction_that_sees_only_its_beginning_is_refused_and_left_as_it_was() {
    let Some(backend) = backend().await else {
        return;
    };
    let remote = backend.open("q", None).await.unwrap();
    let server = testkit::Postgres::shared().await.unwrap();
    let pool = pool(&server.url()).await;
    for level in ["REPEATABLE READ", "SERIALIZABLE"] {
        let begin = sqlx::AssertSqlSafe(format!("BEGIN ISOLATION LEVEL {level}"));
        let mut tx = pool.begin_with(begin).await.unwrap();
        // Others go on after it has begun.
        let before = sqlx::query("SELECT 1").execute(&mut *tx).await;
        assert_eq!(take(&remote, 1).await.granted.len(), 0);
        let refused = remote
            .enqueue_in(Connection::Postgres(&mut tx), &job("k"))
            .await;
        assert!(
            matches!(refused, Err(EnqueueInError::Isolation)),
            "{refused:?}"
        );
        assert!(refused.unwrap_err().to_string().contains("READ COMMITTED"));
        let after = sqlx::query("SELECT 1").execute(&mut *tx).await;
        assert!(before.is_ok() && after.is_ok(), "{after:?}");
        tx.commit().await.unwrap();
    }
    assert_eq!(remote.counts().await.unwrap(), Counts::default());
}
