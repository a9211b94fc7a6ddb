use std::time::Duration;

use super::support::*;
use crate::remote::{Remote, Rules};
use crate::{BackendError, Scope};

#[tokio::test]
async fn many_processes_can_open_at_once_and_queues_share_the_tables() {
    let Some(backend) = backend().await else {
        return;
    };
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..16 {
        let backend = backend.clone();
        tasks.spawn(async move { backend.open(&format!("q{}", n % 4), None).await.unwrap() });
    }
    let all = tasks.join_all().await;
    add(&all[0], &jobs("", 1)).await;
    let mut seen = 0;
    for remote in &all {
        seen += remote.counts().await.unwrap().ready;
    }
    assert_eq!(seen, 4);
}

#[tokio::test]
async fn missing_tables_are_named_with_the_remedy_and_migrations_can_be_applied_by_hand() {
    let Some(backend) = backend().await else {
        return;
    };
    let server = testkit::Postgres::shared().await.unwrap();
    let by_hand = backend.migrate(false);
    let error = by_hand.clone().open("q", None).await.unwrap_err();
    assert!(matches!(error, BackendError::Unfit { .. }));
    assert!(
        error.to_string().contains("Postgres::migrations"),
        "{error}"
    );
    let mut tx = pool(&server.url()).await.begin().await.unwrap();
    let all = sqlx::AssertSqlSafe(by_hand.migrations());
    sqlx::raw_sql(all).execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
    let remote = by_hand.open("q", None).await.unwrap();
    add(&remote, &jobs("k", 1)).await;
}

#[tokio::test]
async fn a_schema_with_an_odd_name_is_quoted_and_a_wrong_one_refused() {
    let Some(backend) = backend().await else {
        return;
    };
    let odd = backend.clone().schema("odd \"name\"; DROP");
    let remote = odd.open("it's", None).await.unwrap();
    add(&remote, &jobs("k", 1)).await;
    assert_eq!(take(&remote, 2).await.granted.len(), 1);
    for wrong in ["", "nul\0", &"long".repeat(16)] {
        let error = backend.clone().schema(wrong).open("q", None).await;
        assert!(matches!(error, Err(BackendError::Unfit { .. })));
    }
}

#[tokio::test]
async fn the_search_path_of_the_session_does_not_matter() {
    let Some(backend) = backend().await else {
        return;
    };
    let server = testkit::Postgres::shared().await.unwrap();
    let url = format!("{}&options=-csearch_path%3D", server.url());
    let pool = sqlx::PgPool::connect(&url).await.unwrap();
    let path: String = sqlx::query_scalar("SHOW search_path")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(path, "");
    drop(backend);
    let remote = crate::Postgres::new(pool.clone())
        .schema(testkit::unique("queue"))
        .open("q", None)
        .await
        .unwrap();
    add(&remote, &jobs("k", 1)).await;
    let mut tx = pool.begin().await.unwrap();
    remote.enqueue_all_in(&mut tx, &jobs("", 1)).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(take(&remote, 3).await.granted.len(), 2);
}

#[tokio::test]
async fn processes_that_set_one_limit_each_keep_the_other() {
    let Some(backend) = backend().await else {
        return;
    };
    let one = backend.clone().open("q", None).await.unwrap();
    let two = backend.open("q", None).await.unwrap();
    for n in 1..40 {
        let (queue, key) = (every(n, ms(1_000)), every(n + 1, ms(500)));
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
async fn rules_are_shared_and_the_last_wins() {
    let Some(backend) = backend().await else {
        return;
    };
    let one = backend.clone().open("q", None).await.unwrap();
    assert_eq!(one.rules().await.unwrap(), None);
    let rules = Rules {
        queue: every(3, Duration::from_nanos(1_234_567_891)),
        key: None,
        concurrency_per_key: Some(2),
    };
    let two = backend.clone().open("q", Some(&rules)).await.unwrap();
    assert_eq!(one.rules().await.unwrap(), Some(rules));
    one.set_rules(&Rules::default()).await.unwrap();
    assert_eq!(two.rules().await.unwrap(), Some(Rules::default()));
}

#[tokio::test]
async fn while_paused_nobody_gets_a_job() {
    let Some(backend) = backend().await else {
        return;
    };
    let one = backend.clone().open("q", None).await.unwrap();
    let two = backend.open("q", None).await.unwrap();
    add(&one, &jobs("", 2)).await;
    let held = take(&one, 1).await;
    one.pause(true).await.unwrap();
    let answer = two.exchange(&[], want(9)).await.unwrap();
    assert!(answer.granted.is_empty() && answer.paused && answer.next.is_none());
    assert!(two.counts().await.unwrap().paused);
    let ended = one
        .exchange(&[done(&held.granted[0])], want(1))
        .await
        .unwrap();
    assert!(ended.lost.is_empty() && ended.granted.is_empty());
    two.pause(false).await.unwrap();
    assert_eq!(take(&one, 9).await.granted.len(), 1);
}

#[tokio::test]
async fn who_sleeps_is_woken_by_jobs_rules_and_resume() {
    let Some(backend) = backend().await else {
        return;
    };
    let server = testkit::Postgres::shared().await.unwrap();
    let one = backend.clone().open("q", None).await.unwrap();
    let two = backend.open("q", None).await.unwrap();
    let limit = Duration::from_secs(20);
    let woken = || async { tokio::time::timeout(limit, one.woken()).await.unwrap() };
    woken().await; // It listens now.
    for n in 0..20 {
        let idle = take(&one, 5).await;
        assert!(idle.granted.is_empty());
        let key = ["", "k"][n % 2];
        if n % 4 < 2 {
            add(&two, &jobs(key, 1)).await;
        } else {
            let mut tx = pool(&server.url()).await.begin().await.unwrap();
            two.enqueue_all_in(&mut tx, &jobs(key, 1)).await.unwrap();
            tx.commit().await.unwrap();
        }
        woken().await;
        let taken = take(&one, 1).await;
        one.exchange(&[done(&taken.granted[0])], want(0))
            .await
            .unwrap();
    }
    two.set_rules(&Rules::default()).await.unwrap();
    woken().await;
    two.pause(true).await.unwrap();
    woken().await;
    two.pause(false).await.unwrap();
    woken().await;
    // Nobody sleeps: nobody is woken.
    add(&two, &jobs("", 3)).await;
    take(&one, 1).await;
    add(&two, &jobs("", 1)).await;
    let silent = tokio::time::timeout(ms(100), one.woken()).await;
    let _ = silent; // Permitted, since it may return for no reason.
}
