//! What all instances together may open, against what a real server grants.

use perf_pool::{BudgetCheck, BudgetLimit, ConnectError, OverBudget, Pool, PoolBuilder};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Postgres};
use testkit::{OwnPostgres, PostgresOptions};

use crate::logs::Logs;

async fn server() -> Option<OwnPostgres> {
    let options = PostgresOptions::new()
        .setting("max_connections", 20)
        .setting("superuser_reserved_connections", 4);
    testkit::Postgres::start_with(options).await
}

fn checked(instances: u32) -> PoolBuilder<Postgres> {
    Pool::builder()
        .min_connections(0)
        .max_connections(8)
        .instances(instances)
        .budget(BudgetCheck::Error)
}

async fn over(builder: PoolBuilder<Postgres>, url: &str) -> OverBudget {
    match builder.connect(url).await {
        Err(ConnectError::OverBudget(over)) => over,
        other => panic!("{other:?}"),
    }
}

/// Runs statements as the superuser.
async fn admin(pg: &OwnPostgres, statements: &'static str) {
    let mut admin = PgConnection::connect(&pg.url()).await.unwrap();
    admin.execute(sqlx::raw_sql(statements)).await.unwrap();
}

/// The URL of another role.
fn as_role(pg: &OwnPostgres, role: &str) -> String {
    pg.url().replacen("postgres@", &format!("{role}@"), 1)
}

#[tokio::test]
async fn the_instances_share_what_the_server_does_not_keep_back() {
    let Some(pg) = server().await else { return };
    checked(2).connect(&pg.url()).await.unwrap().close().await;
    let over = over(checked(3), &pg.url()).await;
    assert_eq!((over.instances, over.max_connections), (3, 8));
    let server = BudgetLimit::Server {
        max_connections: 20,
        reserved: 4,
    };
    assert_eq!(over.limit, server);
    assert!(over.to_string().contains("lower it to 5"), "{over}");
}

#[tokio::test]
async fn the_limits_of_role_and_database_count_for_all_but_superusers() {
    let Some(pg) = server().await else { return };
    admin(
        &pg,
        "CREATE ROLE app LOGIN; CREATE ROLE few LOGIN CONNECTION LIMIT 7;
         ALTER ROLE postgres CONNECTION LIMIT 1",
    )
    .await;
    let (app, few) = (as_role(&pg, "app"), as_role(&pg, "few"));
    checked(2).connect(&app).await.unwrap().close().await;
    assert_eq!(
        over(checked(1), &few).await.limit,
        BudgetLimit::Role {
            name: "few".to_owned(),
            limit: 7
        }
    );
    admin(&pg, "ALTER DATABASE postgres CONNECTION LIMIT 6").await;
    for url in [&app, &few] {
        assert_eq!(
            over(checked(1), url).await.limit,
            BudgetLimit::Database {
                name: "postgres".to_owned(),
                limit: 6
            }
        );
    }
    checked(2).connect(&pg.url()).await.unwrap().close().await;
}

#[tokio::test]
async fn by_default_it_is_a_warning() {
    let Some(pg) = server().await else { return };
    for (check, warned) in [(BudgetCheck::Warn, 1), (BudgetCheck::Off, 0)] {
        let logs = Logs::new();
        let pool = checked(3).budget(check).connect(&pg.url()).await.unwrap();
        let lines = logs.with("3 instances with max_connections 8 may open 24");
        assert_eq!(lines.len(), warned, "{lines:?}");
        pool.close().await;
    }
    assert_eq!(BudgetCheck::default(), BudgetCheck::Warn);
}

#[tokio::test]
async fn a_server_that_does_not_tell_is_an_error_where_the_budget_is_to_be_kept() {
    let Some(pg) = server().await else { return };
    admin(
        &pg,
        "CREATE ROLE app LOGIN;
         REVOKE EXECUTE ON FUNCTION pg_catalog.current_setting(text) FROM PUBLIC",
    )
    .await;
    let url = as_role(&pg, "app");
    let error = checked(1).connect(&url).await.unwrap_err();
    assert!(matches!(error, ConnectError::Budget { .. }), "{error:?}");
    let logs = Logs::new();
    let warned = checked(1).budget(BudgetCheck::Warn);
    warned.connect(&url).await.unwrap().close().await;
    assert_eq!(logs.with("does not tell").len(), 1);
}

#[tokio::test]
async fn the_timeouts_and_the_name_of_the_pool_hold_from_the_first_query_on() {
    use std::time::Duration;

    let Some(pg) = testkit::Postgres::shared().await else {
        return;
    };
    let pool = Pool::<Postgres>::builder()
        .name("answers")
        .min_connections(0)
        .max_connections(1)
        .statement_timeout(Duration::from_millis(50))
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
    assert_eq!(show("statement_timeout").await, "50ms");
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
    use sqlx::ConnectOptions;
    use sqlx::postgres::PgConnectOptions;

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
