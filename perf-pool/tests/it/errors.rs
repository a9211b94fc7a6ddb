use std::error::Error;
use std::time::{Duration, Instant};

use perf_pool::{AcquireError, ConnectError, Phase, Pool};
use sqlx::Postgres;
use testkit::Proxy;
use tokio::net::TcpListener;

use crate::files::{File, at_most};
use crate::wait;

/// Everything that a log could show of an error.
fn shown(error: &(dyn Error + 'static)) -> String {
    let mut all = format!("{error:?}");
    let mut next = Some(error);
    while let Some(error) = next {
        all.push_str(&format!(" | {error}"));
        next = error.source();
    }
    all
}

#[tokio::test]
async fn a_timeout_explains_itself() {
    let file = File::new();
    let pool = file
        .open(
            at_most(1)
                .min_connections(1)
                .acquire_timeout(Duration::from_millis(500)),
        )
        .await;
    let _held = pool.acquire().await.unwrap();
    let error = pool.acquire().await.unwrap_err();
    let AcquireError::Timeout {
        phase,
        waited,
        status,
        last_connect_error,
        ..
    } = &error
    else {
        panic!("{error:?}")
    };
    assert_eq!(*phase, Phase::Wait);
    assert!(*waited >= Duration::from_millis(500));
    assert_eq!((status.max, status.in_use, status.pending), (1, 1, 1));
    assert!(last_connect_error.is_none());
    let message = error.to_string();
    assert!(
        message.contains(
            "(max 1, 1 in use, 1 waiting): raise max_connections or shorten transactions; held \
             longest at"
        ),
        "{message}"
    );
    assert_eq!(pool.status().pending, 0);

    // The same through a plain sqlx call.
    let error = sqlx::query("SELECT 1").execute(&pool).await.unwrap_err();
    assert!(
        error.to_string().contains("raise max_connections"),
        "{error}"
    );
    assert!(AcquireError::in_sqlx(&error).is_some());
}

#[tokio::test]
async fn waiting_and_later_callers_hear_that_the_pool_was_closed() {
    let file = File::new();
    let pool = file.open(at_most(1)).await;
    let held = pool.acquire().await.unwrap();
    let waiter = tokio::spawn(pool.acquire());
    tokio::task::yield_now().await;
    let closing = tokio::spawn({
        let pool = pool.clone();
        async move { pool.close().await }
    });
    assert!(matches!(waiter.await.unwrap(), Err(AcquireError::Closed)));
    assert!(matches!(pool.acquire().await, Err(AcquireError::Closed)));
    assert!(pool.try_acquire().is_none());
    assert!(matches!(
        sqlx::query("SELECT 1").execute(&pool).await,
        Err(sqlx::Error::PoolClosed)
    ));
    assert!(!closing.is_finished(), "close waits for what is in use");
    drop(held);
    closing.await.unwrap();
    assert_eq!(pool.status().size, 0);
}

#[tokio::test]
async fn closing_the_bare_sqlx_pool_reaches_waiting_callers() {
    let file = File::new();
    let pool = file.open(at_most(1)).await;
    let held = pool.acquire().await.unwrap();
    let waiter = tokio::spawn(pool.acquire());
    tokio::task::yield_now().await;
    let bare: sqlx::SqlitePool = (*pool).clone();
    let closing = tokio::spawn(async move { bare.close().await });
    assert!(matches!(waiter.await.unwrap(), Err(AcquireError::Closed)));
    drop(held);
    closing.await.unwrap();
}

#[tokio::test]
async fn an_unreachable_server_is_reported_at_once_without_the_password() {
    // A port that was free a moment ago: nothing listens there.
    let port = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap().port()
    };
    let url = format!("postgres://app:hunter2@127.0.0.1:{port}/quiz?sslmode=disable");
    let started = Instant::now();
    let builder = Pool::<Postgres>::builder().connect_timeout(Duration::from_secs(60));
    let error = builder.connect(&url).await.unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(30));
    assert_eq!(
        error.to_string(),
        format!("cannot connect to postgres://127.0.0.1:{port}/quiz")
    );
    let shown = shown(&error);
    assert!(shown.contains("refused"), "{shown}");
    assert!(!shown.contains("hunter2"), "{shown}");
    // As it arrives in code that returns sqlx's error.
    assert!(matches!(sqlx::Error::from(error), sqlx::Error::Io(_)));
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up_after_connect_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let error = Pool::<Postgres>::builder()
        .connect_timeout(Duration::from_millis(100))
        .connect(&format!("postgres://app:hunter2@127.0.0.1:{port}/quiz"))
        .await
        .unwrap_err();
    assert!(matches!(error, ConnectError::Timeout { .. }), "{error:?}");
    assert!(error.to_string().contains("within 100ms"), "{error}");
    assert!(!shown(&error).contains("hunter2"));
}

