use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use perf_batch::{BatchError, BulkInsert, Column, OnConflict, OnRowError, Table};
use sqlx::{Connection, SqlitePool};

use super::{ANSWERS, Answer, COUNT, answers};
use crate::support::lite::Lite;

#[tokio::test]
async fn what_is_not_a_rows_fault_fails_the_batch() {
    let lite = Lite::new("CREATE TABLE other (n INTEGER)").await;
    let insert = BulkInsert::<Answer>::new().on_row_error(OnRowError::Skip);
    let error = insert.execute(&lite.pool, answers(1, 2)).await.unwrap_err();
    assert!(matches!(error, BatchError::Database { rows: 2, .. }));
    assert!(!error.is_retryable());

    let keyless = Table::new("other").column(Column::new("n"));
    let error = BulkInsert::<Answer>::into_table(keyless)
        .on_conflict(OnConflict::Update)
        .execute(&lite.pool, answers(1, 2))
        .await
        .unwrap_err();
    assert!(matches!(error, BatchError::Invalid { .. }), "{error}");
}

#[tokio::test]
async fn a_locked_database_is_worth_a_retry() {
    let lite = Lite::new(ANSWERS).await;
    let mut blocker = lite.pool.acquire().await.unwrap();
    sqlx::raw_sql("BEGIN IMMEDIATE")
        .execute(&mut *blocker)
        .await
        .unwrap();
    let mut conn = lite.pool.acquire().await.unwrap();
    sqlx::raw_sql("PRAGMA busy_timeout = 0")
        .execute(&mut *conn)
        .await
        .unwrap();
    let insert = BulkInsert::<Answer>::new();
    let error = insert.execute(&mut conn, answers(1, 2)).await.unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    assert_eq!(error.code().as_deref(), Some("5"));
    sqlx::raw_sql("ROLLBACK")
        .execute(&mut *blocker)
        .await
        .unwrap();
    insert.execute(&mut conn, answers(1, 2)).await.unwrap();
}

#[tokio::test]
async fn a_trigger_that_ends_the_transaction_leaves_the_connection_usable() {
    let lite = Lite::with_connections(
        "CREATE TABLE answers (user_id INTEGER, question_id INTEGER, answer TEXT, points INTEGER);
         CREATE TRIGGER strict BEFORE INSERT ON answers WHEN NEW.answer = 'forbidden'
         BEGIN SELECT RAISE(ROLLBACK, 'the end'); END",
        1,
    )
    .await;
    let mut rows = answers(1, 300);
    rows[290].answer = "forbidden".into();
    for on_row_error in [OnRowError::Abort, OnRowError::Skip] {
        let error = BulkInsert::<Answer>::new()
            .on_row_error(on_row_error)
            .execute(&lite.pool, rows.clone())
            .await
            .unwrap_err();
        assert!(matches!(error, BatchError::Database { .. }), "{error:?}");
        let conn = lite.pool.acquire().await.unwrap();
        assert!(!conn.is_in_transaction());
        drop(conn);
        assert_eq!(lite.count(COUNT).await, 0);
    }
    insert_once(&lite.pool).await;
    assert_eq!(lite.count(COUNT).await, 10);
}

#[tokio::test]
async fn a_commit_that_is_refused_leaves_the_connection_usable() {
    let lite = Lite::with_connections(ANSWERS, 1).await;
    let allowed = Arc::new(AtomicBool::new(false));
    let mut conn = lite.pool.acquire().await.unwrap();
    let hook = Arc::clone(&allowed);
    let mut handle = conn.lock_handle().await.unwrap();
    handle.set_commit_hook(move || hook.load(Ordering::Relaxed));
    drop(handle);
    drop(conn);
    for on_row_error in [OnRowError::Abort, OnRowError::Skip] {
        let error = BulkInsert::<Answer>::new()
            .on_row_error(on_row_error)
            .execute(&lite.pool, answers(1, 300))
            .await
            .unwrap_err();
        assert_eq!(error.code().as_deref(), Some("531"), "{error:?}");
        let conn = lite.pool.acquire().await.unwrap();
        assert!(!conn.is_in_transaction());
        drop(conn);
        assert_eq!(lite.count(COUNT).await, 0);
    }
    allowed.store(true, Ordering::Relaxed);
    insert_once(&lite.pool).await;
    assert_eq!(lite.count(COUNT).await, 10);
}

#[tokio::test]
async fn a_deferred_constraint_is_only_seen_at_the_commit() {
    let lite = Lite::with_connections(
        "CREATE TABLE users (id INTEGER PRIMARY KEY);
         CREATE TABLE answers (
             user_id INTEGER REFERENCES users DEFERRABLE INITIALLY DEFERRED,
             question_id INTEGER, answer TEXT, points INTEGER
         );
         INSERT INTO users VALUES (1), (9)",
        1,
    )
    .await;
    let mut rows = answers(1, 300);
    rows[7].user_id = 2;
    for on_row_error in [OnRowError::Abort, OnRowError::Skip] {
        let error = BulkInsert::<Answer>::new()
            .on_row_error(on_row_error)
            .execute(&lite.pool, rows.clone())
            .await
            .unwrap_err();
        let range = matches!(
            error,
            BatchError::Range {
                first: 0,
                last: 299,
                ..
            }
        );
        assert!(range, "{error:?}");
        assert_eq!(error.code().as_deref(), Some("787"));
        assert_eq!(lite.count(COUNT).await, 0);
    }
    insert_once(&lite.pool).await;
    assert_eq!(lite.count(COUNT).await, 10);
}

async fn insert_once(pool: &SqlitePool) {
    BulkInsert::<Answer>::new()
        .execute(pool, answers(9, 10))
        .await
        .unwrap();
}
