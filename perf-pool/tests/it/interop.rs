//! Code written for sqlx, handed our pool.

use futures_util::TryStreamExt;
use perf_pool::Pool;
use sqlx::{Acquire, Executor, Row, SqlSafeStr, Sqlite, SqlitePool};

use crate::files::{File, at_most};

async fn wants_a_pool(pool: &SqlitePool) -> i64 {
    sqlx::query_scalar("SELECT 1")
        .fetch_one(pool)
        .await
        .unwrap()
}

async fn wants_an_executor<'e, E: Executor<'e, Database = Sqlite>>(executor: E) -> i64 {
    sqlx::query_scalar("SELECT 1")
        .fetch_one(executor)
        .await
        .unwrap()
}

async fn wants_an_acquire<'a, A: Acquire<'a, Database = Sqlite>>(conn: A) -> i64 {
    let mut conn = conn.acquire().await.unwrap();
    wants_an_executor(&mut *conn).await
}

async fn wants_a_transaction(tx: &mut sqlx::Transaction<'_, Sqlite>) {
    tx.execute("INSERT INTO t VALUES (7)").await.unwrap();
}

async fn pool(file: &File) -> Pool<Sqlite> {
    let pool = file.open(at_most(2)).await;
    pool.execute("CREATE TABLE t (n INTEGER NOT NULL)")
        .await
        .unwrap();
    pool
}

#[tokio::test]
async fn a_pool_stands_in_for_sqlx_everywhere() {
    let file = File::new();
    let pool = pool(&file).await;
    assert_eq!(wants_a_pool(&pool).await, 1);
    assert_eq!(wants_an_executor(&pool).await, 1);
    assert_eq!(wants_an_acquire(&pool).await, 1);
    let mut conn = pool.acquire().await.unwrap();
    assert_eq!(wants_an_executor(&mut *conn).await, 1);
    assert_eq!(wants_an_acquire(&mut conn).await, 1);
    drop(conn);
    let mut tx = pool.begin().await.unwrap();
    assert_eq!(wants_an_executor(&mut *tx).await, 1);
    assert_eq!(wants_an_acquire(&mut tx).await, 1);
    drop(tx);
    let mut tx = Acquire::begin(&pool).await.unwrap();
    wants_a_transaction(&mut tx).await;
    tx.commit().await.unwrap();
    let mut conn = pool.acquire().await.unwrap();
    wants_a_transaction(&mut conn.begin().await.unwrap()).await;
}

#[tokio::test]
async fn every_method_of_the_executor_works_on_the_pool() {
    let file = File::new();
    let pool = pool(&file).await;
    let done = pool.execute("INSERT INTO t VALUES (1), (2)").await.unwrap();
    assert_eq!(done.rows_affected(), 2);
    assert_eq!(pool.fetch_all("SELECT n FROM t").await.unwrap().len(), 2);
    let row = pool.fetch_one("SELECT n FROM t ORDER BY n").await.unwrap();
    assert_eq!(row.get::<i64, _>(0), 1);
    let none = "SELECT n FROM t WHERE n > 5";
    assert!(pool.fetch_optional(none).await.unwrap().is_none());
    let rows: Vec<_> = pool.fetch("SELECT n FROM t").try_collect().await.unwrap();
    assert_eq!(rows.len(), 2);
    let steps: Vec<_> = pool
        .fetch_many("SELECT n FROM t; SELECT n FROM t")
        .try_collect()
        .await
        .unwrap();
    assert_eq!(steps.len(), 6, "four rows and two results");
    let prepared = pool.prepare("SELECT n FROM t".into_sql_str()).await;
    prepared.unwrap();
    let described = pool
        .describe("SELECT n FROM t".into_sql_str())
        .await
        .unwrap();
    assert_eq!(described.columns().len(), 1);
}

#[tokio::test]
async fn a_stream_holds_its_connection_until_it_is_dropped() {
    let file = File::new();
    let pool = file.open(at_most(1)).await;
    let mut stream = pool.fetch("SELECT 1 UNION ALL SELECT 2");
    stream.try_next().await.unwrap().unwrap();
    assert_eq!(pool.status().in_use, 1);
    drop(stream);
    pool.execute("SELECT 1").await.unwrap();
}

#[tokio::test]
async fn savepoints_nest_in_a_transaction() {
    let file = File::new();
    let pool = pool(&file).await;
    let mut tx = pool.begin_with("BEGIN EXCLUSIVE").await.unwrap();
    tx.execute("INSERT INTO t VALUES (1)").await.unwrap();
    {
        let mut inner = Acquire::begin(&mut tx).await.unwrap();
        inner.execute("INSERT INTO t VALUES (2)").await.unwrap();
        inner.rollback().await.unwrap();
    }
    tx.commit().await.unwrap();
    let rows: Vec<i64> = sqlx::query_scalar("SELECT n FROM t")
        .fetch_all(&pool)
        .await
        .unwrap();
    assert_eq!(rows, [1]);
}

#[tokio::test]
async fn detached_and_closed_connections_make_room() {
    let file = File::new();
    let pool = file.open(at_most(1)).await;
    let mut out = pool.acquire().await.unwrap().detach();
    out.execute("SELECT 1").await.unwrap();
    assert_eq!(pool.status().size, 0);
    pool.acquire().await.unwrap().close().await.unwrap();
    assert_eq!(pool.status().size, 0);
    pool.execute("SELECT 1").await.unwrap();
}
