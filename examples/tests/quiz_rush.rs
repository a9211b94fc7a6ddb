//! Runs the rush as a user does.

#[cfg(test)]
mod quiz_rush {
    use std::io::{BufRead, BufReader};
    use std::path::Path;
    use std::process::{Child, Command, Output, Stdio};
    use std::time::{Duration, Instant};

    use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System, UpdateKind};

    fn command(args: &[&str], out: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quiz_rush"));
        command.args(args).arg("--out").arg(out);
        command
    }

    fn quiz_rush(args: &[&str], out: &Path) -> Output {
        command(args, out).output().unwrap()
    }

    fn stderr(output: &Output) -> String {
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// A rush that takes long enough to be disturbed.
    fn started(out: &Path) -> Child {
        command(&["--only", "before", "--users", "20"], out)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// The process that plays `role` for this rush, once it runs.
    fn child_in(role: &str, rush: &Child) -> Pid {
        let deadline = Instant::now() + Duration::from_secs(60);
        let rush = Pid::from_u32(rush.id());
        let mut system = System::new();
        let wanted = ProcessRefreshKind::nothing().with_cmd(UpdateKind::Always);
        loop {
            system.refresh_processes_specifics(ProcessesToUpdate::All, true, wanted);
            let found = system.processes().values().find(|process| {
                process.parent() == Some(rush) && process.cmd().get(1).is_some_and(|a| a == role)
            });
            if let Some(process) = found {
                return process.pid();
            }
            assert!(Instant::now() < deadline, "no process in the role {role}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn kill(pid: Pid) {
        let mut system = System::new();
        system.refresh_processes(ProcessesToUpdate::Some(&[pid]), false);
        assert!(system.process(pid).unwrap().kill());
    }

    fn runs(pid: Pid) -> bool {
        let mut system = System::new();
        system.refresh_processes(ProcessesToUpdate::Some(&[pid]), true);
        system
            .process(pid)
            .is_some_and(|process| process.status() != sysinfo::ProcessStatus::Zombie)
    }

    #[test]
    fn a_quick_rush_is_right_and_reports_both_builds() {
        let parent = tempfile::tempdir().unwrap();
        let out = parent.path().join("made with spaces");
        let output = quiz_rush(&["--quick"], &out);
        let stdout = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{stdout}{}", stderr(&output));
        for build in ["before", "after"] {
            let checked = format!("checked: {build}: every answer is saved exactly once");
            assert!(stdout.contains(&checked), "{stdout}");
        }

        let json = std::fs::read(out.join("report.json")).unwrap();
        let report: serde_json::Value = serde_json::from_slice(&json).unwrap();
        let [before, after] = [0, 1].map(|n| &report["results"][n]);
        assert_eq!(before["build"], "before");
        assert_eq!(before["commits"], 2_000, "a commit for each answer");
        assert_eq!(before["queries"].as_u64().map(|q| q >= 4_000), Some(true));
        assert_eq!(before["cache_hit_ratio"], serde_json::Value::Null);
        assert_eq!(after["build"], "after");
        assert_eq!(after["commits"], 10, "a commit for each user");
        assert_eq!(after["queries"].as_u64().map(|q| q < 400), Some(true));
        assert_eq!(after["refused_429"], 0);
        for build in [before, after] {
            assert!(build["cpu_seconds"].as_f64() > Some(0.0), "{build}");
            assert!(build["peak_connections"].as_u64() > Some(0), "{build}");
            assert!(build["leaderboards_per_second"].as_f64() > Some(0.0));
        }
        assert!(
            report["monitoring"]["message_queue"].is_object(),
            "{report}"
        );

        let html = std::fs::read_to_string(out.join("report.html")).unwrap();
        assert_eq!(html.matches("<svg").count(), 3);
        for loads in [
            "src=", "href=", "<link", "<script", "@import", "url(", "https:",
        ] {
            assert!(!html.contains(loads), "the report has {loads}");
        }
        let names = html.matches("xmlns=\"http://www.w3.org/2000/svg\"").count();
        assert_eq!(html.matches("http:").count(), names);
    }

    #[test]
    fn one_build_can_run_alone() {
        let out = tempfile::tempdir().unwrap();
        let output = quiz_rush(&["--quick", "--only", "after"], out.path());
        assert!(output.status.success(), "{}", stderr(&output));
        let stdout = String::from_utf8_lossy(&output.stdout);
        assert!(stdout.contains("checked: after"), "{stdout}");
        assert!(!stdout.contains("checked: before"), "{stdout}");
    }

    #[test]
    fn bad_arguments_are_refused() {
        let out = tempfile::tempdir().unwrap();
        let output = quiz_rush(&["--users", "none"], out.path());
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains("invalid value 'none'"));
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_said_with_the_remedy() {
        let out = tempfile::NamedTempFile::new().unwrap();
        let output = quiz_rush(&["--quick"], out.path());
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains("choose another one with --out"));
    }

    #[test]
    fn a_second_rush_leaves_the_directory_to_the_first() {
        let out = tempfile::tempdir().unwrap();
        let mut first = started(out.path());
        child_in("crowd", &first);
        let second = quiz_rush(&["--quick"], out.path());
        assert_eq!(second.status.code(), Some(1));
        let told = stderr(&second);
        assert!(told.contains("another quiz_rush is running in"), "{told}");
        first.kill().unwrap();
        first.wait().unwrap();
    }

    #[test]
    fn a_service_or_crowd_that_is_killed_ends_the_rush_at_once() {
        for role in ["service", "crowd"] {
            let out = tempfile::tempdir().unwrap();
            let mut rush = started(out.path());
            let crowd = child_in("crowd", &rush);
            let service = child_in("service", &rush);
            let mut lines = BufReader::new(rush.stderr.take().unwrap()).lines();
            assert!(lines.any(|line| line.unwrap().contains("messages")));
            kill(child_in(role, &rush));
            let killed = Instant::now();
            let told: Vec<String> = lines.map(Result::unwrap).collect();
            let told = told.join("\n");
            // The users alone would try for half a minute.
            assert!(killed.elapsed() < Duration::from_secs(10), "{told}");
            assert_eq!(rush.wait().unwrap().code(), Some(1), "{told}");
            assert!(
                told.contains(&format!("the {role} stopped early (signal: 9")),
                "{told}"
            );
            eventually_gone(&[crowd, service]);
        }
    }

    #[test]
    fn nothing_is_left_running_when_the_conductor_is_killed() {
        let out = tempfile::tempdir().unwrap();
        let mut rush = started(out.path());
        let children = ["crowd", "service"].map(|role| child_in(role, &rush));
        rush.kill().unwrap();
        rush.wait().unwrap();
        eventually_gone(&children);
    }

    fn eventually_gone(pids: &[Pid]) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while pids.iter().any(|&pid| runs(pid)) {
            assert!(Instant::now() < deadline, "{pids:?} still run");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn nobody_to_read_the_output_is_no_failure() {
        let out = tempfile::tempdir().unwrap();
        let mut rush = command(&["--quick", "--only", "after"], out.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        drop(rush.stdout.take());
        assert!(rush.wait().unwrap().success());
        assert!(out.path().join("report.html").exists());
    }
}
