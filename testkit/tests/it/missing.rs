//! What a developer without the servers sees.

use std::process::Output;

use crate::child;

fn on_a_machine_without_servers(require: bool) -> (Output, String, String) {
    let nothing = tempfile::tempdir().unwrap();
    let mut command = child::command("asks_for_servers");
    command.env("PERF_TEST_SERVER_PATH", nothing.path());
    if require {
        command.env("PERF_REQUIRE_SERVERS", "1");
    }
    let output = command.output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    (output, stdout, stderr)
}

#[test]
fn a_skipped_test_passes_and_says_so_on_the_real_standard_error() {
    let (output, stdout, stderr) = on_a_machine_without_servers(false);
    assert!(output.status.success(), "{stdout}{stderr}");
    // The child's libtest captures: were the lines captured too, they would not be here.
    let skips: Vec<&str> = stderr.lines().collect();
    assert_eq!(
        skips,
        [
            "skipped child::asks_for_servers: Postgres is missing \
             (install `postgresql`, or set PERF_TEST_POSTGRES_URL, or run `make test`)",
            "skipped child::asks_for_servers: Postgres is missing \
             (install `postgresql`, or set PERF_TEST_POSTGRES_URL, or run `make test`)",
            "skipped child::asks_for_servers: Redis is missing \
             (install `redis-server`, or set PERF_TEST_REDIS_URL, or run `make test`)",
            "skipped child::asks_for_servers: Prometheus is missing \
             (install `prometheus`, or run `make test`)",
            "skipped child::asks_for_servers: promtool is missing \
             (install `prometheus`, or run `make test`)",
        ]
    );
}

#[test]
fn a_required_server_that_is_missing_fails_the_test_with_the_remedy() {
    let (output, stdout, stderr) = on_a_machine_without_servers(true);
    assert!(!output.status.success());
    let all = stdout + &stderr;
    assert!(
        all.contains("Postgres is missing and PERF_REQUIRE_SERVERS=1 is set: install `postgresql`"),
        "{all}"
    );
}

#[test]
fn an_external_url_is_taken_instead_of_binaries() {
    let nothing = tempfile::tempdir().unwrap();
    let output = child::command("asks_for_servers")
        .arg("--nocapture")
        .env("PERF_TEST_SERVER_PATH", nothing.path())
        .env("PERF_TEST_POSTGRES_URL", "postgres://elsewhere/test")
        .env("PERF_TEST_REDIS_URL", "redis://elsewhere/")
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    // A server of the test's own cannot be an external one.
    assert!(
        stdout.contains("found true false true false false"),
        "{stdout}"
    );
}
