//! Connections that are cut and backends that are killed, at any moment: with retries, every batch
//! is written exactly once. The table has nothing that would hide a double.

use std::collections::BTreeMap;
use std::time::Duration;

use perf_batch::{BatchError, BulkInsert, BulkRow, Path, Retry};
use sqlx::postgres::{PgPool, PgPoolOptions};
use testkit::{Proxy, contains};

#[derive(Debug, Clone, BulkRow)]
#[bulk(table = "entries")]
struct Entry {
    batch: i64,
    n: i64,
}

const ENTRIES: &str = "CREATE TABLE entries (batch bigint NOT NULL, n bigint NOT NULL);
    CREATE TABLE commits (id text PRIMARY KEY, at timestamptz DEFAULT now())";

fn entries(batch: i64, n: i64) -> Vec<Entry> {
    (0..n).map(|n| Entry { batch, n }).collect()
}

/// The server directly, and a pool of one connection through the proxy.
struct Line {
    /// How the server knows the pool's connections.
    name: String,
    direct: PgPool,
    proxy: Proxy,
    pool: PgPool,
}

impl Line {
    async fn new() -> Option<Self> {
        let server = testkit::Postgres::shared().await?;
        let proxy = Proxy::start(server.address()).await;
        let url = server.schema_url().await;
        let direct = PgPool::connect(&url).await.unwrap();
        sqlx::raw_sql(ENTRIES).execute(&direct).await.unwrap();
        let name = testkit::unique("batch");
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(Duration::from_secs(20))
            .connect(&format!("{}&application_name={name}", proxy.url(&url)))
            .await
            .unwrap();
        Some(Self {
            name,
            direct,
            proxy,
            pool,
        })
    }

    /// Kills the backends of the pool; how many there were.
    async fn kill(direct: PgPool, name: String) -> i64 {
        let sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
            WHERE application_name = $1";
        let query = sqlx::query_scalar(sql).bind(name);
        query.fetch_one(&direct).await.unwrap()
    }

    /// How many rows each batch has.
    async fn written(&self) -> BTreeMap<i64, i64> {
        let sql = "SELECT batch, count(*) FROM entries GROUP BY batch";
        let rows: Vec<(i64, i64)> = sqlx::query_as(sql).fetch_all(&self.direct).await.unwrap();
        rows.into_iter().collect()
    }
}

fn patient() -> Retry {
    Retry::transient(20)
        .min_delay(Duration::from_millis(1))
        .max_delay(Duration::from_millis(20))
}

/// Writes `rounds` batches, each of which loses its connection somewhere; each must be there once.
async fn cut_at_random(insert: &BulkInsert<Entry>, rows: i64, rounds: i64) {
    let Some(line) = Line::new().await else {
        return;
    };
    // How much a batch sends, so that the cuts come anywhere in it.
    let before = line.proxy.counts().to_server;
    insert.execute(&line.pool, entries(-1, rows)).await.unwrap();
    let sent = line.proxy.counts().to_server - before;
    let (mut retries, mut killed) = (0, 0);
    for batch in 0..rounds {
        let mut killer = None;
        if batch % 3 == 2 {
            // The backend itself, while it is busy with the batch.
            let delay = Duration::from_micros(fastrand::u64(0..rows as u64 * 2 + 500));
            let (direct, name) = (line.direct.clone(), line.name.clone());
            killer = Some(tokio::spawn(async move {
                tokio::time::sleep(delay).await;
                Line::kill(direct, name).await
            }));
        } else {
            line.proxy
                .cut_after_bytes(fastrand::u64(0..sent + sent / 8));
        }
        let report = insert.execute(&line.pool, entries(batch, rows)).await;
        retries += report.unwrap().retries;
        if let Some(killer) = killer {
            killed += killer.await.unwrap();
        }
    }
    let written = line.written().await;
    for batch in -1..rounds {
        assert_eq!(written.get(&batch), Some(&rows), "batch {batch}");
    }
    assert_eq!(written.len() as i64, rounds + 1);
    assert!(line.proxy.counts().cuts > rounds as u64 / 3);
    assert!(killed > rounds / 5, "{killed} killed");
    assert!(retries > rounds as u64 / 8, "{retries} retries");
}

