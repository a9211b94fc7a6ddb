use std::time::Duration;

use perf_batch::{AddError, BatchError, Batcher, BulkInsert, Retry};
use sqlx::postgres::PgPool;
use tokio::task::JoinSet;

use super::{ANSWERS, Answer, answers, count, pool};
use crate::support::drop_after;

const COUNT: &str = "SELECT count(*) FROM answers";

fn batcher(pool: &PgPool) -> Batcher<Answer> {
    Batcher::builder(pool.clone(), BulkInsert::<Answer>::new()).spawn()
}

fn forbidden(question_id: i64) -> Answer {
    Answer {
        user_id: 0,
        question_id,
        answer: "forbidden".into(),
        points: None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_callers_share_commits_and_each_learns_of_its_own_row() {
    let Some(pool) = pool(ANSWERS, 2).await else {
        return;
    };
    let batcher = batcher(&pool);
    let mut callers = JoinSet::new();
    for user in 1..=64 {
        let batcher = batcher.clone();
        callers.spawn(async move {
            for row in answers(user, 5) {
                batcher.add(row).await.unwrap();
            }
            match batcher.add(forbidden(user)).await.unwrap_err() {
                AddError::Refused(failure) => {
                    assert_eq!(failure.row, forbidden(user));
                    assert_eq!(failure.code.as_deref(), Some("23514"));
                    assert_eq!(failure.constraint.as_deref(), Some("allowed"));
                }
                other => panic!("{other:?}"),
            }
        });
    }
    while let Some(joined) = callers.join_next().await {
        joined.unwrap();
    }
    assert_eq!(count(&pool, COUNT).await, 64 * 5);
    let commits = "SELECT count(DISTINCT xmin::text) FROM answers";
    let commits = count(&pool, commits).await;
    assert!(commits < 64, "{commits} commits");
}

#[tokio::test]
async fn a_caller_that_goes_at_any_await_leaves_its_row_written() {
    let Some(pool) = pool(ANSWERS, 1).await else {
        return;
    };
    let batcher = batcher(&pool);
    for (polls, row) in (0..).zip(answers(1, 4)) {
        drop_after(polls, batcher.add(row)).await;
        batcher.flush().await.unwrap();
        assert_eq!(count(&pool, COUNT).await, polls as i64);
    }
}

/// Holds the table against all writers until it is dropped.
async fn lock(pool: &PgPool) -> sqlx::Transaction<'static, sqlx::Postgres> {
    let mut lock = pool.begin().await.unwrap();
    sqlx::query("LOCK TABLE answers IN SHARE MODE")
        .execute(&mut *lock)
        .await
        .unwrap();
    lock
}

#[tokio::test]
async fn a_batch_that_is_held_up_too_long_is_rolled_back() {
    let Some(pool) = pool(ANSWERS, 3).await else {
        return;
    };
    // With a retry, a batch of one statement is a transaction with a COMMIT of its own.
    let retry = BulkInsert::<Answer>::new().retry(Retry::transient(0));
    let with = |insert| {
        Batcher::builder(pool.clone(), insert)
            .delivery_timeout(Duration::from_millis(1_500))
            .spawn()
    };
    let batcher = with(retry);
    let held = lock(&pool).await;
    let tickets: Vec<_> = answers(1, 5)
        .into_iter()
        .map(|row| batcher.try_add(row).unwrap())
        .collect();
    for ticket in tickets {
        let error = ticket.await.unwrap_err();
        assert!(matches!(error, AddError::Timeout(_)), "{error:?}");
    }
    // Without, it is sent with its commit.
    let lone = answers(2, 1).remove(0);
    let error = with(BulkInsert::new()).add(lone).await.unwrap_err();
    assert!(matches!(error, AddError::CommitUnknown { .. }), "{error:?}");
    held.rollback().await.unwrap();
    batcher.add(answers(3, 1).remove(0)).await.unwrap();
    let timed_out = "SELECT count(*) FROM answers WHERE user_id = 1";
    assert_eq!(count(&pool, timed_out).await, 0);
    let after = "SELECT count(*) FROM answers WHERE user_id = 3";
    assert_eq!(count(&pool, after).await, 1);
}

#[tokio::test]
async fn a_batch_whose_commit_is_held_up_too_long_may_be_written() {
    let Some(pool) = pool(ANSWERS, 3).await else {
        return;
    };
    let trigger = "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN LOCK TABLE gate IN SHARE MODE; RETURN NULL; END $$;
        CREATE TABLE gate ();
        CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON answers
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION wait()";
    sqlx::raw_sql(trigger).execute(&pool).await.unwrap();
    let batcher = Batcher::builder(
        pool.clone(),
        BulkInsert::<Answer>::new().retry(Retry::transient(0)),
    )
    .delivery_timeout(Duration::from_millis(1_500))
    .spawn();
    let mut held = pool.begin().await.unwrap();
    let lock = "LOCK TABLE gate IN EXCLUSIVE MODE";
    sqlx::query(lock).execute(&mut *held).await.unwrap();
    let tickets: Vec<_> = answers(1, 1)
        .into_iter()
        .map(|row| batcher.try_add(row).unwrap())
        .collect();
    for ticket in tickets {
        let error = ticket.await.unwrap_err();
        assert!(matches!(error, AddError::CommitUnknown { .. }), "{error:?}");
    }
    held.rollback().await.unwrap();
    batcher.add(answers(2, 1).remove(0)).await.unwrap();
}

#[tokio::test]
async fn a_connection_lost_before_the_commit_is_told_to_the_whole_batch() {
    let Some(pool) = pool(ANSWERS, 3).await else {
        return;
    };
    let batcher = batcher(&pool);
    let held = lock(&pool).await;
    let tickets: Vec<_> = answers(1, 3)
        .into_iter()
        .map(|row| batcher.try_add(row).unwrap())
        .collect();
    let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_locks
        WHERE NOT granted AND relation = 'answers'::regclass";
    while count(&pool, kill).await == 0 {}
    for ticket in tickets {
        let error = ticket.await.unwrap_err();
        assert!(error.is_retryable(), "{error:?}");
        assert!(matches!(
            error,
            AddError::Batch { source, .. } if matches!(*source, BatchError::Database { rows: 3, .. })
        ));
    }
    held.rollback().await.unwrap();
    batcher.add(answers(1, 1).remove(0)).await.unwrap();
    assert_eq!(count(&pool, COUNT).await, 1);
}
