use std::time::Duration;

use perf_batch::{BulkInsert, BulkRow, OnRowError};
use sqlx::{ConnectOptions, Connection};
use tokio::time::timeout;

use crate::support::drop_after;
use crate::support::lite::Lite;

#[derive(Debug, Clone, BulkRow)]
#[bulk(table = "numbers")]
struct Number {
    n: i64,
}

const NUMBERS: &str = "CREATE TABLE numbers (n INTEGER CHECK (n <> 300))";

#[tokio::test]
async fn a_future_dropped_at_any_await_leaves_all_or_nothing_and_a_usable_pool() {
    let lite = Lite::with_connections(NUMBERS, 1).await;
    let mut watcher = lite.pool.connect_options().connect().await.unwrap();
    let insert = BulkInsert::<Number>::new().on_row_error(OnRowError::Skip);
    let rows: Vec<Number> = (0..600).map(|n| Number { n }).collect();
    let mut dropped = 0;
    // Which awaits suspend is up to the scheduler, so each round goes through others.
    for _ in 0..10 {
        for polls in 0.. {
            let execute = insert.execute(&lite.pool, rows.clone());
            let done = drop_after(polls, execute).await.is_some();

            let conn = timeout(Duration::from_secs(20), lite.pool.acquire()).await;
            let mut conn = conn.expect("the connection came back").unwrap();
            sqlx::query("SELECT 1").execute(&mut *conn).await.unwrap();
            assert!(!conn.is_in_transaction(), "after {polls} polls");
            // The other connection would wait for a write lock that is still held, and fail.
            let cleared = sqlx::query("DELETE FROM numbers")
                .execute(&mut watcher)
                .await
                .unwrap()
                .rows_affected();
            assert!(
                cleared == 0 || cleared == 599,
                "{cleared} rows after {polls} polls"
            );
            if done {
                assert_eq!(cleared, 599);
                break;
            }
            dropped += 1;
        }
    }
    assert!(dropped > 20, "dropped at {dropped} points only");
}
