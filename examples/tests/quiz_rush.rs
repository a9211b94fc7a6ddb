//! Runs the rush as a user does.

#[cfg(test)]
mod quiz_rush {
    use std::process::{Command, Output};

    fn quiz_rush(args: &[&str], out: &std::path::Path) -> Output {
        Command::new(env!("CARGO_BIN_EXE_quiz_rush"))
            .args(args)
            .arg("--out")
            .arg(out)
            .output()
            .unwrap()
    }

    #[test]
    fn a_quick_rush_is_right_and_reports_both_builds() {
        let out = tempfile::tempdir().unwrap();
        let output = quiz_rush(&["--quick"], out.path());
        let stdout = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success(),
            "{stdout}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(
            stdout.contains("checked: after: every answer is saved exactly once"),
            "{stdout}"
        );

        let json = std::fs::read(out.path().join("report.json")).unwrap();
        let report: serde_json::Value = serde_json::from_slice(&json).unwrap();
        let [before, after] = [0, 1].map(|n| &report["results"][n]);
        assert_eq!(before["build"], "before");
        assert_eq!(before["commits"], 2_000, "a commit for each answer");
        assert_eq!(before["queries"].as_u64().map(|q| q >= 4_000), Some(true));
        assert_eq!(before["cache_hit_ratio"], serde_json::Value::Null);
        assert_eq!(after["build"], "after");
        assert_eq!(after["commits"], 10, "a commit for each user");
        assert_eq!(after["refused_429"], 0);
        assert!(
            report["monitoring"]["message_queue"].is_object(),
            "{report}"
        );

        let html = std::fs::read_to_string(out.path().join("report.html")).unwrap();
        assert_eq!(html.matches("<svg").count(), 3);
        assert!(
            !html.contains("http://") || !html.contains("src="),
            "the report loads nothing"
        );
    }

    #[test]
    fn one_build_can_run_alone() {
        let out = tempfile::tempdir().unwrap();
        let output = quiz_rush(&["--quick", "--only", "after"], out.path());
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let stdout = String::from_utf8_lossy(&output.stdout);
        assert!(!stdout.contains("checked: before"), "{stdout}");
    }

    #[test]
    fn bad_arguments_are_refused() {
        let out = tempfile::tempdir().unwrap();
        let output = quiz_rush(&["--users", "none"], out.path());
        assert_eq!(output.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&output.stderr).contains("invalid value 'none'"));
    }
}
