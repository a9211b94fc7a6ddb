//! The proxy in front of Postgres: what a client cannot know about its COMMIT.

use sqlx::{Connection, PgConnection};
use testkit::{Postgres, Proxy, contains};

/// Inserts a row through a proxy that `plan` prepared; whether the client's commit failed, and
/// the number of rows that there are afterwards.
async fn insert(plan: impl FnOnce(&Proxy)) -> Option<(bool, i64)> {
    let pg = Postgres::shared().await?;
    let url = pg.schema_url().await;
    let proxy = Proxy::start(pg.address()).await;
    let mut client = PgConnection::connect(&proxy.url(&url)).await.unwrap();
    sqlx::raw_sql("CREATE TABLE kept (id int)")
        .execute(&mut client)
        .await
        .unwrap();
    plan(&proxy);
    let mut transaction = client.begin().await.unwrap();
    sqlx::raw_sql("INSERT INTO kept VALUES (1)")
        .execute(&mut *transaction)
        .await
        .unwrap();
    let failed = match transaction.commit().await {
        Ok(()) => false,
        Err(sqlx::Error::Io(_)) => true,
        Err(error) => panic!("not of the connection: {error}"),
    };
    assert_eq!(proxy.counts().cuts, u64::from(failed));

    let mut direct = PgConnection::connect(&url).await.unwrap();
    let mut transaction = direct.begin().await.unwrap();
    // Waits until the server is done with the other transaction, whichever way.
    sqlx::raw_sql("LOCK TABLE kept")
        .execute(&mut *transaction)
        .await
        .unwrap();
    let rows = sqlx::query_scalar("SELECT count(*) FROM kept")
        .fetch_one(&mut *transaction)
        .await
        .unwrap();
    Some((failed, rows))
}

#[tokio::test]
async fn a_commit_whose_reply_is_lost_fails_and_is_kept() {
    if let Some(outcome) = insert(|proxy| proxy.cut_after_request(contains("COMMIT"))).await {
        assert_eq!(outcome, (true, 1));
    }
}

#[tokio::test]
async fn a_commit_that_is_lost_fails_and_is_not_kept() {
    if let Some(outcome) = insert(|proxy| proxy.cut_before_request(contains("COMMIT"))).await {
        assert_eq!(outcome, (true, 0));
    }
}

#[tokio::test]
async fn a_commit_through_the_proxy_is_kept() {
    if let Some(outcome) = insert(|_| {}).await {
        assert_eq!(outcome, (false, 1));
    }
}
