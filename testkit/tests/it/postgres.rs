use sqlx::{Connection, PgConnection};
use testkit::Postgres;

#[tokio::test]
async fn each_schema_is_the_whole_search_path_of_its_url() {
    let Some(pg) = Postgres::shared().await else {
        return;
    };
    let (one, two) = tokio::join!(pg.schema_url(), pg.schema_url());
    assert_ne!(one, two);
    for url in [one, two] {
        let mut connection = PgConnection::connect(&url).await.unwrap();
        // The same table name in both: it would clash in one schema.
        sqlx::query("CREATE TABLE answers (id int)")
            .execute(&mut connection)
            .await
            .unwrap();
        let path: String = sqlx::query_scalar("SHOW search_path")
            .fetch_one(&mut connection)
            .await
            .unwrap();
        assert!(url.ends_with(&path), "{url} has {path}");
    }
}

#[tokio::test(start_paused = true)]
async fn commits_are_durable_and_two_hundred_connections_fit() {
    let Some(pg) = Postgres::shared().await else {
        return;
    };
    let mut connection = PgConnection::connect(&pg.url()).await.unwrap();
    let (fsync, connections): (String, String) =
        sqlx::query_as("SELECT current_setting('fsync'), current_setting('max_connections')")
            .fetch_one(&mut connection)
            .await
            .unwrap();
    assert_eq!((fsync.as_str(), connections.as_str()), ("on", "200"));
}
