//! What an attempt that was rolled back returned is gone.

use perf_batch::{BulkInsert, BulkRow, OnConflict, Retry, TxScope};

use super::{Note, pool, saved, shuffled};

#[tokio::test]
async fn a_deadlock_leaves_no_ids_of_the_attempt_before() {
    #[derive(Debug, Clone, BulkRow)]
    #[bulk(table = "counters")]
    struct Counter {
        #[bulk(key)]
        n: i64,
        value: i64,
    }
    // As large as two statements, so that the first has returned when the second waits.
    let schema = "CREATE TABLE counters (id bigserial, n bigint PRIMARY KEY, value bigint);
        INSERT INTO counters (n, value) VALUES (1, 0), (4999, 0)";
    let Some(pool) = pool(schema, 2).await else {
        return;
    };
    let mut other = pool.begin().await.unwrap();
    let lock = async |tx: &mut sqlx::PgConnection, n: i64| {
        let sql = "UPDATE counters SET value = 7 WHERE n = $1";
        sqlx::query(sql).bind(n).execute(tx).await
    };
    sqlx::raw_sql("SET LOCAL deadlock_timeout = '60s'")
        .execute(&mut *other)
        .await
        .unwrap();
    lock(&mut other, 4_999).await.unwrap();
    let mut conn = pool.acquire().await.unwrap();
    sqlx::raw_sql("SET deadlock_timeout = '20ms'")
        .execute(&mut *conn)
        .await
        .unwrap();
    let insert = BulkInsert::<Counter>::new()
        .on_conflict(OnConflict::DoNothing)
        .retry(Retry::transient(9))
        .returning("id");
    let rows: Vec<Counter> = (0..5_000).map(|n| Counter { n, value: 1 }).collect();
    let write = insert.execute::<i64, _, _>(&mut conn, rows.clone());
    let cross = async {
        let waiting =
            "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND pid <> pg_backend_pid()
            AND pid IN (SELECT pid FROM pg_locks WHERE relation = 'counters'::regclass))";
        // Once the batch holds its first rows and waits for the last but one.
        while !sqlx::query_scalar::<_, bool>(waiting)
            .fetch_one(&mut *other)
            .await
            .unwrap()
        {}
        // A row that the batch has inserted: it is taken now.
        let taken = "INSERT INTO counters (n, value) VALUES (2, 7)";
        sqlx::query(taken).execute(&mut *other).await.unwrap();
        other.commit().await.unwrap();
    };
    let (written, ()) = tokio::join!(write, cross);
    let (report, ids) = written.unwrap();
    assert_eq!(report.retries, 1);
    let none: Vec<_> = (0..5_000_usize).filter(|n| ids[*n].is_none()).collect();
    assert_eq!(none, [1, 2, 4_999]);
    let saved: Vec<(i64, i64)> = sqlx::query_as("SELECT id, n FROM counters WHERE value = 1")
        .fetch_all(&mut *conn)
        .await
        .unwrap();
    assert_eq!(saved.len(), 4_997);
    for (id, n) in saved {
        assert_eq!(ids[n as usize], Some(id));
    }
}

#[tokio::test]
async fn chunks_that_commit_by_themselves_keep_their_places() {
    let schema = "CREATE TABLE notes (id bigserial PRIMARY KEY, label bigint, text text)";
    let Some(pool) = pool(schema, 1).await else {
        return;
    };
    let insert = BulkInsert::<Note>::new()
        .scope(TxScope::PerChunk)
        .chunk_rows(300)
        .retry(Retry::transient(2))
        .returning("id");
    let rows = shuffled(1_000);
    let ids = insert
        .fetch_ids::<i64, _, _>(&pool, rows.clone())
        .await
        .unwrap();
    assert_eq!(ids, saved(&pool, &rows).await);
}
