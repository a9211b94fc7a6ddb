use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use sqlx::{Connection, Row};
use sqlx_core::transaction::TransactionManager;

use super::*;
use crate::engine::copy::line::row_offset;
use crate::engine::copy::run::{Held, run_in_chunks};

const NUMBERS: &str = "CREATE TABLE numbers (n bigint PRIMARY KEY CHECK (n >= 0), text text)";

#[derive(Clone)]
struct Number(i64);

impl BulkValues<Postgres> for Number {
    fn values<S: ValueSink<Postgres>>(&self, sink: &mut S) -> Result<(), BoxDynError> {
        sink.push(self.0)?;
        sink.push("twenty characters ..")
    }
}

fn numbers() -> Table {
    table("numbers", &[Column::new("n"), Column::new("text")])
}

fn data(rows: &[Number]) -> Vec<u8> {
    let types = Types::of(&Number(0)).types;
    let plan = CopyIn::plan(numbers().columns(), &types, &types).unwrap();
    plan.encode(&indexed(rows), usize::MAX).unwrap().0
}

fn many(n: i64) -> Vec<Number> {
    (0..n).map(Number).collect()
}

/// Checks that answers belong to their questions.
async fn in_step(pool: &PgPool) {
    for n in 1..5_i64 {
        let said: i64 = sqlx::query_scalar("SELECT $1")
            .bind(n)
            .fetch_one(pool)
            .await
            .unwrap();
        assert_eq!(said, n);
        assert_eq!(count(pool, &format!("SELECT {n}::bigint")).await, n);
    }
    // By the simple protocol, where a statement by itself starts with its transaction.
    let state = sqlx::raw_sql("SELECT now() = statement_timestamp()");
    let alone: bool = state.fetch_one(pool).await.unwrap().get(0);
    assert!(alone, "a transaction is open");
}

async fn backend(conn: &mut PoolConnection<Postgres>) -> i32 {
    let pid = sqlx::query_scalar("SELECT pg_backend_pid()");
    pid.fetch_one(&mut **conn).await.unwrap()
}

fn code(error: &sqlx::Error) -> String {
    let error = error.as_database_error().unwrap();
    error.code().unwrap().into_owned()
}

#[tokio::test]
async fn a_refused_copy_says_why_and_leaves_its_connection_usable() {
    let Some(pool) = pool(NUMBERS).await else {
        return;
    };
    let mut late = many(1_000);
    late[777].0 = 5;
    let mut early = many(60_000);
    early[3].0 = -1;
    let mut cut = data(&many(10));
    cut.truncate(60);
    let copy: &str = &copy_sql(&numbers());
    let missing = r#"COPY "missing" ("n") FROM STDIN (FORMAT binary)"#;
    for (sql, data, chunk, expected, line) in [
        (copy, data(&late), 1 << 20, "23505", Some(777)),
        (copy, data(&early), 1 << 10, "23514", Some(3)),
        (copy, cut, 1 << 20, "22P04", Some(1)),
        (missing, data(&many(1)), 1 << 20, "42P01", None),
        ("SELEKT", data(&many(1)), 1 << 20, "42601", None),
    ] {
        let mut conn = pool.acquire().await.unwrap();
        let pid = backend(&mut conn).await;
        let (conn, done) = run_in_chunks(conn, sql.into(), data, chunk).await;
        let error = done.unwrap_err();
        assert_eq!(code(&error), expected);
        let error = error.as_database_error().unwrap();
        let error = error.downcast_ref::<sqlx::postgres::PgDatabaseError>();
        let context = error.r#where().unwrap_or_default();
        assert_eq!(row_offset(context, "numbers"), line, "{context}");
        let mut conn = conn.unwrap();
        assert_eq!(backend(&mut conn).await, pid);
        drop(conn);
        in_step(&pool).await;
        assert_eq!(count(&pool, "SELECT count(*) FROM numbers").await, 0);
    }
}

#[tokio::test]
async fn a_role_that_may_not_write_is_told_so() {
    let Some(pool) = pool(NUMBERS).await else {
        return;
    };
    let grant = "DO $$ BEGIN
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO pg_monitor', current_schema);
    END $$";
    execute(&pool, grant).await;
    execute(&pool, "SET ROLE pg_monitor").await;
    let conn = pool.acquire().await.unwrap();
    let sql = copy_sql(&numbers());
    let (conn, done) = run_in_chunks(conn, sql, data(&many(1)), 8).await;
    assert_eq!(code(&done.unwrap_err()), "42501");
    drop(conn);
    in_step(&pool).await;
    execute(&pool, "RESET ROLE").await;
}

#[tokio::test]
async fn a_connection_that_is_out_of_step_is_closed_and_replaced() {
    let Some(pool) = pool(NUMBERS).await else {
        return;
    };
    // Not a COPY: sqlx gives up in the middle of the answer.
    let conn = pool.acquire().await.unwrap();
    let (conn, done) = run_in_chunks(conn, "SELECT 1".into(), data(&many(1)), 8).await;
    assert!(done.is_err() && conn.is_none());
    in_step(&pool).await;

    let mut conn = pool.acquire().await.unwrap();
    let pid = backend(&mut conn).await;
    let url = (*pool.connect_options()).clone();
    let mut other = sqlx::PgConnection::connect_with(&url).await.unwrap();
    let end = sqlx::query("SELECT pg_terminate_backend($1)").bind(pid);
    end.execute(&mut other).await.unwrap();
    let (conn, done) = run_in_chunks(conn, copy_sql(&numbers()), data(&many(1)), 8).await;
    assert!(done.is_err() && conn.is_none());
    in_step(&pool).await;
}

