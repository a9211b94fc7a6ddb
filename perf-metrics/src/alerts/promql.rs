use std::fmt::Write;
use std::time::Duration;

use crate::recorder::le;

/// A string between double quotes, as PromQL and YAML both read it, whatever is in it.
pub(crate) fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        // Writing to a string does not fail.
        let _ = match c {
            '"' | '\\' => write!(quoted, "\\{c}"),
            '\n' => write!(quoted, "\\n"),
            ' '..='~' => write!(quoted, "{c}"),
            c if c.is_alphanumeric() => write!(quoted, "{c}"),
            c if c <= '\u{ffff}' => write!(quoted, "\\u{:04x}", u32::from(c)),
            c => write!(quoted, "\\U{:08x}", u32::from(c)),
        };
    }
    quoted.push('"');
    quoted
}

/// A regular expression that matches this text alone.
pub(super) fn literally(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if r"\.+*?()|[]{}^$".contains(c) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

/// A duration as Prometheus reads it, in the largest unit that it is a whole number of.
pub(crate) fn duration(time: Duration) -> String {
    let ms = time.as_millis();
    for (unit, size) in [
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1000),
    ] {
        if ms > 0 && ms.is_multiple_of(size) {
            return format!("{}{unit}", ms / size);
        }
    }
    format!("{ms}ms")
}

/// The matcher of the bucket with this bound, as the monitor writes it.
pub(super) fn bucket(bound: f64) -> String {
    format!("le={}", quote(&le(bound)))
}

/// A share as people say it.
pub(super) fn percent(ratio: f64) -> String {
    // Thousandths of a percent are enough, and leave no noise of binary fractions.
    format!("{}%", (ratio * 1e5).round() / 1e3)
}

/// A number without the noise of binary fractions.
pub(super) fn number(value: f64) -> f64 {
    (value * 1e9).round() / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anything_is_quoted_in_printable_characters() {
        assert_eq!(quote("/a/{é}"), "\"/a/{é}\"");
        assert_eq!(
            quote("\"\\\n\u{7f}\u{2028}\u{1f600}"),
            r#""\"\\\n\u007f\u2028\U0001f600""#
        );
    }

    #[test]
    fn durations_are_whole_numbers() {
        let texts = [0, 1, 1500, 2000, 90_000, 300_000, 21_600_000, 259_200_000]
            .map(|ms| duration(Duration::from_millis(ms)));
        assert_eq!(
            texts,
            ["0ms", "1ms", "1500ms", "2s", "90s", "5m", "6h", "3d"]
        );
    }

    #[test]
    fn a_bucket_is_written_as_it_is_exported() {
        assert_eq!(bucket(0.2), r#"le="0.2""#);
        assert_eq!(bucket(10.0), r#"le="10.0""#);
        assert_eq!(bucket(5e-5), r#"le="5e-05""#);
    }

    #[test]
    fn shares_have_no_noise() {
        assert_eq!(
            [0.01, 0.29, 0.144, 0.00015].map(percent),
            ["1%", "29%", "14.4%", "0.015%"]
        );
    }
}
