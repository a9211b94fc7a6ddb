use std::future::{Future, poll_fn};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use perf_batch::{BulkInsert, BulkRow, OnRowError};
use sqlx::{ConnectOptions, Connection, SqliteConnection, SqlitePool};
use tokio::time::timeout;

use crate::support::drop_after;
use crate::support::lite::Lite;

#[derive(Debug, Clone, BulkRow)]
#[bulk(table = "numbers")]
struct Number {
    n: i64,
}

const NUMBERS: &str = "CREATE TABLE numbers (n INTEGER CHECK (n <> 300))";

/// Holds the connection's thread in the middle of its statement, so that whoever awaits the answer
/// has to wait.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    fn close(&self, closed: bool) {
        *self.0.0.lock().unwrap() = closed;
        self.0.1.notify_all();
    }

    fn pass(&self) {
        let closed = self.0.0.lock().unwrap();
        let open = self.0.1.wait_while(closed, |closed| *closed);
        drop(open.unwrap());
    }
}

#[tokio::test]
async fn a_future_dropped_at_any_await_leaves_all_or_nothing_and_a_usable_pool() {
    let lite = Lite::with_connections(NUMBERS, 1).await;
    let gate = Gate::default();
    let at_every_step = gate.clone();
    let options = lite.pool.options().clone();
    let pool = options.after_connect(move |conn, _| {
        let gate = at_every_step.clone();
        Box::pin(async move {
            let mut handle = conn.lock_handle().await?;
            handle.set_progress_handler(1, move || {
                gate.pass();
                true
            });
            Ok(())
        })
    });
    let pool = pool.connect_with((*lite.pool.connect_options()).clone());
    let pool = pool.await.unwrap();
    let mut watcher = lite.pool.connect_options().connect().await.unwrap();
    // Statement by statement with a bad row, and one statement that is its own transaction.
    for (insert, rows, good) in [
        (
            BulkInsert::<Number>::new().on_row_error(OnRowError::Skip),
            0..600,
            599,
        ),
        (BulkInsert::new(), 0..256, 256),
    ] {
        let rows: Vec<Number> = rows.map(|n| Number { n }).collect();
        dropped_everywhere(&insert, &rows, good, &pool, &mut watcher, &gate).await;
    }
}

async fn dropped_everywhere(
    insert: &BulkInsert<Number>,
    rows: &[Number],
    good: u64,
    pool: &SqlitePool,
    watcher: &mut SqliteConnection,
    gate: &Gate,
) {
    for polls in 0.. {
        let mut execute = Box::pin(insert.execute(pool, rows.to_vec()));
        let done = drop_after(
            polls,
            poll_fn(|cx| {
                gate.close(true);
                let poll = execute.as_mut().poll(cx);
                gate.close(false);
                poll
            }),
        )
        .await;
        drop(execute);

        let conn = timeout(Duration::from_secs(20), pool.acquire()).await;
        let mut conn = conn.expect("the connection came back").unwrap();
        sqlx::query("SELECT 1").execute(&mut *conn).await.unwrap();
        assert!(!conn.is_in_transaction(), "after {polls} polls");
        // The other connection would wait for a write lock that is still held, and fail.
        let cleared = sqlx::query("DELETE FROM numbers")
            .execute(&mut *watcher)
            .await
            .unwrap()
            .rows_affected();
        assert!(
            cleared == 0 || cleared == good,
            "{cleared} rows after {polls} polls"
        );
        if let Some(report) = done {
            assert_eq!(cleared, good);
            let waits = report.unwrap().statements as usize;
            assert!(polls >= waits, "{polls} polls for {waits} statements");
            break;
        }
    }
}
