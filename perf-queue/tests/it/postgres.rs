//! The Postgres backend.

use perf_queue::Postgres;
use sqlx::postgres::{PgPool, PgPoolOptions};

use crate::conformance::{Place, conformance, durable, nothing_is_lost, shared, transactions};
use crate::support::ms;

#[derive(Clone)]
struct OnPostgres {
    url: String,
    pool: PgPool,
    schema: String,
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
