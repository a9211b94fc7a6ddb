//! Behind a real PgBouncer 1.18, the version of Debian 12: what is sound works, what is not is
//! refused at the start.

use std::time::Duration;

use perf_pool::{
    BudgetCheck, BudgetLimit, BuildError, ConnectError, Pool, PoolBuilder, Pooler, PoolerError,
    PoolerStatements,
};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, Executor, PgConnection, Postgres, Row, SqlSafeStr};
use testkit::{PgBouncer, PoolMode};

use crate::logs::Logs;

const CONSOLE: (&str, &str) = ("stats_users", "postgres");

/// The pooler, and the URL of the server by way of it.
async fn bouncer(mode: PoolMode, settings: &[(&str, &str)]) -> Option<(PgBouncer, String)> {
    let postgres = testkit::Postgres::shared().await?;
    let bouncer = PgBouncer::start_with(&postgres, mode, settings).await?;
    let url = bouncer.url(&postgres.url());
    Some((bouncer, url))
}

fn behind(pooler: Pooler) -> PoolBuilder<Postgres> {
    Pool::builder()
        .min_connections(1)
        .max_connections(8)
        .pooler(pooler)
}

fn raw_sql() -> PoolBuilder<Postgres> {
    behind(Pooler::PgBouncerTransaction).pooler_statements(PoolerStatements::RawSql)
}

async fn refused(builder: PoolBuilder<Postgres>, url: &str) -> PoolerError {
    match builder.connect(url).await {
        Err(ConnectError::Pooler(error)) => error,
        other => panic!("{other:?}"),
    }
}

async fn text(conn: impl Executor<'_, Database = Postgres>, sql: &'static str) -> String {
    let row = conn.fetch_one(sqlx::raw_sql(sql)).await.unwrap();
    row.get(0)
}

#[tokio::test]
async fn raw_sql_and_transactions_of_many_share_two_server_connections() {
    let Some((_bouncer, url)) = bouncer(PoolMode::Transaction, &[]).await else {
        return;
    };
    let pool = raw_sql().connect(&url).await.unwrap();
    let table = testkit::unique("pooled");
    let create = format!("CREATE TABLE {table} (n int)");
    pool.execute(sqlx::AssertSqlSafe(create)).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..32 {
        let (pool, table) = (pool.clone(), table.clone());
        tasks.spawn(async move {
            let mut tx = pool.begin().await.unwrap();
            let insert = format!("INSERT INTO {table} VALUES ({n})");
            tx.execute(sqlx::AssertSqlSafe(insert)).await.unwrap();
            if n % 2 == 0 {
                tx.commit().await.unwrap();
            } else {
                drop(tx);
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let count = format!("SELECT count(*)::text FROM {table}");
    let row = pool
        .fetch_one(sqlx::raw_sql(sqlx::AssertSqlSafe(count)))
        .await
        .unwrap();
    assert_eq!(row.get::<String, _>(0), "16");
    pool.close().await;
}

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
async fn other_options_are_checked_and_adapted_like_the_first_ones() {
    let settings = [("ignore_startup_parameters", "")];
    let Some((_bouncer, url)) = bouncer(PoolMode::Transaction, &settings).await else {
        return;
    };
    let pool = raw_sql().name("quiz").connect(&url).await.unwrap();
    let options: PgConnectOptions = url.parse().unwrap();
    let with = options.clone().options([("statement_timeout", "15s")]);
    let error = pool.reconnect_with(with).unwrap_err();
    assert!(
        matches!(error, BuildError::BehindPooler { .. }),
        "{error:?}"
    );
    pool.reconnect_with(options).unwrap();
    assert_eq!(text(&pool, "SHOW application_name").await, "quiz");
    pool.close().await;
}

#[tokio::test]
async fn startup_parameters_that_pgbouncer_does_not_know_are_left_out() {
    for (mode, builder) in [
        (PoolMode::Transaction, raw_sql()),
        (PoolMode::Session, behind(Pooler::PgBouncerSession)),
    ] {
        let Some((_bouncer, url)) = bouncer(mode, &[("ignore_startup_parameters", "")]).await
        else {
            return;
        };
        let pool = builder.name("quiz").connect(&url).await.unwrap();
        assert_eq!(text(&pool, "SHOW application_name").await, "quiz");
        pool.close().await;

        let error = refused(behind(Pooler::Direct), &url).await;
        let PoolerError::StartupParameter { parameter, .. } = &error else {
            panic!("{error:?}")
        };
        assert_eq!(parameter, "extra_float_digits");
        assert!(error.to_string().contains("pooler("), "{error}");
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
    for (settings, mode, builder, found) in [
        (&[CONSOLE][..], PoolMode::Session, raw_sql(), "session"),
        (
            &[CONSOLE][..],
            PoolMode::Transaction,
            behind(Pooler::PgBouncerSession),
            "transaction",
        ),
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
async fn session_mode_takes_prepared_statements_and_the_timeouts() {
    for settings in [&[][..], &[CONSOLE]] {
        let Some((_bouncer, url)) = bouncer(PoolMode::Session, settings).await else {
            return;
        };
        let pool = behind(Pooler::PgBouncerSession)
            .statement_timeout(Duration::from_secs(15))
            .idle_in_transaction_session_timeout(Duration::from_secs(30))
            .after_connect(|conn| {
                Box::pin(async move {
                    conn.execute("SET work_mem = '5MB'").await?;
                    Ok(())
                })
            })
            .connect(&url)
            .await
            .unwrap();
        for n in 0..20 {
            let m: i32 = sqlx::query_scalar("SELECT $1::int")
                .bind(n)
                .fetch_one(&pool)
                .await
                .unwrap();
            assert_eq!(m, n);
        }
        for (setting, value) in [
            ("SHOW statement_timeout", "15s"),
            ("SHOW idle_in_transaction_session_timeout", "30s"),
            ("SHOW work_mem", "5MB"),
        ] {
            assert_eq!(text(&pool, setting).await, value);
        }
        pool.close().await;
        // The next client finds none of it.
        let mut next = PgConnection::connect(&url).await.unwrap();
        assert_eq!(text(&mut next, "SHOW statement_timeout").await, "0");
        assert_eq!(text(&mut next, "SHOW work_mem").await, "4MB");
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
    let timeout = raw_sql().statement_timeout(Duration::from_secs(1));
    let hook = raw_sql().after_connect(|_| Box::pin(async { Ok(()) }));
    let begin = raw_sql().begin_statement("BEGIN; SET work_mem = '5MB'");
    for builder in [timeout, hook, begin] {
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
