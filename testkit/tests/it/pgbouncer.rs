use std::collections::BTreeSet;

use sqlx::{Connection, Executor, PgConnection, Row};
use testkit::{PgBouncer, PoolMode, Postgres};

async fn backends_of_five_clients(mode: PoolMode) -> Option<usize> {
    let postgres = Postgres::shared().await?;
    let bouncer = PgBouncer::start(&postgres, mode).await?;
    let url = bouncer.url(&postgres.url());
    let (mut backends, mut clients) = (BTreeSet::new(), Vec::new());
    for _ in 0..5 {
        let mut client = PgConnection::connect(&url).await.unwrap();
        let pid = sqlx::raw_sql("SELECT pg_backend_pid()::text AS pid");
        let row = client.fetch_one(pid).await.unwrap();
        backends.insert(row.get::<String, _>("pid"));
        clients.push(client);
    }
    drop(bouncer);
    assert!(PgConnection::connect(&url).await.is_err());
    Some(backends.len())
}

#[tokio::test]
async fn clients_share_backends_in_transaction_mode_and_keep_them_in_session_mode() {
    if let Some(shared) = backends_of_five_clients(PoolMode::Transaction).await {
        assert!(shared <= 2, "{shared}");
    }
    if let Some(kept) = backends_of_five_clients(PoolMode::Session).await {
        assert_eq!(kept, 5);
    }
}
