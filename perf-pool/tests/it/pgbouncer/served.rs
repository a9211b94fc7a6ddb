//! What is sound works.

use std::time::Duration;

use perf_pool::{BuildError, Pooler, PoolerError};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, Executor, PgConnection, Row};
use testkit::PoolMode;
use tokio::time::timeout;

use super::{CONSOLE, behind, bouncer, raw_sql, refused, text};

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

/// A ping waits for a server connection, too.
#[tokio::test]
async fn a_pooler_without_a_free_server_connection_does_not_look_dead() {
    let Some((_bouncer, url)) = bouncer(PoolMode::Transaction, &[]).await else {
        return;
    };
    let options: PgConnectOptions = url.parse().unwrap();
    let proxy = testkit::Proxy::start(("127.0.0.1", options.get_port())).await;
    let pool = raw_sql()
        .max_connections(1)
        .alive_bypass_window(Duration::ZERO)
        .connect(&proxy.url(&url))
        .await
        .unwrap();
    let opened = proxy.counts().connections;
    let mut holders = Vec::new();
    for _ in 0..2 {
        let mut holder = PgConnection::connect(&url).await.unwrap();
        holder.execute("BEGIN").await.unwrap();
        holders.push(holder);
    }
    let mut caller = tokio::spawn(pool.acquire());
    // Longer than a ping may take where nothing stands in between.
    let while_busy = timeout(Duration::from_millis(700), &mut caller).await;
    assert!(while_busy.is_err(), "{while_busy:?}");
    drop(holders);
    let mut conn = caller.await.unwrap().unwrap();
    assert_eq!(text(&mut *conn, "SELECT 'served'").await, "served");
    assert_eq!(proxy.counts().connections, opened);
}
