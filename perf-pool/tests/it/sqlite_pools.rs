use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use perf_pool::{BuildError, ConnectError, SqlitePools};
use sqlx::sqlite::{SqliteConnectOptions, SqliteSynchronous};
use sqlx::{Acquire, ConnectOptions, Connection, Executor, Sqlite, SqliteConnection};

use crate::files::File;

async fn open(file: &File) -> SqlitePools {
    let pools = SqlitePools::open(file.path()).await.unwrap();
    let create = "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER NOT NULL)";
    sqlx::query(create).execute(pools.write()).await.unwrap();
    pools
}

async fn pragma(pool: &perf_pool::Pool<Sqlite>, name: &'static str) -> String {
    let mut conn = pool.acquire().await.unwrap();
    match sqlx::query_scalar::<_, i64>(name)
        .fetch_one(&mut *conn)
        .await
    {
        Ok(value) => value.to_string(),
        Err(_) => sqlx::query_scalar(name)
            .fetch_one(&mut *conn)
            .await
            .unwrap(),
    }
}

/// A writer as another process would be one, which does not wait for locks.
async fn stranger(file: &File) -> SqliteConnection {
    SqliteConnectOptions::new()
        .filename(file.path())
        .busy_timeout(Duration::ZERO)
        .connect()
        .await
        .unwrap()
}

async fn locked(stranger: &mut SqliteConnection) -> bool {
    match stranger.begin_with("BEGIN IMMEDIATE").await {
        Ok(tx) => {
            tx.rollback().await.unwrap();
            false
        }
        Err(error) => {
            assert!(error.to_string().contains("locked"), "{error}");
            true
        }
    }
}

#[tokio::test]
async fn the_file_is_created_and_readers_see_what_the_writer_committed() {
    let file = File::new();
    let pools = open(&file).await;
    let mut tx = pools.write().begin().await.unwrap();
    tx.execute("INSERT INTO t (n) VALUES (1)").await.unwrap();
    let count = "SELECT count(*) FROM t";
    let seen: i64 = sqlx::query_scalar(count)
        .fetch_one(pools.read())
        .await
        .unwrap();
    assert_eq!(seen, 0, "an open transaction is not seen");
    tx.commit().await.unwrap();
    let seen: i64 = sqlx::query_scalar(count)
        .fetch_one(pools.read())
        .await
        .unwrap();
    assert_eq!(seen, 1);
}

#[tokio::test]
async fn readers_cannot_write() {
    let file = File::new();
    let pools = open(&file).await;
    let error = sqlx::query("INSERT INTO t (n) VALUES (1)")
        .execute(pools.read())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("readonly"), "{error}");
}

#[tokio::test]
async fn connections_have_the_documented_settings() {
    let file = File::new();
    let pools = open(&file).await;
    for pool in [pools.read(), pools.write()] {
        assert_eq!(pragma(pool, "PRAGMA journal_mode").await, "wal");
        assert_eq!(pragma(pool, "PRAGMA cache_size").await, "-65536");
        assert_eq!(pragma(pool, "PRAGMA mmap_size").await, "268435456");
        assert_eq!(pragma(pool, "PRAGMA temp_store").await, "2");
        assert_eq!(pragma(pool, "PRAGMA busy_timeout").await, "5000");
        assert_eq!(pragma(pool, "PRAGMA foreign_keys").await, "1");
    }
    assert_eq!(pragma(pools.write(), "PRAGMA synchronous").await, "2");
    assert_eq!(
        pragma(pools.write(), "PRAGMA journal_size_limit").await,
        "67108864"
    );
    assert_eq!(pools.write().status().max, 1);
    assert_eq!(pools.write().name(), "sqlite_write");
    assert_eq!(pools.read().name(), "sqlite_read");
}

