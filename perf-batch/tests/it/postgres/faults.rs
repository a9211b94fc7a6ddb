use std::future::Future;
use std::time::Duration;

use perf_batch::{BatchError, BulkInsert, BulkRow, OnConflict, OnRowError};
use sqlx::postgres::{PgPool, PgPoolOptions};
use sqlx::{PgConnection, Row};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::{ANSWERS, Answer, answers, pool};
use crate::support::drop_after;

#[tokio::test]
async fn concurrent_shuffled_upserts_do_not_deadlock() {
    let Some(pool) = pool(ANSWERS, 4).await else {
        return;
    };
    let insert = BulkInsert::<Answer>::new().on_conflict(OnConflict::Update);
    for round in 0..20_u64 {
        let writers = (0..4_usize).map(|writer| {
            let (insert, pool) = (insert.clone(), pool.clone());
            let mut rows = answers(1, 500);
            let cut = (writer * 100 + round as usize * 7) % 500;
            rows.rotate_left(cut);
            if writer % 2 == 0 {
                rows.reverse();
            }
            tokio::spawn(async move { insert.execute(&pool, rows).await })
        });
        for writer in writers.collect::<Vec<_>>() {
            assert_eq!(writer.await.unwrap().unwrap().written, 500);
        }
    }
}

#[tokio::test]
async fn a_future_dropped_at_any_await_leaves_all_or_nothing_and_a_usable_pool() {
    let schema = "CREATE TABLE numbers (n bigint CHECK (n <> 300))";
    #[derive(Debug, Clone, BulkRow)]
    #[bulk(table = "numbers")]
    struct Number {
        n: i64,
    }
    let Some(direct) = pool(schema, 1).await else {
        return;
    };
    let pool = behind_a_relay(&direct).await;
    let insert = BulkInsert::<Number>::new().on_row_error(OnRowError::Skip);
    let rows: Vec<Number> = (0..600).map(|n| Number { n }).collect();
    for polls in 0.. {
        let done = drop_after(polls, insert.execute(&pool, rows.clone())).await;
        let conn = timeout(Duration::from_secs(20), pool.acquire()).await;
        let mut conn = conn.expect("the connection came back").unwrap();
        assert!(!in_transaction(&mut conn).await, "after {polls} polls");
        let cleared = sqlx::query("DELETE FROM numbers")
            .execute(&mut *conn)
            .await
            .unwrap()
            .rows_affected();
        assert!(
            cleared == 0 || cleared == 599,
            "{cleared} rows after {polls} polls"
        );
        if let Some(report) = done {
            assert_eq!(cleared, 599);
            let waits = report.unwrap().statements as usize;
            assert!(polls > waits, "{polls} polls for {waits} statements");
            break;
        }
    }
}

/// A pool of one connection that goes through a task of this runtime. It has one thread, so no
/// answer can arrive while a future is polled: each await of an answer has to wait.
async fn behind_a_relay(pool: &PgPool) -> PgPool {
    through(pool, |mut client, mut server| async move {
        let _ = copy_bidirectional(&mut client, &mut server).await;
    })
    .await
}

/// A pool of one connection that goes through `relay`.
async fn through<F, Fut>(pool: &PgPool, relay: F) -> PgPool
where
    F: Fn(TcpStream, TcpStream) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let options = pool.connect_options();
    let server = (options.get_host().to_owned(), options.get_port());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(&server).await.unwrap();
            tokio::spawn(relay(client, server));
        }
    });
    let options = (*options).clone();
    let options = options.host("127.0.0.1").port(port);
    let pool = PgPoolOptions::new().max_connections(1);
    pool.connect_with(options).await.unwrap()
}

/// The time of `now()` stands still inside a transaction.
async fn in_transaction(conn: &mut PgConnection) -> bool {
    let sql = "SELECT now() <> statement_timestamp()";
    let row = sqlx::raw_sql(sql).fetch_one(conn).await.unwrap();
    row.get(0)
}

#[tokio::test]
async fn a_server_that_goes_away_is_worth_a_retry() {
    let Some(pool) = pool(ANSWERS, 2).await else {
        return;
    };
    let mut conn = pool.acquire().await.unwrap();
    let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid()")
        .fetch_one(&mut *conn)
        .await
        .unwrap();
    sqlx::query("SELECT pg_terminate_backend($1, 5000)")
        .bind(pid)
        .execute(&pool)
        .await
        .unwrap();
    let insert = BulkInsert::<Answer>::new();
    let error = insert.execute(&mut conn, answers(1, 5)).await.unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    drop(conn);
    let report = insert.execute(&pool, answers(1, 5)).await.unwrap();
    assert_eq!(report.written, 5);
}

#[tokio::test]
async fn a_connection_lost_during_the_commit_leaves_its_outcome_unknown() {
    let schema = "CREATE TABLE fragile (n bigint);
        CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$;
        CREATE CONSTRAINT TRIGGER lose AFTER INSERT ON fragile DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION lose()";
    #[derive(Debug, Clone, BulkRow)]
    #[bulk(table = "fragile")]
    struct Fragile {
        n: i64,
    }
    let Some(pool) = pool(schema, 1).await else {
        return;
    };
    let rows = vec![Fragile { n: 1 }; 3];
    let insert = BulkInsert::<Fragile>::new();
    let error = insert.execute(&pool, rows).await.unwrap_err();
    assert!(
        matches!(error, BatchError::CommitUnknown { rows: 3, .. }),
        "{error:?}"
    );
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn a_commit_without_an_answer_may_be_done_and_is_not_to_be_retried() {
    let Some(direct) = pool(ANSWERS, 1).await else {
        return;
    };
    let pool = through(&direct, |mut client, mut server| async move {
        let (mut from_client, mut to_client) = client.split();
        let (mut from_server, mut to_server) = server.split();
        let requests = async {
            let mut chunk = vec![0; 1 << 16];
            while let Ok(len @ 1..) = from_client.read(&mut chunk).await {
                to_server.write_all(&chunk[..len]).await.unwrap();
                if chunk[..len].windows(6).any(|word| word == b"COMMIT") {
                    return;
                }
            }
        };
        tokio::select! {
            biased;
            () = requests => {}
            _ = copy(&mut from_server, &mut to_client) => {}
        }
    });
    let pool = pool.await;
    let insert = BulkInsert::<Answer>::new();
    let error = insert.execute(&pool, answers(1, 5_000)).await.unwrap_err();
    assert!(
        matches!(error, BatchError::CommitUnknown { rows: 5_000, .. }),
        "{error:?}"
    );
    assert!(!error.is_retryable());
}
