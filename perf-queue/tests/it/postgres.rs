//! The Postgres backend.

use perf_queue::Postgres;
use sqlx::postgres::{PgPool, PgPoolOptions};

use crate::conformance::{Place, conformance, durable, shared, transactions};

#[derive(Clone)]
struct OnPostgres {
    pool: PgPool,
    schema: String,
}

impl Place for OnPostgres {
    type Backend = Postgres;

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
        pool: pool.unwrap(),
        schema: testkit::unique("queue"),
    })
}

conformance!(place);
durable!(place);
shared!(place);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_of_a_transaction_comes_with_its_commit_or_never() {
    if let Some(place) = place().await {
        transactions(&place, place.pool.clone()).await;
    }
}
