/// Whether a request contains `text`, as `COMMIT`: for
/// [`Proxy::cut_after_request`](crate::Proxy::cut_after_request).
///
/// # Panics
///
/// If `text` is empty.
pub fn contains(text: &str) -> impl FnMut(&[u8]) -> bool + Send + 'static {
    assert!(!text.is_empty(), "every request contains an empty text");
    let text = text.as_bytes().to_vec();
    move |request| request.windows(text.len()).any(|part| part == text)
}

/// Whether a request is the `n`th that `matches`, counted from one and over all connections.
pub fn nth(
    n: u64,
    mut matches: impl FnMut(&[u8]) -> bool + Send + 'static,
) -> impl FnMut(&[u8]) -> bool + Send + 'static {
    let mut seen = 0;
    move |request| {
        let matching = matches(request);
        seen += u64::from(matching);
        matching && seen == n
    }
}

#[cfg(test)]
mod tests {
    use super::{contains, nth};

    #[test]
    fn a_text_is_found_anywhere_in_a_request() {
        let mut commit = contains("COMMIT");
        for request in ["COMMIT", "Q\0COMMIT\0", "INSERT; COMMIT"] {
            assert!(commit(request.as_bytes()), "{request}");
        }
        for request in ["", "COMMI", "COM MIT", "commit"] {
            assert!(!commit(request.as_bytes()), "{request}");
        }
    }

    #[test]
    fn the_second_match_is_the_second_among_those_that_match() {
        let mut second = nth(2, contains("x"));
        let found: Vec<bool> = ["x", "y", "xx", "y"]
            .map(|request| second(request.as_bytes()))
            .into();
        assert_eq!(found, [false, false, true, false]);
    }
}