type Transactions = <Postgres as sqlx::Database>::TransactionManager;

#[tokio::test]
async fn a_transaction_goes_on_after_its_copy() {
    let Some(pool) = pool(NUMBERS).await else {
        return;
    };
    let mut conn = pool.acquire().await.unwrap();
    Transactions::begin(&mut conn, None).await.unwrap();
    let (conn, done) = super::super::run(conn, copy_sql(&numbers()), data(&many(9))).await;
    assert_eq!(done.unwrap(), 9);
    let mut conn = conn.unwrap();
    Transactions::commit(&mut conn).await.unwrap();
    let (conn, done) = super::super::run(conn, copy_sql(&numbers()), data(&many(10))).await;
    assert_eq!(code(&done.unwrap_err()), "23505");
    drop(conn);
    in_step(&pool).await;
    assert_eq!(count(&pool, "SELECT count(*) FROM numbers").await, 9);
}

/// Polls the future and lets the runtime go round, `rounds` times, and then drops it; `None` where
/// it was not done by then.
async fn drop_after<F: Future>(rounds: usize, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    for _ in 0..rounds {
        let polled = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await;
        if let Poll::Ready(output) = polled {
            return Some(output);
        }
        tokio::task::yield_now().await;
    }
    None
}

/// Drops a COPY of the rows after ever more rounds, until it is done before; returns how often
/// nothing and how often everything had been written.
async fn drop_at_every_round(rows: &[Number]) -> Option<[usize; 2]> {
    let pool = pool(NUMBERS).await?;
    let data = data(rows);
    let mut seen = [0, 0];
    let mut rounds = 0;
    loop {
        let mut conn = pool.acquire().await.unwrap();
        Transactions::begin(&mut conn, None).await.unwrap();
        let copy = run_in_chunks(conn, copy_sql(&numbers()), data.clone(), 1 << 10);
        let done = drop_after(rounds, copy).await;
        let finished = done.is_some();
        if let Some((conn, _)) = done {
            let mut conn = conn.unwrap();
            Transactions::commit(&mut conn).await.unwrap();
        }
        in_step(&pool).await;
        let written = count(&pool, "SELECT count(*) FROM numbers").await as usize;
        assert!(
            written == 0 || written == rows.len(),
            "{written} after {rounds}"
        );
        assert!(finished || written == 0, "{written} after {rounds}");
        seen[usize::from(written > 0)] += 1;
        execute(&pool, "TRUNCATE numbers").await;
        if finished {
            return Some(seen);
        }
        rounds += 1 + rounds / 6;
    }
}

#[tokio::test]
async fn a_copy_dropped_in_a_transaction_rolls_it_back() {
    let Some([nothing, all]) = drop_at_every_round(&many(5_000)).await else {
        return;
    };
    assert!(nothing > 5 && all == 1, "{nothing} {all}");
}

#[tokio::test]
async fn a_copy_dropped_after_the_server_refused_a_row_harms_no_one() {
    let mut rows = many(5_000);
    rows[1].0 = -1;
    let Some([_, all]) = drop_at_every_round(&rows).await else {
        return;
    };
    assert_eq!(all, 0);
}

#[tokio::test]
async fn a_copy_stops_before_any_chunk_and_keeps_its_connection() {
    let Some(pool) = pool(NUMBERS).await else {
        return;
    };
    let (sql, data) = (copy_sql(&numbers()), data(&many(20)));
    let chunks = data.len().div_ceil(100);
    for checks in 0..chunks + 2 {
        let mut conn = pool.acquire().await.unwrap();
        let pid = backend(&mut conn).await;
        Transactions::begin(&mut conn, None).await.unwrap();
        let passed = AtomicUsize::new(0);
        let is_dropped = || passed.fetch_add(1, Ordering::Relaxed) >= checks;
        let mut held = Held::new(conn);
        let copied = held.copy(&sql, &data, 100, is_dropped).await;
        assert_eq!(
            copied.is_ok_and(|rows| rows == 20),
            checks > chunks,
            "{checks}"
        );
        drop(held);
        in_step(&pool).await;
        let mut conn = pool.acquire().await.unwrap();
        assert_eq!(backend(&mut conn).await, pid, "{checks}");
        drop(conn);
        let written = count(&pool, "SELECT count(*) FROM numbers").await;
        assert_eq!(written, 0, "{checks}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_stopped_after_the_server_refused_a_row_keeps_its_connection() {
    let Some(pool) = pool(NUMBERS).await else {
        return;
    };
    let other = PgPoolOptions::new().max_connections(1);
    let other = other.connect_with((*pool.connect_options()).clone());
    let other = other.await.unwrap();
    // The number of fields of the first row.
    let mut data = data(&many(20));
    data[20] = 7;
    let mut conn = pool.acquire().await.unwrap();
    let pid = backend(&mut conn).await;
    Transactions::begin(&mut conn, None).await.unwrap();
    let passed = AtomicUsize::new(0);
    let is_dropped = || {
        if passed.fetch_add(1, Ordering::Relaxed) < 2 {
            return false;
        }
        // Until the server is done with the COPY.
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                let idle = format!(
                    "SELECT count(*) FROM pg_stat_activity WHERE pid = {pid} AND state LIKE 'idle in transaction%'"
                );
                while count(&other, &idle).await == 0 {}
            });
        });
        true
    };
    let mut held = Held::new(conn);
    let sql = copy_sql(&numbers());
    let error = held.copy(&sql, &data, 100, is_dropped).await.unwrap_err();
    assert_eq!(code(&error), "22P04");
    drop(held);
    in_step(&pool).await;
    let mut conn = pool.acquire().await.unwrap();
    assert_eq!(backend(&mut conn).await, pid);
}
