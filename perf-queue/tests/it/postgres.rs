//! The Postgres backend.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Instant;

use perf_queue::{BackendError, BuildError, Postgres};
use sqlx::postgres::{PgPool, PgPoolOptions};

use crate::conformance::{
    Place, conformance, drained, durable, job, next, nothing_is_lost, shared, telling, transactions,
};
use crate::support::{ms, secs};

#[derive(Clone)]
struct OnPostgres {
    url: String,
    pool: PgPool,
    schema: String,
    #[expect(dead_code, reason = "kept for as long as it is used")]
    bouncer: Option<Arc<testkit::PgBouncer>>,
}

impl Place for OnPostgres {
    type Backend = Postgres;

    async fn apart(&self) -> Self {
        let pool = PgPoolOptions::new().max_connections(4);
        Self {
            pool: pool.connect(&self.url).await.unwrap(),
            ..self.clone()
        }
    }

    fn backend(&self, capacity: usize) -> Postgres {
        Postgres::new(self.pool.clone())
            .schema(self.schema.clone())
            .capacity(capacity)
    }
}

async fn place() -> Option<OnPostgres> {
    let server = testkit::Postgres::shared().await?;
    let url = server.schema_url().await;
    let pool = PgPoolOptions::new().max_connections(4).connect(&url).await;
    Some(OnPostgres {
        url,
        pool: pool.unwrap(),
        schema: testkit::unique("queue"),
        bouncer: None,
    })
}

conformance!(place);
durable!(place);
shared!(place);

/// A pooler that gives each client a connection of the server's for itself, notifications included.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_share_jobs_and_limits_through_pgbouncer_in_session_mode() {
    let Some(server) = testkit::Postgres::shared().await else {
        return;
    };
    let Some(bouncer) = testkit::PgBouncer::start(&server, testkit::PoolMode::Session).await else {
        return;
    };
    let url = bouncer.url(&server.url());
    let pool = PgPoolOptions::new().max_connections(4).connect(&url).await;
    let place = OnPostgres {
        url,
        pool: pool.unwrap(),
        schema: testkit::unique("queue"),
        bouncer: Some(Arc::new(bouncer)),
    };
    shared::processes_share_the_jobs_in_order(place.clone()).await;
    shared::the_limit_holds_over_all_processes(OnPostgres {
        schema: testkit::unique("queue"),
        ..place.clone()
    })
    .await;
    shared::a_pause_and_a_limit_of_one_process_are_those_of_all(OnPostgres {
        schema: testkit::unique("queue"),
        ..place
    })
    .await;
}

/// A pooler that gives a connection of the server's to whoever has a transaction, and knows whose statement is
/// whose: two connections for all that the queues do, and nobody is notified.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_share_jobs_and_limits_through_pgbouncer_in_transaction_mode() {
    let Some(place) = in_transaction_mode(true).await else {
        return;
    };
    let apart = || OnPostgres {
        schema: testkit::unique("queue"),
        ..place.clone()
    };
    shared::processes_share_the_jobs_in_order(apart()).await;
    shared::the_limit_holds_over_all_processes(apart()).await;
    shared::a_pause_and_a_limit_of_one_process_are_those_of_all(apart()).await;
    transactions(&apart(), place.pool.clone()).await;
    a_job_of_another_process_is_found(apart()).await;
}

/// Without being told of it.
async fn a_job_of_another_process_is_found(place: OnPostgres) {
    let (a, b) = (place.builder(), place.builder());
    let (a, b) = (a.build().await.unwrap(), b.build().await.unwrap());
    let (workers, mut told) = telling(&b, 1, |_, _| async { Ok(()) });
    for n in 0..3 {
        a.enqueue(job(1, n)).await.unwrap();
        let start = Instant::now();
        let (found, _) = next(&mut told).await;
        assert_eq!(found.n, n);
        assert!(start.elapsed() < ms(1_900), "{:?}", start.elapsed());
    }
    drained(&a).await;
    workers.shutdown(secs(5)).await;
}

/// Where one would run what another has prepared, nothing begins.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_that_mixes_up_statements_is_refused() {
    let Some(place) = in_transaction_mode(false).await else {
        return;
    };
    for _ in 0..3 {
        let Err(error) = place.builder().build().await else {
            panic!("it was not refused");
        };
        let unfit = matches!(
            &error,
            BuildError::Backend(BackendError::Unfit { reason, .. }) if reason.contains("max_prepared_statements")
        );
        assert!(unfit, "{error:?}");
        assert!(!error.to_string().is_empty());
    }
}

async fn in_transaction_mode(told_apart: bool) -> Option<OnPostgres> {
    let server = testkit::Postgres::shared().await?;
    let able = testkit::PgBouncer::tells_statements_apart().await;
    let settings: &[(&str, &str)] = match (able, told_apart) {
        (Some(true), true) => &[("max_prepared_statements", "200")],
        (Some(true), false) => &[("max_prepared_statements", "0")],
        (Some(false), true) => {
            let line = "skipped the transaction mode of PgBouncer: it is older than 1.21\n";
            let _ = std::io::stderr().write_all(line.as_bytes());
            return None;
        }
        _ => &[],
    };
    let mode = testkit::PoolMode::Transaction;
    let bouncer = testkit::PgBouncer::start_with(&server, mode, settings).await?;
    let url = bouncer.url(&server.url());
    let pool = PgPoolOptions::new().max_connections(4).connect_lazy(&url);
    Some(OnPostgres {
        url,
        pool: pool.unwrap(),
        schema: testkit::unique("queue"),
        bouncer: Some(Arc::new(bouncer)),
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_of_a_transaction_comes_with_its_commit_or_never() {
    if let Some(place) = place().await {
        transactions(&place, place.pool.clone()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_the_server_restarts_and_crashes_and_backends_are_terminated() {
    let Some(server) = testkit::Postgres::start().await else {
        return;
    };
    let url = server.url();
    let pool = PgPoolOptions::new().max_connections(6).connect_lazy(&url);
    let place = OnPostgres {
        url,
        pool: pool.unwrap(),
        schema: "queue".to_owned(),
        bouncer: None,
    };
    let faults = async {
        for fault in 0..12 {
            tokio::time::sleep(ms(150)).await;
            match fault % 6 {
                2 => {
                    server.crash().await;
                    server.restart().await;
                }
                5 => {
                    server.stop().await;
                    server.restart().await;
                }
                _ => {
                    let others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                                  WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'";
                    // The connection may be one that was terminated before.
                    let _ = sqlx::query(others).execute(&place.pool).await;
                }
            }
        }
    };
    nothing_is_lost(place.clone(), faults).await;
}
