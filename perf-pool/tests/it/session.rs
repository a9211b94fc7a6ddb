//! What every session on Postgres has from its start.

use std::time::Duration;

use perf_pool::Pool;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, Postgres};

#[tokio::test]
async fn the_timeouts_and_the_name_of_the_pool_hold_from_the_first_query_on() {
    let Some(pg) = testkit::Postgres::shared().await else {
        return;
    };
    let pool = Pool::<Postgres>::builder()
        .name("answers")
        .min_connections(0)
        .max_connections(1)
        .statement_timeout(Duration::from_secs(1))
        .idle_in_transaction_session_timeout(Duration::from_secs(30))
        .statement_cache_capacity(3)
        .connect(&pg.schema_url().await)
        .await
        .unwrap();
    let show = |setting: &'static str| {
        let pool = pool.clone();
        async move {
            let sql = AssertSqlSafe(format!("SHOW {setting}"));
            let shown: String = sqlx::query_scalar(sql).fetch_one(&pool).await.unwrap();
            shown
        }
    };
    assert_eq!(show("statement_timeout").await, "1s");
    assert_eq!(show("idle_in_transaction_session_timeout").await, "30s");
    assert_eq!(show("application_name").await, "answers");
    let error = pool.execute("SELECT pg_sleep(10)").await.unwrap_err();
    let code = error.as_database_error().and_then(|e| e.code());
    assert_eq!(code.as_deref(), Some("57014"));

    let mut conn = pool.acquire().await.unwrap();
    for n in 0..10 {
        let sql = AssertSqlSafe(format!("SELECT {n}"));
        sqlx::query(sql).execute(&mut *conn).await.unwrap();
    }
    assert_eq!(conn.cached_statements_size(), 3);
}

/// Why a capacity of 0 is refused; where this fails, sqlx has mended it.
#[tokio::test]
async fn without_a_statement_cache_sqlx_leaves_a_statement_behind_for_each_query() {
    let Some(pg) = testkit::Postgres::shared().await else {
        return;
    };
    let options: PgConnectOptions = pg.url().parse().unwrap();
    let mut conn = options.statement_cache_capacity(0).connect().await.unwrap();
    for _ in 0..10 {
        sqlx::query("SELECT 1").execute(&mut conn).await.unwrap();
    }
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM pg_prepared_statements")
        .fetch_one(&mut conn)
        .await
        .unwrap();
    assert!(left >= 10, "{left}");
    let builder = Pool::<Postgres>::builder().statement_cache_capacity(0);
    let error = builder.connect(&pg.url()).await.unwrap_err();
    assert!(error.to_string().contains("leave it out"), "{error}");
}
