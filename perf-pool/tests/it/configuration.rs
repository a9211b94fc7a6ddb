use std::process::Command;

use perf_pool::{BuildError, ConnectError, Pool, PoolConfig};
use sqlx::Sqlite;

use crate::files::File;

#[test]
fn the_environment_of_the_process_is_read() {
    let child = |value: &str| {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--ignored", "configuration::a_child"])
            .env("QUIZ_MAX_CONNECTIONS", value)
            .output()
            .unwrap()
    };
    let output = child("7");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{printed}");
    assert!(printed.contains("1 passed"), "{printed}");
    assert!(!child("seven").status.success());
}

#[test]
#[ignore = "run by the test above, in an environment of its own"]
fn a_child() {
    let config = PoolConfig::from_env("QUIZ").unwrap();
    let expected = PoolConfig::from_vars("", [("MAX_CONNECTIONS", "7")]);
    assert_eq!(Ok(config), expected);
}

#[tokio::test]
async fn a_pool_opens_as_configured() {
    let file = File::new();
    let vars = [("DB_MAX_CONNECTIONS", "3"), ("DB_POOL_NAME", "configured")];
    let config = PoolConfig::from_vars("DB", vars).unwrap();
    let pool = file
        .open(crate::files::at_most(9).min_connections(1).config(&config))
        .await;
    assert_eq!(pool.status().max, 3);
    assert_eq!(pool.name(), "configured");
}

#[tokio::test]
async fn what_only_postgres_has_is_refused_for_sqlite() {
    let config = PoolConfig::from_vars("DB", [("DB_STATEMENT_TIMEOUT", "5s")]).unwrap();
    let builder = Pool::<Sqlite>::builder().config(&config);
    let error = builder.connect("sqlite::memory:").await.unwrap_err();
    let ConnectError::Build(BuildError::OfAnotherDatabase { option }) = error else {
        panic!("{error:?}")
    };
    assert_eq!(option, "statement_timeout");
}
