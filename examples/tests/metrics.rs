//! Runs the example of the monitor as a user does.

#[cfg(test)]
mod metrics {
    use std::path::Path;
    use std::process::Command;

    use serde_json::Value;
    use testkit::Promtool;

    fn output(args: &[&str]) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_metrics"));
        let output = command.args(args).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}{errors}");
        text
    }

    #[test]
    fn what_the_routes_did_stands_beside_their_budgets() {
        let text = output(&[]);
        let line = |route: &str| {
            let line = text.lines().find(|line| line.contains(route));
            line.unwrap_or_else(|| panic!("{route} is not in\n{text}"))
                .to_owned()
        };
        for (route, count, verdict) in [
            ("GET /orders/{id}", "200", ""),
            ("GET /reports", "40", "Broken"),
            ("GET /broken", "20", "Broken"),
        ] {
            let line = line(route);
            assert!(line.contains(count) && line.contains(verdict), "{line}");
        }
        assert!(line("GET /broken").contains("100%"), "{text}");
    }

    #[test]
    fn rules_tests_and_dashboard_are_written() {
        let dir = tempfile::tempdir().unwrap();
        let text = output(&["--write", dir.path().to_str().unwrap()]);
        assert_eq!(text.lines().count(), 4, "{text}");
        let read = |name: &str| std::fs::read_to_string(Path::new(dir.path()).join(name)).unwrap();
        let dashboard: Value = serde_json::from_str(&read("dashboard.json")).unwrap();
        assert_eq!(dashboard["title"], "orders");
        let Some(promtool) = Promtool::find() else {
            return;
        };
        let rules = read("rules.yml");
        promtool.check_rules(&rules).unwrap();
        let tested = promtool.test_rules(("rules.yml", &rules), &read("rules_test.yml"));
        assert!(tested.is_ok(), "{}", tested.unwrap_err());
    }
}
