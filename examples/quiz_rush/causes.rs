/// An error and its causes in one line, without those that the error before has in its text
/// already, as sqlx's errors do.
pub(crate) fn of(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let text = cause.to_string();
        if line.is_empty() {
            line = text;
        } else if !line.ends_with(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::of;

    #[test]
    fn a_cause_that_is_already_told_is_not_told_again() {
        let error = anyhow!("disk full")
            .context("database: disk full")
            .context("save the answers");
        assert_eq!(of(&error), "save the answers: database: disk full");
    }
}
