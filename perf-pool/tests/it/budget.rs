//! What all instances together may open, against what a real server grants.

use perf_pool::{BudgetCheck, BudgetLimit, ConnectError, OverBudget, Pool, PoolBuilder};
use sqlx::{Connection, Executor, PgConnection, Postgres};
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
