//! What other tests run in a process of its own: this test binary, started again.

use std::process::Command;

use testkit::{Postgres, Prometheus, PrometheusOptions, Promtool, Redis};

/// This binary, set to run one of the tests below and none else.
pub(crate) fn command(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .arg("--ignored")
        .arg("--exact")
        .arg(format!("child::{test}"))
        // Whatever this machine is set to, the child decides by what its test gives it.
        .env_remove("PERF_REQUIRE_SERVERS")
        .env_remove("PERF_TEST_POSTGRES_URL")
        .env_remove("PERF_TEST_REDIS_URL");
    command
}

#[tokio::test]
#[ignore = "run by the tests in `missing`"]
async fn asks_for_servers() {
    let postgres = Postgres::shared().await.is_some();
    let own = Postgres::start().await.is_some();
    let redis = Redis::shared().await.is_some();
    let prometheus = Prometheus::start(PrometheusOptions::default()).await;
    let (prometheus, promtool) = (prometheus.is_some(), Promtool::find().is_some());
    println!("found {postgres} {own} {redis} {prometheus} {promtool}");
}

#[tokio::test]
#[ignore = "run by the tests in `lifetime`"]
async fn holds_servers() {
    let servers = (
        Postgres::shared().await.unwrap(),
        Postgres::start().await.unwrap(),
        Redis::shared().await,
        Prometheus::start(PrometheusOptions::default()).await,
    );
    println!("holding");
    // Until the parent kills this process; until the parent's end, if that comes first.
    let _ = tokio::task::spawn_blocking(|| std::io::read_to_string(std::io::stdin())).await;
    drop(servers);
}
