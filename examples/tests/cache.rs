//! Runs the example of the cache as a user does.

#[cfg(test)]
mod cache {
    use std::process::Command;

    fn output(redis: Option<String>) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cache"));
        command.env_remove("REDIS_URL");
        command.envs(redis.map(|url| ("REDIS_URL", url)));
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}{errors}");
        for line in [
            "1000 callers of a user that is not there yet: 1 query",
            "1000 users at once: 1 query",
            "after an invalidation user 7 is Ada",
            "after one of its organisation it is Grace",
            "with the database down it still is Grace",
        ] {
            assert!(text.contains(line), "{line:?} is not in\n{text}");
        }
        text
    }

    #[test]
    fn one_process_needs_no_redis() {
        assert!(!output(None).contains("the other process"));
    }

    #[tokio::test]
    async fn two_processes_share_one() {
        let Some(server) = testkit::Redis::shared().await else {
            return;
        };
        let text = output(Some(server.url()));
        for line in [
            "the other process finds Grace in Redis: 0 queries",
            "and sees that it is Barbara now",
        ] {
            assert!(text.contains(line), "{line:?} is not in\n{text}");
        }
    }
}
