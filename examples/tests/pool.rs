//! Runs the example of the pool as a user does.

#[cfg(test)]
mod pool {
    use std::process::Command;

    fn output(database: Option<String>) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pool"));
        command.env_remove("DATABASE_URL");
        command.envs(database.map(|url| ("DATABASE_URL", url)));
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}{errors}");
        for line in [
            "160 rows by 16 writers, beside 16 readers",
            "healthy: true",
            "no connection within 1",
            "(max 2, 2 in use, 1 waiting): raise max_connections or shorten transactions",
            "; held longest at examples/pool.rs:",
            "advice: LeakSuspected",
            "in_use: 0",
        ] {
            assert!(text.contains(line), "{line:?} is not in\n{text}");
        }
        text
    }

    #[test]
    fn without_a_server_it_runs_on_a_file() {
        assert!(!output(None).contains("another backend"));
    }

    #[tokio::test]
    async fn with_a_server_it_runs_there() {
        let Some(server) = testkit::Postgres::shared().await else {
            return;
        };
        let url = server.url();
        let text = tokio::task::spawn_blocking(move || output(Some(url)))
            .await
            .unwrap();
        assert!(
            text.contains("another backend after the eviction: true"),
            "{text}"
        );
    }
}