#[tokio::test]
async fn a_batch_that_is_cut_anywhere_is_written_once() {
    let insert = BulkInsert::<Entry>::new().retry(patient());
    cut_at_random(&insert, 50, 100).await;
}

#[tokio::test]
async fn a_batch_of_many_statements_that_is_cut_anywhere_is_written_once() {
    let insert = BulkInsert::<Entry>::new().retry(patient());
    cut_at_random(&insert.path(Path::Unnest), 9_000, 70).await;
}

#[tokio::test]
async fn a_copy_that_is_cut_anywhere_is_written_once() {
    let insert = BulkInsert::<Entry>::new().retry(patient());
    cut_at_random(&insert.path(Path::Copy), 2_000, 70).await;
}

#[tokio::test]
async fn a_marked_batch_that_is_cut_anywhere_is_written_once() {
    let insert = BulkInsert::<Entry>::new().retry(patient());
    cut_at_random(&insert.commit_marker("commits"), 50, 100).await;
}

/// Whether the COMMIT reaches the server before the line is cut at it.
async fn cut_at_commit(insert: BulkInsert<Entry>, reaches: bool) {
    let Some(line) = Line::new().await else {
        return;
    };
    for batch in 0..10 {
        if reaches {
            line.proxy.cut_after_request(contains("COMMIT"));
        } else {
            line.proxy.cut_before_request(contains("COMMIT"));
        }
        let report = insert.execute(&line.pool, entries(batch, 5)).await.unwrap();
        assert_eq!(report.written, 5);
        assert_eq!(report.retries, u64::from(!reaches), "batch {batch}");
        assert_eq!(line.proxy.counts().cuts, batch as u64 + 1);
    }
    let written = line.written().await;
    assert_eq!(written.len(), 10);
    assert!(written.values().all(|rows| *rows == 5), "{written:?}");
}

#[tokio::test]
async fn a_commit_that_was_done_is_not_done_again() {
    cut_at_commit(BulkInsert::new().retry(patient()), true).await;
    let marked = BulkInsert::new().retry(patient()).commit_marker("commits");
    cut_at_commit(marked, true).await;
}

#[tokio::test]
async fn a_commit_that_never_arrived_is_done_again() {
    cut_at_commit(BulkInsert::new().retry(patient()), false).await;
    let marked = BulkInsert::new().retry(patient()).commit_marker("commits");
    cut_at_commit(marked, false).await;
}

#[tokio::test]
async fn a_commit_whose_outcome_nobody_can_tell_is_unknown_and_not_retried() {
    let Some(line) = Line::new().await else {
        return;
    };
    let insert =
        BulkInsert::<Entry>::new().retry(patient().resolve_timeout(Duration::from_millis(300)));
    line.proxy.cut_after_request(contains("COMMIT"));
    let execute = insert.execute(&line.pool, entries(1, 5));
    let unreachable = async {
        line.proxy.until(|counts| counts.cuts == 1).await;
        line.proxy.refuse(true);
    };
    let (result, ()) = tokio::join!(execute, unreachable);
    let error = result.unwrap_err();
    assert!(
        matches!(error, BatchError::CommitUnknown { rows: 5, .. }),
        "{error:?}"
    );
    assert!(!error.is_retryable());
    assert_eq!(line.written().await, BTreeMap::from([(1, 5)]));
}

