//! Exchanges see what those before them have left, or are refused.

use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};

use super::support::*;
use crate::remote::Rules;
use crate::{BackendError, Postgres};

#[tokio::test]
async fn connections_that_are_more_isolated_are_refused_with_what_to_set() {
    let Some(server) = testkit::Postgres::shared().await else {
        return;
    };
    for level in ["repeatable read", "serializable", "read committed"] {
        let pool = PgPoolOptions::new().after_connect(move |conn, _| {
            Box::pin(async move {
                let set = format!("SET default_transaction_isolation = '{level}'");
                conn.execute(AssertSqlSafe(set)).await?;
                Ok(())
            })
        });
        let pool = pool.connect(&server.url()).await.unwrap();
        let backend = Postgres::new(pool).schema(testkit::unique("queue"));
        match backend.open("q", None).await {
            Ok(_) => assert_eq!(level, "read committed"),
            Err(error) => {
                assert!(matches!(error, BackendError::Unfit { .. }), "{error}");
                let text = error.to_string();
                assert!(text.contains(level), "{text}");
                assert!(text.contains("default_transaction_isolation"), "{text}");
            }
        }
    }
}

#[tokio::test]
async fn an_exchange_does_not_go_on_with_what_it_saw_before_it_waited() {
    let Some(remote) = open(Rules::default()).await else {
        return;
    };
    let mut conn = remote.connection().await;
    let tx = conn.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ");
    let mut tx = tx.await.unwrap();
    let exchange = "SELECT FROM {schema}.exchange((SELECT queue FROM {schema}.queues),
        '{}', '{}', '{}', '{}', '{}', '{}', 1, 0, 30000000, 10)";
    let exchange = AssertSqlSafe(exchange.replace("{schema}", remote.schema()));
    let refused = sqlx::query(exchange).execute(&mut *tx).await.unwrap_err();
    let code = refused.as_database_error().unwrap().code();
    assert_eq!(code.as_deref(), Some("PQ001"));
}
