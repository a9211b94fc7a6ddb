//! The row that a COPY's error names.

/// The position, among the rows of a COPY into `relation`, of the row that an error's context
/// names; `None` where it names none, or says it in a way that is not known.
///
/// The row is a bad one, but not always the first: a constraint is checked some rows after the
/// row was read. Its message is in the server's language: `COPY answers, line 7, column points`.
pub(in crate::engine) fn row_offset(context: &str, relation: &str) -> Option<usize> {
    // A trigger's function stands in lines of its own, before.
    context.lines().rev().find_map(|line| {
        let said = line.strip_prefix("COPY ")?.strip_prefix(relation)?;
        let (word, number) = said.strip_prefix(", ")?.split_once(' ')?;
        let rest = number.trim_start_matches(|c: char| c.is_ascii_digit());
        let digits = number.get(..number.len() - rest.len())?;
        let ends = rest.is_empty() || rest.starts_with([',', ':']);
        if !ends || word.is_empty() || !word.chars().all(char::is_alphabetic) {
            return None;
        }
        digits.parse::<usize>().ok()?.checked_sub(1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_found_in_any_language() {
        for context in [
            "COPY t, line 7",
            "COPY t, line 7, column points",
            "COPY t, line 7: \"1\t2\"",
            "COPY t, Zeile 7, Spalte points",
            "COPY t, \u{884c} 7",
            "PL/pgSQL function f() line 3 at RAISE\nCOPY t, line 7",
        ] {
            assert_eq!(row_offset(context, "t"), Some(6), "{context}");
        }
        assert_eq!(row_offset("COPY t, line 9, line 7", "t, line 9"), Some(6));
        let value = "COPY t, line 7, column a: \"x\nCOPY u, line 9\"";
        assert_eq!(row_offset(value, "t"), Some(6));
    }

    #[test]
    fn anything_else_names_no_row() {
        for context in [
            "",
            "COPY t",
            "COPY t, line",
            "COPY t, line ",
            "COPY t, line x",
            "COPY t, line 7th",
            "COPY t, line 0",
            "COPY t, line 99999999999999999999999",
            "COPY other, line 7",
            "SQL statement \"COPY t, line 7\"",
        ] {
            assert_eq!(row_offset(context, "t"), None, "{context}");
        }
    }
}
