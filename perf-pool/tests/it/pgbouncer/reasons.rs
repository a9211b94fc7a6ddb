//! Why it is refused.

use perf_pool::{BuildError, ConnectError, Pooler};
use sqlx::{Connection, Executor, PgConnection};
use testkit::PoolMode;

use super::{behind, bouncer, raw_sql, text};
use crate::logs::Logs;

/// Why the options of a URL are refused even where PgBouncer could be told to ignore them.
#[tokio::test]
async fn what_pgbouncer_ignores_does_not_hold() {
    let ignored = ("ignore_startup_parameters", "extra_float_digits, options");
    let Some((_bouncer, url)) = bouncer(PoolMode::Session, &[ignored]).await else {
        return;
    };
    let and = if url.contains('?') { '&' } else { '?' };
    let url = format!("{url}{and}options[statement_timeout]=15s");
    let mut conn = PgConnection::connect(&url).await.unwrap();
    assert_eq!(text(&mut conn, "SHOW statement_timeout").await, "0");
    let error = behind(Pooler::PgBouncerSession).connect(&url).await;
    assert!(
        matches!(
            error,
            Err(ConnectError::Build(BuildError::BehindPooler { .. }))
        ),
        "{error:?}"
    );
}

/// Why prepared statements are refused: both clients call theirs by the same name.
#[tokio::test]
async fn in_transaction_mode_one_client_runs_the_statement_of_another() {
    let Some((_bouncer, url)) = bouncer(PoolMode::Transaction, &[]).await else {
        return;
    };
    let connect = || async { PgConnection::connect(&url).await.unwrap() };
    let (mut one, mut two) = (connect().await, connect().await);
    let (mut first, mut second) = (connect().await, connect().await);
    // Two server connections serve all; what the one client prepares goes to the second.
    first.execute("BEGIN").await.unwrap();
    let mine = || sqlx::query_scalar::<_, String>("SELECT 'one'");
    assert_eq!(mine().fetch_one(&mut one).await.unwrap(), "one");
    // And what the other one prepares, to the first.
    second.execute("BEGIN").await.unwrap();
    first.execute("COMMIT").await.unwrap();
    let other = sqlx::query_scalar::<_, String>("SELECT 'two'");
    assert_eq!(other.fetch_one(&mut two).await.unwrap(), "two");
    // The first one is free alone.
    assert_eq!(mine().fetch_one(&mut one).await.unwrap(), "two");
}

#[tokio::test]
async fn a_pooler_that_was_not_declared_is_warned_of() {
    let Some((_bouncer, url)) = bouncer(PoolMode::Transaction, &[]).await else {
        return;
    };
    let found = "a pooler stands before the server";
    let logs = Logs::new();
    let pool = behind(Pooler::Direct).connect(&url).await.unwrap();
    assert_eq!(logs.with(found).len(), 1);
    assert_eq!(pool.status().idle, 1);
    pool.close().await;

    let Some(postgres) = testkit::Postgres::shared().await else {
        return;
    };
    let logs = Logs::new();
    let pool = behind(Pooler::Direct).connect(&postgres.url()).await;
    pool.unwrap().close().await;
    raw_sql().connect(&url).await.unwrap().close().await;
    assert_eq!(logs.with(found), [""; 0]);
}
