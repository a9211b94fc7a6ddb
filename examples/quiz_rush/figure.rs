//! Numbers as people read them.

/// A whole number with its thousands apart.
pub(crate) fn whole(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// How many there are of a thing that takes an `s` in the plural.
pub(crate) fn counted(n: u32, thing: &str) -> String {
    let s = if n == 1 { "" } else { "s" };
    format!("{} {thing}{s}", whole(f64::from(n)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_apart() {
        assert_eq!(whole(100_000.0), "100,000");
        assert_eq!(whole(999.0), "999");
        assert_eq!(counted(2_000, "user"), "2,000 users");
        assert_eq!(counted(1, "user"), "1 user");
    }
}
