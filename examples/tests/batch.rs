//! Runs the example as a user does.

#[cfg(test)]
mod batch {
    use std::process::Command;

    #[test]
    fn it_shows_the_bad_rows_the_shared_commits_and_the_one_query() {
        let mut command = Command::new(env!("CARGO_BIN_EXE_batch"));
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}{errors}");
        for line in [
            "998 of 1000 rows in one commit, by values",
            "row 42: CHECK constraint failed",
            "row 700: FOREIGN KEY constraint failed",
            "5 updated, 2 deleted, 1 were not there",
            "a caller's own error: UNIQUE constraint failed",
            r#"user 1 is Some((1, "Ada")), then [Some((3, "Edsger")), Some((1, "Ada")), None]"#,
            "page 2 of 667, of 2000 answers",
        ] {
            assert!(text.contains(line), "{line:?} is not in\n{text}");
        }
        assert_eq!(text.matches("a query for users").count(), 1, "{text}");
    }
}
