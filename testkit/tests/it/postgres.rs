use sqlx::{Connection, PgConnection};
use testkit::{Postgres, PostgresOptions};

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
async fn a_socket_url_leads_to_the_same_server_without_tcp() {
    let Some(own) = Postgres::start().await else {
        return;
    };
    let (over_tcp, over_socket) = (own.url(), own.socket_url().unwrap());
    let mut peers = Vec::new();
    for url in [&over_tcp, &over_socket] {
        let mut connection = PgConnection::connect(url).await.unwrap();
        let peer: (String, Option<String>) =
            sqlx::query_as("SELECT current_setting('port'), host(inet_client_addr())")
                .fetch_one(&mut connection)
                .await
                .unwrap();
        peers.push(peer);
    }
    let (host, port) = own.address();
    assert_eq!(host, "127.0.0.1");
    let port = port.to_string();
    assert_eq!(peers[0], (port.clone(), Some(host)));
    assert_eq!(peers[1], (port, None));
}

#[tokio::test]
async fn a_schema_of_its_own_is_reached_over_the_socket_too() {
    let Some(own) = Postgres::start().await else {
        return;
    };
    let url = own.schema_socket_url().await.unwrap();
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let (schema, path): (String, String) =
        sqlx::query_as("SELECT current_schema, current_setting('search_path')")
            .fetch_one(&mut connection)
            .await
            .unwrap();
    assert_eq!(schema, path);
    assert!(url.ends_with(&schema), "{url} has {schema}");
}

#[tokio::test]
async fn settings_hold_and_stay_over_a_restart() {
    let options = PostgresOptions::new()
        .setting("deadlock_timeout", "123ms")
        .setting("application_name", "it's $HOME")
        .setting("max_connections", 17);
    let Some(own) = Postgres::start_with(options).await else {
        return;
    };
    own.restart().await;
    let mut connection = PgConnection::connect(&own.url()).await.unwrap();
    for (name, expected) in [
        ("deadlock_timeout", "123ms"),
        ("application_name", "it's $HOME"),
        ("max_connections", "17"),
    ] {
        let value: String = sqlx::query_scalar("SELECT current_setting($1)")
            .bind(name)
            .fetch_one(&mut connection)
            .await
            .unwrap();
        assert_eq!(value, expected, "{name}");
    }
}

#[tokio::test]
async fn environment_variables_reach_the_server() {
    let options = PostgresOptions::new().env("PERF_TEST_GREETING", "it's $HOME");
    let Some(own) = Postgres::start_with(options).await else {
        return;
    };
    let mut connection = PgConnection::connect(&own.url()).await.unwrap();
    sqlx::raw_sql("CREATE TEMPORARY TABLE environment (line text)")
        .execute(&mut connection)
        .await
        .unwrap();
    // A child of the server, which has the server's environment.
    sqlx::raw_sql("COPY environment FROM PROGRAM 'printenv PERF_TEST_GREETING'")
        .execute(&mut connection)
        .await
        .unwrap();
    let line: String = sqlx::query_scalar("SELECT line FROM environment")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(line, "it's $HOME");
    assert!(std::env::var_os("PERF_TEST_GREETING").is_none());
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
    check::<PostgresOptions>();
    check::<testkit::Redis>();
    check::<testkit::OwnRedis>();
}