#[tokio::test]
async fn an_unreadable_url_does_not_show_its_password() {
    for url in [
        "postgres://app:hunter2@host:notaport/quiz",
        "postgres://app:hun/ter2hunter2@host/quiz",
        "hunter2",
    ] {
        let error = Pool::<Postgres>::builder().connect(url).await.unwrap_err();
        assert!(matches!(error, ConnectError::Url { .. }), "{error:?}");
        let shown = shown(&error);
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

#[tokio::test]
async fn a_failing_after_connect_is_reported_at_once() {
    let file = File::new();
    let error = at_most(1)
        .after_connect(|_| Box::pin(async { Err(sqlx::Error::RowNotFound) }))
        .connect_with(file.options())
        .await
        .unwrap_err();
    let ConnectError::AfterConnect { source, .. } = error else {
        panic!("{error:?}")
    };
    assert!(matches!(source, sqlx::Error::RowNotFound));
}

#[tokio::test]
async fn a_timeout_over_a_failing_after_connect_names_its_error() {
    let file = File::new();
    let first = std::sync::atomic::AtomicBool::new(true);
    let pool = at_most(1)
        .acquire_timeout(Duration::from_secs(1))
        .after_connect(move |_| {
            let first = first.swap(false, std::sync::atomic::Ordering::Relaxed);
            Box::pin(async move {
                if first {
                    Ok(())
                } else {
                    Err(sqlx::Error::RowNotFound)
                }
            })
        })
        .connect_with(file.options())
        .await
        .unwrap();
    let error = pool.acquire().await.unwrap_err();
    assert!(
        error.to_string().contains("new connections fail"),
        "{error}"
    );
    let source = error.source().unwrap().to_string();
    assert_eq!(source, sqlx::Error::RowNotFound.to_string());
}

#[tokio::test]
async fn an_error_that_was_overcome_is_not_the_reason_later() {
    let file = File::new();
    let attempts = std::sync::atomic::AtomicU32::new(0);
    let pool = at_most(1)
        .acquire_timeout(Duration::from_secs(1))
        .after_connect(move |_| {
            let attempt = attempts.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Box::pin(async move {
                if attempt == 1 {
                    Err(sqlx::Error::RowNotFound)
                } else {
                    Ok(())
                }
            })
        })
        .connect_with(file.options())
        .await
        .unwrap();
    let _held = pool.acquire().await.unwrap();
    let error = pool.acquire().await.unwrap_err();
    assert!(error.source().is_none(), "{error:?}");
}

#[tokio::test]
async fn close_does_not_wait_for_a_server_that_is_gone() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let Some(pg) = testkit::Postgres::shared().await else {
        return;
    };
    let pool = Pool::<Postgres>::builder()
        .min_connections(0)
        .max_connections(2)
        .connect(&pg.url())
        .await
        .unwrap();
    // From here on every new connection is accepted by nobody.
    let gone = format!("postgres://app@127.0.0.1:{port}/quiz?sslmode=disable");
    pool.set_connect_options(gone.parse().unwrap());
    let acquire = tokio::spawn(pool.acquire());
    wait::eventually("the attempt to connect", || pool.status().size == 1).await;
    tokio::time::timeout(Duration::from_secs(10), pool.close())
        .await
        .unwrap();
    let error = acquire.await.unwrap().unwrap_err();
    assert!(matches!(error, AcquireError::Closed), "{error:?}");
}

#[tokio::test]
async fn a_wrong_database_is_reported_in_the_servers_words() {
    let Some(pg) = testkit::Postgres::shared().await else {
        return;
    };
    let url = pg.url();
    let mut parts = url.splitn(2, '?');
    let base = parts.next().unwrap().rsplit_once('/').unwrap().0;
    let url = format!("{base}/no_such_database?{}", parts.next().unwrap_or(""));
    let error = Pool::<Postgres>::builder().connect(&url).await.unwrap_err();
    let ConnectError::Connect { source, .. } = &error else {
        panic!("{error:?}")
    };
    let code = source.as_database_error().unwrap().code().unwrap();
    assert_eq!(code, "3D000");
}

#[tokio::test]
async fn whoever_waits_for_what_the_bare_pool_holds_does_not_blame_the_server() {
    let Some(pg) = testkit::Postgres::shared().await else {
        return;
    };
    for max in [1, 3] {
        let proxy = Proxy::start(pg.address()).await;
        let builder = Pool::<Postgres>::builder()
            .min_connections(0)
            .max_connections(max)
            .connect_timeout(Duration::from_millis(1_100))
            .acquire_timeout(Duration::from_secs(2));
        let pool = builder.connect(&proxy.url(&pg.url())).await.unwrap();
        let bare: sqlx::PgPool = (*pool).clone();
        let mut held = Vec::new();
        for _ in 0..max {
            held.push(bare.acquire().await.unwrap());
        }
        let opened = proxy.connections();
        let error = pool.acquire().await.unwrap_err();
        let AcquireError::Timeout {
            phase,
            last_connect_error,
            ..
        } = &error
        else {
            panic!("{error:?}")
        };
        assert_eq!(*phase, Phase::Wait, "{error}");
        assert!(last_connect_error.is_none(), "{error}");
        // Where the numbers tell who holds the connections, the server is not asked.
        let asked = proxy.connections() - opened;
        assert!(max == 1 || asked == 0, "{asked}");
    }
}
