use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use crate::availability::{Kind, Unavailable, or_skip};
use crate::binaries;

const KIND: Kind = Kind {
    name: "promtool",
    remedy: "install `prometheus`, or run `make test`",
};

/// Prometheus's tool that checks rules, tests of rules, and what a service shows to it.
///
/// Each check says what the tool printed: `Ok` where the tool was content.
#[derive(Debug, Clone)]
pub struct Promtool {
    binary: PathBuf,
}

impl Promtool {
    /// The tool, if it is on the machine.
    ///
    /// `None` where it is missing, after a line on standard error that names the test.
    ///
    /// # Panics
    ///
    /// If it is missing while `PERF_REQUIRE_SERVERS=1` is set.
    pub fn find() -> Option<Self> {
        let found = binaries::directory_with(&["promtool"]).ok_or(Unavailable::Missing);
        or_skip(found, &KIND).map(|bin| Self {
            binary: bin.join("promtool"),
        })
    }

    /// Checks a file of rules; a rule that is there twice is an error too.
    ///
    /// # Errors
    ///
    /// What the tool printed.
    pub fn check_rules(&self, rules: &str) -> Result<String, String> {
        self.run(
            &["check", "rules", "--lint-fatal", "rules.yml"],
            "",
            &[("rules.yml", rules)],
        )
    }

    /// Runs the tests of a file whose `rule_files` are `rules.0`, with the text `rules.1`.
    ///
    /// # Errors
    ///
    /// What the tool printed.
    pub fn test_rules(&self, rules: (&str, &str), tests: &str) -> Result<String, String> {
        self.run(
            &["test", "rules", "tests-of-rules.yml"],
            "",
            &[rules, ("tests-of-rules.yml", tests)],
        )
    }

    /// Checks and lints the text of a `/metrics` endpoint.
    ///
    /// # Errors
    ///
    /// What the tool printed.
    pub fn check_metrics(&self, text: &str) -> Result<String, String> {
        self.run(&["check", "metrics"], text, &[])
    }

    fn run(&self, args: &[&str], input: &str, files: &[(&str, &str)]) -> Result<String, String> {
        let output = self.output(args, input, files);
        let output = output.map_err(|error| format!("promtool does not run: {error}"))?;
        let printed = [output.stdout, output.stderr].concat();
        let printed = String::from_utf8_lossy(&printed).into_owned();
        if output.status.success() {
            Ok(printed)
        } else {
            Err(printed)
        }
    }

    fn output(&self, args: &[&str], input: &str, files: &[(&str, &str)]) -> io::Result<Output> {
        let dir = tempfile::tempdir()?;
        for (name, text) in files {
            fs::write(dir.path().join(name), text)?;
        }
        let mut child = Command::new(&self.binary)
            .args(args)
            .current_dir(&dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // A tool that does not read all of it has said why.
            let _ = stdin.write_all(input.as_bytes());
        }
        child.wait_with_output()
    }
}
