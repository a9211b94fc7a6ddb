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

#[tokio::test]
async fn a_server_of_its_own_stops_crashes_and_restarts_on_its_port() {
    let Some(own) = Postgres::start().await else {
        return;
    };
    let url = own.schema_url().await;
    let mut connection = PgConnection::connect(&url).await.unwrap();
    sqlx::raw_sql("CREATE TABLE kept (id int); INSERT INTO kept VALUES (1)")
        .execute(&mut connection)
        .await
        .unwrap();

    own.stop().await;
    connection.ping().await.unwrap_err();
    PgConnection::connect(&url).await.unwrap_err();
    own.stop().await;

    own.restart().await;
    assert_eq!(kept(&url).await, 1);

    let before = own.pid();
    own.crash().await;
    PgConnection::connect(&url).await.unwrap_err();
    own.restart().await;
    assert_ne!(own.pid(), before);
    assert_eq!(kept(&url).await, 1);
}

#[tokio::test]
async fn a_dropped_server_of_its_own_is_gone() {
    let Some(own) = Postgres::start().await else {
        return;
    };
    let (url, dir) = (own.url(), own.dir().to_owned());
    assert!(dir.exists());
    drop(own);
    assert!(!dir.exists());
    PgConnection::connect(&url).await.unwrap_err();
}

async fn kept(url: &str) -> i64 {
    let mut connection = PgConnection::connect(url).await.unwrap();
    sqlx::query_scalar("SELECT count(*) FROM kept")
        .fetch_one(&mut connection)
        .await
        .unwrap()
}

#[test]
fn handles_are_send_sync_and_debug() {
    fn check<T: Send + Sync + std::fmt::Debug>() {}
    check::<Postgres>();
    check::<testkit::OwnPostgres>();
    check::<testkit::Redis>();
}
