use std::borrow::Cow;

use metrics::Key;

use super::Kind;

/// Appends the labels of `key` as both formats write them, by name: two keys whose labels differ
/// in their order alone are one series to Prometheus.
pub(super) fn append(text: &mut String, key: &Key, kind: Kind) {
    let mut labels: Vec<(Cow<'_, str>, &str)> = key
        .labels()
        .map(|label| (name(label.key(), kind), label.value()))
        .collect();
    // Stable, and one series with a label twice would be refused: the first stays.
    labels.sort_by(|(a, _), (b, _)| a.cmp(b));
    labels.dedup_by(|(later, _), (first, _)| later == first);
    append_pairs(text, labels.iter().map(|(name, value)| (&**name, *value)));
}

/// Appends labels whose names are valid and different.
pub(super) fn append_pairs<'a>(
    text: &mut String,
    labels: impl Iterator<Item = (&'a str, &'a str)>,
) {
    for (index, (name, value)) in labels.enumerate() {
        if index > 0 {
            text.push(',');
        }
        text.push_str(name);
        text.push_str("=\"");
        escape(text, value, true);
        text.push('"');
    }
}

/// Appends text with the escapes of label values, or of help.
pub(super) fn escape(text: &mut String, value: &str, quotes: bool) {
    let mut rest = value;
    let special = |byte: u8| matches!(byte, b'\\' | b'\n') || (byte == b'"' && quotes);
    while let Some(at) = rest.bytes().position(special) {
        let (plain, from) = rest.split_at(at);
        text.push_str(plain);
        let mut chars = from.chars();
        text.push_str(match chars.next() {
            Some('\n') => "\\n",
            Some('"') => "\\\"",
            _ => "\\\\",
        });
        rest = chars.as_str();
    }
    text.push_str(rest);
}

/// The name of a label: valid, and not one of Prometheus's own, of which the bounds of a histogram
/// are one.
fn name(name: &str, kind: Kind) -> Cow<'_, str> {
    let name = sanitize(name, false);
    if name.starts_with("__") || (name == "le" && kind == Kind::Histogram) {
        return Cow::Owned(format!("exported_{name}"));
    }
    name
}

/// Makes a valid metric name, or label name, of any string.
pub(super) fn sanitize(name: &str, metric: bool) -> Cow<'_, str> {
    let valid = |c: char| c.is_ascii_alphanumeric() || c == '_' || (c == ':' && metric);
    let starts = |c: char| valid(c) && !c.is_ascii_digit();
    if !name.starts_with(starts) {
        // As long as before, and not empty.
        let rest = name.chars().skip(1);
        return std::iter::once('_')
            .chain(rest.map(|c| if valid(c) { c } else { '_' }))
            .collect();
    }
    if name
        .bytes()
        .all(|byte| valid(char::from(byte)) && byte.is_ascii())
    {
        return Cow::Borrowed(name);
    }
    name.chars()
        .map(|c| if valid(c) { c } else { '_' })
        .collect()
}
