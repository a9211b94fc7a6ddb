/// The setting that `name` most likely means, where it is none and nearly one.
pub(super) fn similar(
    name: &str,
    settings: impl IntoIterator<Item = &'static str>,
) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    settings
        .into_iter()
        .map(|setting| (distance(&name, setting), setting))
        .filter(|(distance, setting)| *distance <= setting.len() / 6)
        .min()
        .map(|(_, setting)| setting)
}

/// How many letters have to be added, left out, changed or swapped with the next one.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, &x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, &y) in b.iter().enumerate() {
            let mut least = (last[j] + usize::from(x != y))
                .min(last[j + 1] + 1)
                .min(row[j] + 1);
            if i > 0 && j > 0 && x == b[j - 1] && y == a[i - 1] {
                least = least.min(before[j - 1] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::distance;

    #[test]
    fn the_distance_counts_each_slip_of_a_finger_once() {
        assert_eq!(distance("", ""), 0);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("max_conections", "max_connections"), 1);
        assert_eq!(distance("maxconnections", "max_connections"), 1);
        assert_eq!(distance("max_connectoins", "max_connections"), 1);
        assert_eq!(distance("nax_connection", "max_connections"), 2);
        assert_eq!(distance("url", "pooler"), 5);
    }
}
