//! cargo run -p perf-examples --bin queue_transactional
//!
//! An order and the mail that confirms it, in one transaction: no mail without an order, and no order
//! without its mail. Here both are in one file of SQLite's; on Postgres it is the same with
//! `Postgres::new(pool)`.

use std::time::Duration;

use anyhow::Result;
use perf_queue::{JobContext, JobError, Queue, Sqlite};
use serde::{Deserialize, Serialize};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions};

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Confirm {
    order: i64,
}

#[tokio::main]
async fn main() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("shop.db");
    let options = SqliteConnectOptions::new()
        .filename(&file)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal);
    let pool = SqlitePoolOptions::new().connect_with(options).await?;
    sqlx::raw_sql("CREATE TABLE orders (id INTEGER PRIMARY KEY, item TEXT NOT NULL)")
        .execute(&pool)
        .await?;
    let queue = Queue::<Confirm>::builder("mail")
        .backend(Sqlite::open(&file))
        .build()
        .await?;
    let workers = queue
        .workers(2, |confirm: Confirm, cx: JobContext| async move {
            // A handler may run twice for a job: the mail server tells by the id.
            println!(
                "mail for order {} ({} digits of id)",
                confirm.order,
                cx.id().to_string().len()
            );
            Ok::<(), JobError>(())
        })
        .spawn();

    for (item, in_stock) in [("tea", true), ("unicorn", false), ("pot", true)] {
        // IMMEDIATE: the queue writes to the file, too.
        let mut tx = pool.begin_with("BEGIN IMMEDIATE").await?;
        let order = sqlx::query("INSERT INTO orders (item) VALUES (?)")
            .bind(item)
            .execute(&mut *tx)
            .await?
            .last_insert_rowid();
        queue.enqueue_in(&mut tx, &Confirm { order }).await?;
        if in_stock {
            tx.commit().await?;
        } else {
            tx.rollback().await?;
            println!("no {item}, no order, no mail");
        }
    }
    // The queue learns of the commits by looking.
    let mut completed = 0;
    while completed < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
        completed = queue.stats().await?.completed;
    }
    queue.drain().await?;
    workers.shutdown(Duration::from_secs(5)).await;
    let orders: i64 = sqlx::query_scalar("SELECT count(*) FROM orders")
        .fetch_one(&pool)
        .await?;
    println!("{orders} orders, {} mails", queue.stats().await?.completed);
    Ok(())
}
