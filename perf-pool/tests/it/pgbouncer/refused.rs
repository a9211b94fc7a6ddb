//! What is not sound is refused.

use std::time::Duration;

use perf_pool::{BudgetCheck, BudgetLimit, BuildError, ConnectError};
use perf_pool::{Pooler, PoolerError, PoolerStatements};
use sqlx::{Executor, SqlSafeStr};
use testkit::PoolMode;

use super::{CONSOLE, behind, bouncer, raw_sql, refused, text};

#[tokio::test]
async fn where_raw_sql_was_promised_what_would_be_prepared_is_turned_away() {
    let Some((_bouncer, url)) = bouncer(PoolMode::Transaction, &[]).await else {
        return;
    };
    let pool = raw_sql().connect(&url).await.unwrap();
    let query = || sqlx::query("SELECT 1");
    for refused in [
        query().execute(&pool).await.map(drop),
        query().fetch_one(&pool).await.map(drop),
        query().fetch_optional(&pool).await.map(drop),
        query().fetch_all(&pool).await.map(drop),
        query().bind(1).fetch_all(&pool).await.map(drop),
        (&pool).prepare("SELECT 1".into_sql_str()).await.map(drop),
        (&pool).describe("SELECT 1".into_sql_str()).await.map(drop),
        query()
            .execute(&mut pool.acquire().await.unwrap())
            .await
            .map(drop),
    ] {
        let error = refused.unwrap_err().to_string();
        assert!(error.contains("use sqlx::raw_sql"), "{error}");
    }
    assert_eq!(pool.execute("SELECT 1").await.unwrap().rows_affected(), 1);
    assert_eq!(pool.fetch_all("SELECT 1").await.unwrap().len(), 1);
    pool.close().await;
}

#[tokio::test]
async fn what_pgbouncer_has_room_for_is_part_of_the_budget() {
    let settings = [
        CONSOLE,
        ("default_pool_size", "9"),
        ("reserve_pool_size", "2"),
        ("max_client_conn", "40"),
    ];
    let clients = BudgetLimit::PoolerClients {
        max_client_conn: 40,
    };
    let servers = BudgetLimit::PoolerServers {
        pool_size: 9,
        reserve: 2,
    };
    for (mode, builder, limit, fits, too_many) in [
        (PoolMode::Transaction, raw_sql as fn() -> _, clients, 5, 6),
        (
            PoolMode::Session,
            || behind(Pooler::PgBouncerSession),
            servers,
            1,
            2,
        ),
    ] {
        let Some((_bouncer, url)) = bouncer(mode, &settings).await else {
            return;
        };
        let kept = || builder().budget(BudgetCheck::Error);
        let pool = kept().instances(fits).connect(&url).await.unwrap();
        pool.close().await;
        match kept().instances(too_many).connect(&url).await {
            Err(ConnectError::OverBudget(over)) => assert_eq!(over.limit, limit),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn prepared_statements_are_refused_in_transaction_mode() {
    let Some((_bouncer, url)) = bouncer(PoolMode::Transaction, &[CONSOLE]).await else {
        return;
    };
    // The console has the last word over what was declared.
    let declared = PoolerStatements::Declared {
        major: 1,
        minor: 21,
        max_prepared_statements: 200,
    };
    for statements in [PoolerStatements::Prepared, declared] {
        let builder = behind(Pooler::PgBouncerTransaction).pooler_statements(statements);
        let error = refused(builder, &url).await;
        let PoolerError::TooOld { major: 1, minor } = error else {
            panic!("{error:?}")
        };
        assert!(minor < 21);
    }
    let pool = raw_sql().connect(&url).await.unwrap();
    assert_eq!(text(&pool, "SELECT 'served'").await, "served");
    pool.close().await;
}

#[tokio::test]
async fn who_may_not_ask_the_console_is_told_what_to_do() {
    let Some((_bouncer, url)) = bouncer(PoolMode::Transaction, &[]).await else {
        return;
    };
    let error = refused(behind(Pooler::PgBouncerTransaction), &url).await;
    let PoolerError::Console { source } = &error else {
        panic!("{error:?}")
    };
    assert!(source.to_string().contains("not allowed"), "{source}");
    assert!(error.to_string().contains("stats_users"), "{error}");
}

#[tokio::test]
async fn another_mode_than_the_declared_one_is_refused() {
    let statement = [CONSOLE, ("pool_mode", "statement")];
    // The mode of the user goes before that of all.
    let own = [CONSOLE, ("[users]\npostgres", "pool_mode=session")];
    for (settings, mode, builder, found) in [
        (&[CONSOLE][..], PoolMode::Session, raw_sql(), "session"),
        (
            &[CONSOLE][..],
            PoolMode::Transaction,
            behind(Pooler::PgBouncerSession),
            "transaction",
        ),
        (&own[..], PoolMode::Transaction, raw_sql(), "session"),
        (
            &statement[..],
            PoolMode::Transaction,
            raw_sql(),
            "statement",
        ),
    ] {
        let Some((_bouncer, url)) = bouncer(mode, settings).await else {
            return;
        };
        match refused(builder, &url).await {
            PoolerError::Mode { actual, .. } => assert_eq!(actual, found),
            error => panic!("{error:?}"),
        }
    }
}

#[tokio::test]
async fn session_mode_without_a_reset_is_refused() {
    let settings = [CONSOLE, ("server_reset_query", "")];
    let Some((_bouncer, url)) = bouncer(PoolMode::Session, &settings).await else {
        return;
    };
    let error = refused(behind(Pooler::PgBouncerSession), &url).await;
    assert!(matches!(error, PoolerError::NoReset), "{error:?}");
}

#[tokio::test]
async fn what_needs_a_session_is_refused_before_anything_is_opened() {
    let limited = raw_sql().statement_timeout(Duration::from_secs(1));
    let hook = raw_sql().after_connect(|_| Box::pin(async { Ok(()) }));
    let begin = raw_sql().begin_statement("BEGIN; SET work_mem = '5MB'");
    for builder in [limited, hook, begin] {
        // Nobody listens there.
        let error = builder.connect("postgres://127.0.0.1:1/quiz").await;
        assert!(
            matches!(
                error,
                Err(ConnectError::Build(BuildError::BehindPooler { .. }))
            ),
            "{error:?}"
        );
    }
}
