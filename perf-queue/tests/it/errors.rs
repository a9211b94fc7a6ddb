//! What errors say.

use std::error::Error;

use perf_queue::{BuildError, EnqueueError, Queue, QueueBackend};

/// Each message of the chain, which says nothing that another one says, too.
fn messages(error: &dyn Error) -> Vec<String> {
    let mut all = vec![error.to_string()];
    let mut source = error.source();
    while let Some(error) = source {
        let text = error.to_string();
        assert!(!all[0].contains(&text), "{} repeats {text}", all[0]);
        all.push(text);
        source = error.source();
    }
    all
}

async fn unreachable(backend: impl QueueBackend<u32, ()>, at: &str) {
    let error = Queue::<u32>::builder("q").backend(backend).build().await;
    let error = error.expect_err("there is nothing");
    let messages = messages(&error);
    assert!(messages[0].contains(at), "{messages:?}");
    assert!(messages[0].contains("try again"), "{messages:?}");
    assert!(messages.len() > 1, "{messages:?}");
    assert!(!format!("{messages:?} {error:?}").contains("secret"));
    let BuildError::Backend(source) = error else {
        panic!("{error:?}");
    };
    let job = 7;
    messages_of_enqueue(&EnqueueError::Backend { job, source });
}

fn messages_of_enqueue(error: &EnqueueError<u32>) {
    let messages = messages(error);
    assert!(messages[0].contains("enqueue it again"), "{messages:?}");
    assert!(messages.len() > 2, "{messages:?}");
}

#[cfg(feature = "redis")]
#[tokio::test]
async fn a_redis_that_is_not_there_is_named_without_its_password() {
    let redis = perf_queue::Redis::connect("redis://somebody:secret@127.0.0.1:1/3");
    unreachable(redis, "Redis at 127.0.0.1:1/3").await;
    let none = perf_queue::Redis::connect("secret@host:6379");
    let built = Queue::<u32>::builder("q").backend(none).build().await;
    let error = built.expect_err("it is no URL");
    assert!(error.to_string().contains("redis://["), "{error}");
    assert!(!format!("{error:?}").contains("secret"));
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn a_postgres_that_is_not_there_is_named_without_its_password() {
    let pool = sqlx::postgres::PgPoolOptions::new()
        .acquire_timeout(crate::support::ms(200))
        .connect_lazy("postgres://somebody:secret@127.0.0.1:1/app");
    let postgres = perf_queue::Postgres::new(pool.unwrap());
    unreachable(postgres, "Postgres at 127.0.0.1:1/app").await;
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn a_file_that_cannot_be_made_is_named() {
    let sqlite = perf_queue::Sqlite::open("/nowhere/at/all/queue.db");
    unreachable(sqlite, "SQLite at /nowhere/at/all/queue.db").await;
}