#[tokio::test]
async fn durability_and_readers_are_the_callers_choice() {
    let file = File::new();
    let pools = SqlitePools::builder(file.path())
        .name("quiz")
        .synchronous(SqliteSynchronous::Normal)
        .readers(3)
        .busy_timeout(Duration::from_secs(1))
        .open()
        .await
        .unwrap();
    assert_eq!(pragma(pools.write(), "PRAGMA synchronous").await, "1");
    assert_eq!(pragma(pools.write(), "PRAGMA busy_timeout").await, "1000");
    assert_eq!(
        (pools.read().status().max, pools.read().status().idle),
        (3, 3)
    );
    assert_eq!(pools.read().name(), "quiz_read");
}

#[tokio::test]
async fn the_longest_durations_are_accepted() {
    let file = File::new();
    let pools = SqlitePools::builder(file.path())
        .busy_timeout(Duration::MAX)
        .acquire_timeout(Duration::MAX)
        .open()
        .await
        .unwrap();
    assert_eq!(
        pragma(pools.write(), "PRAGMA busy_timeout").await,
        i32::MAX.to_string()
    );
}

#[tokio::test]
async fn every_way_to_begin_on_the_writer_takes_the_lock_at_once() {
    let file = File::new();
    let pools = open(&file).await;
    let mut other = stranger(&file).await;
    assert!(!locked(&mut other).await);

    let tx = pools.write().begin().await.unwrap();
    assert!(locked(&mut other).await, "Pool::begin");
    tx.rollback().await.unwrap();

    let tx: sqlx::Transaction<'_, Sqlite> = Acquire::begin(pools.write()).await.unwrap();
    assert!(locked(&mut other).await, "Acquire::begin on &Pool");
    tx.rollback().await.unwrap();

    let mut conn = pools.write().acquire().await.unwrap();
    let tx = conn.begin().await.unwrap();
    assert!(locked(&mut other).await, "PoolConnection::begin");
    tx.rollback().await.unwrap();
    let tx = Acquire::begin(&mut conn).await.unwrap();
    assert!(
        locked(&mut other).await,
        "Acquire::begin on &mut PoolConnection"
    );
    tx.rollback().await.unwrap();
    let tx = conn.begin_with("BEGIN IMMEDIATE").await.unwrap();
    assert!(locked(&mut other).await, "Connection::begin_with");
    tx.rollback().await.unwrap();

    drop(conn);
    let tx = pools.read().begin().await.unwrap();
    assert!(!locked(&mut other).await, "readers begin without the lock");
    drop(tx);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_and_readers_at_once_never_see_busy() {
    let file = File::new();
    let pools = SqlitePools::builder(file.path())
        .synchronous(SqliteSynchronous::Normal)
        .open()
        .await
        .unwrap();
    let create = "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER NOT NULL)";
    sqlx::query(create).execute(pools.write()).await.unwrap();
    let writers = (0..32).map(|writer: i64| {
        let pools = pools.clone();
        tokio::spawn(async move {
            for n in 0..20 {
                let mut tx = pools.write().begin().await.unwrap();
                // A read first: a deferred transaction would have to upgrade here.
                let _: i64 = sqlx::query_scalar("SELECT count(*) FROM t")
                    .fetch_one(&mut *tx)
                    .await
                    .unwrap();
                sqlx::query("INSERT INTO t (n) VALUES (?)")
                    .bind(writer * 100 + n)
                    .execute(&mut *tx)
                    .await
                    .unwrap();
                tx.commit().await.unwrap();
            }
        })
    });
    let readers = (0..8).map(|_| {
        let pools = pools.clone();
        tokio::spawn(async move {
            let mut last = 0;
            while last < 32 * 20 {
                let seen: i64 = sqlx::query_scalar("SELECT count(*) FROM t")
                    .fetch_one(pools.read())
                    .await
                    .unwrap();
                assert!(seen >= last, "a reader went back from {last} to {seen}");
                last = seen;
            }
        })
    });
    let tasks: Vec<_> = writers.chain(readers).collect();
    for task in join_all(tasks).await {
        task.unwrap();
    }
    assert_eq!(pools.write().status().pending, 0);
}

#[tokio::test]
async fn writers_are_served_in_their_order() {
    let file = File::new();
    let pools = open(&file).await;
    let first = pools.write().acquire().await.unwrap();
    let mut waiting = Vec::new();
    for n in 0..100_i64 {
        let mut acquire = Box::pin(pools.write().acquire());
        assert!(futures_util::poll!(&mut acquire).is_pending());
        waiting.push(async move {
            let mut conn = acquire.await.unwrap();
            sqlx::query("INSERT INTO t (n) VALUES (?)")
                .bind(n)
                .execute(&mut *conn)
                .await
                .unwrap();
        });
    }
    assert_eq!(pools.write().status().pending, 100);
    drop(first);
    join_all(waiting).await;
    let order: Vec<i64> = sqlx::query_scalar("SELECT n FROM t ORDER BY id")
        .fetch_all(pools.read())
        .await
        .unwrap();
    assert_eq!(order, (0..100).collect::<Vec<_>>());
}

#[tokio::test]
async fn after_connect_runs_on_the_writer_and_on_every_reader() {
    let file = File::new();
    let runs = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&runs);
    let pools = SqlitePools::builder(file.path())
        .readers(3)
        .after_connect(move |conn| {
            let runs = Arc::clone(&counted);
            Box::pin(async move {
                conn.execute("PRAGMA cache_size = 4242").await?;
                runs.fetch_add(1, Ordering::Relaxed);
                Ok(())
            })
        })
        .open()
        .await
        .unwrap();
    let mut held = Vec::new();
    for pool in [pools.write(), pools.read(), pools.read(), pools.read()] {
        let mut conn = pool.acquire().await.unwrap();
        let size: i64 = sqlx::query_scalar("PRAGMA cache_size")
            .fetch_one(&mut *conn)
            .await
            .unwrap();
        assert_eq!(size, 4242);
        held.push(conn);
    }
    // Four connections, and the first one of each pool, which only tries whether it works.
    assert_eq!(runs.load(Ordering::Relaxed), 6);
}