#[tokio::test]
async fn a_single_connection_that_is_lost_at_its_commit_leaves_the_outcome_unknown() {
    let Some(line) = Line::new().await else {
        return;
    };
    let insert = BulkInsert::<Entry>::new().retry(patient());
    line.proxy.cut_after_request(contains("COMMIT"));
    let mut conn = line.pool.acquire().await.unwrap();
    let error = insert.execute(&mut conn, entries(1, 5)).await.unwrap_err();
    assert!(
        matches!(error, BatchError::CommitUnknown { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_marker_table_without_its_key_is_refused_before_anything_is_written() {
    let Some(line) = Line::new().await else {
        return;
    };
    let sql = "ALTER TABLE commits DROP CONSTRAINT commits_pkey";
    sqlx::raw_sql(sql).execute(&line.direct).await.unwrap();
    let insert = BulkInsert::<Entry>::new().commit_marker("commits");
    let error = insert.execute(&line.pool, entries(1, 5)).await.unwrap_err();
    assert_eq!(error.code().as_deref(), Some("42P10"), "{error:?}");
    assert!(line.written().await.is_empty());
}

#[tokio::test]
async fn a_server_that_is_away_for_a_while_is_waited_for() {
    let Some(server) = testkit::Postgres::start().await else {
        return;
    };
    let pool = PgPoolOptions::new()
        .acquire_timeout(Duration::from_secs(1))
        .connect(&server.url())
        .await
        .unwrap();
    sqlx::raw_sql(ENTRIES).execute(&pool).await.unwrap();
    server.stop().await;
    let retry = Retry::transient(200)
        .min_delay(Duration::from_millis(20))
        .max_delay(Duration::from_millis(100));
    let insert = BulkInsert::<Entry>::new();
    let error = insert.execute(&pool, entries(1, 5)).await.unwrap_err();
    assert!(matches!(error, BatchError::Acquire { .. }), "{error:?}");
    assert!(error.is_retryable());
    let insert = insert.retry(retry);
    let (report, ()) = tokio::join!(insert.execute(&pool, entries(1, 5)), server.restart());
    assert_eq!(report.unwrap().written, 5);
}

#[tokio::test]
async fn a_deadlock_is_retried_on_the_same_connection() {
    #[derive(Debug, Clone, BulkRow)]
    #[bulk(table = "counters")]
    struct Counter {
        #[bulk(key)]
        id: i64,
        n: i64,
    }
    let schema = "CREATE TABLE counters (id bigint PRIMARY KEY, n bigint);
        INSERT INTO counters SELECT n, 0 FROM generate_series(1, 2) n;
        SET deadlock_timeout = '50ms'";
    let Some(pool) = super::pool(schema, 2).await else {
        return;
    };
    let counter = |id| Counter { id, n: 1 };
    // Another writer, who takes the rows in the other order.
    let mut other = pool.begin().await.unwrap();
    let lock = async |tx: &mut sqlx::PgConnection, id: i64| {
        let sql = "UPDATE counters SET n = n + 10 WHERE id = $1";
        sqlx::query(sql).bind(id).execute(tx).await
    };
    sqlx::raw_sql("SET LOCAL deadlock_timeout = '60s'")
        .execute(&mut *other)
        .await
        .unwrap();
    lock(&mut other, 2).await.unwrap();
    let insert = BulkInsert::<Counter>::new()
        .on_conflict(perf_batch::OnConflict::Update)
        .retry(patient());
    let mut conn = pool.acquire().await.unwrap();
    sqlx::raw_sql("SET deadlock_timeout = '20ms'")
        .execute(&mut *conn)
        .await
        .unwrap();
    let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid()")
        .fetch_one(&mut *conn)
        .await
        .unwrap();
    let write = insert.execute(&mut conn, vec![counter(1), counter(2)]);
    let cross = async {
        // Once the batch holds its first row and waits for the second; others may wait on this server, too.
        let waiting = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND pid = $1)";
        while !sqlx::query_scalar::<_, bool>(waiting)
            .bind(pid)
            .fetch_one(&mut *other)
            .await
            .unwrap()
        {}
        lock(&mut other, 1).await.unwrap();
        other.commit().await.unwrap();
    };
    let (report, ()) = tokio::join!(write, cross);
    let report = report.unwrap();
    assert_eq!(report.written, 2);
    assert_eq!(report.retries, 1);
}