#[tokio::test]
async fn a_cancelled_statement_never_makes_a_second_writer() {
    let file = File::new();
    let pools = open(&file).await;
    let slow = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 3000000) \
                INSERT INTO t (n) SELECT max(n) FROM c";
    let cut = tokio::time::timeout(
        Duration::from_millis(20),
        sqlx::query(slow).execute(pools.write()),
    )
    .await;
    assert!(cut.is_err(), "the statement is still running");
    // Waits for its end instead of opening another connection beside it.
    sqlx::query("INSERT INTO t (n) VALUES (1)")
        .execute(pools.write())
        .await
        .unwrap();
    assert_eq!(pools.write().status().size, 1);
}

#[tokio::test]
async fn what_cannot_be_shared_is_refused_with_a_remedy() {
    for path in [":memory:", "", "file:x?mode=memory"] {
        match SqlitePools::open(path).await {
            Err(ConnectError::Build(error @ BuildError::InMemory { .. })) => {
                assert!(error.to_string().contains("give a file"));
            }
            other => panic!("{path:?} gave {other:?}"),
        }
    }
    for path in ["sqlite://app.db", "file:app.db"] {
        assert!(matches!(
            SqlitePools::open(path).await,
            Err(ConnectError::Build(BuildError::UrlForPath { .. }))
        ));
    }
    let file = File::new();
    assert!(matches!(
        SqlitePools::builder(file.path()).readers(0).open().await,
        Err(ConnectError::Build(BuildError::NoReaders))
    ));
    let error = SqlitePools::open("/nowhere/at/all.db").await.unwrap_err();
    assert_eq!(error.to_string(), "cannot connect to /nowhere/at/all.db");
}

#[tokio::test]
async fn close_leaves_a_checkpointed_file() {
    let file = File::new();
    let pools = open(&file).await;
    sqlx::query("INSERT INTO t (n) VALUES (1)")
        .execute(pools.write())
        .await
        .unwrap();
    let wal = file.path().with_extension("db-wal");
    assert!(wal.exists());
    pools.close().await;
    assert!(!wal.exists());
    assert!(matches!(
        sqlx::query("SELECT 1").execute(pools.read()).await,
        Err(sqlx::Error::PoolClosed)
    ));
}
