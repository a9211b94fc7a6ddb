//! Which format a scraper wants, by its `Accept` headers (RFC 9110, section 12.5.1).

use axum::http::HeaderValue;

use crate::recorder::Format;

/// How well a media range fits a format: the more specific goes before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    Any,
    Type,
    Exact,
}

/// The format of the higher quality. Where both have the same, OpenMetrics if it is named.
pub(super) fn format<'a>(accept: impl Iterator<Item = &'a HeaderValue>) -> Format {
    let mut open = None;
    let mut text = None;
    for range in accept
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(Range::parse)
    {
        let ours = [
            (&mut open, "application", "openmetrics-text", "1.0.0"),
            (&mut text, "text", "plain", "0.0.4"),
        ];
        for (best, main, sub, version) in ours {
            if let Some(fit) = range.fit(main, sub, version) {
                *best = (*best).max(Some((fit, range.quality)));
            }
        }
    }
    let quality = |best: Option<(Fit, u16)>| best.map_or(0, |(_, quality)| quality);
    let named = open.is_some_and(|(fit, _)| fit == Fit::Exact);
    let (open, text) = (quality(open), quality(text));
    if open > text || (open == text && open > 0 && named) {
        Format::OpenMetrics
    } else {
        Format::Prometheus
    }
}

/// One range of media types.
struct Range<'a> {
    main: &'a str,
    sub: &'a str,
    version: Option<&'a str>,
    /// In thousandths.
    quality: u16,
}

impl<'a> Range<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let (main, sub) = parts.next()?.split_once('/')?;
        let mut range = Self {
            main,
            sub,
            version: None,
            quality: 1000,
        };
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            let value = value.trim().trim_matches('"');
            match name.trim() {
                name if name.eq_ignore_ascii_case("q") => {
                    let quality: f32 = value.parse().ok()?;
                    range.quality = (quality.clamp(0.0, 1.0) * 1000.0).round() as u16;
                }
                name if name.eq_ignore_ascii_case("version") => range.version = Some(value),
                _ => {}
            }
        }
        Some(range)
    }

    fn fit(&self, main: &str, sub: &str, version: &str) -> Option<Fit> {
        if (self.main, self.sub) == ("*", "*") {
            return Some(Fit::Any);
        }
        if !self.main.eq_ignore_ascii_case(main) {
            return None;
        }
        if self.sub == "*" {
            return Some(Fit::Type);
        }
        let same = self.sub.eq_ignore_ascii_case(sub) && self.version.is_none_or(|v| v == version);
        same.then_some(Fit::Exact)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(accept: &[&str]) -> bool {
        let values: Vec<_> = accept
            .iter()
            .map(|text| HeaderValue::from_str(text).unwrap())
            .collect();
        format(values.iter()) == Format::OpenMetrics
    }

    #[test]
    fn scrapers_get_what_they_prefer() {
        // Prometheus 2.42, and 3 with and without its other formats.
        for accept in [
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
            "application/openmetrics-text",
            "application/openmetrics-text, text/plain",
            "text/plain;q=0.5, application/*",
            "APPLICATION/OpenMetrics-Text; Version=\"1.0.0\" ; Q=0.9, */*;q=0.8",
            "application/openmetrics-text;q=0.001, text/*;q=0",
        ] {
            assert!(open(&[accept]), "{accept}");
        }
        assert!(open(&["text/plain;q=0.5", "application/openmetrics-text"]));
    }

    #[test]
    fn all_others_get_text() {
        for accept in [
            "",
            "*/*",
            "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
            "text/plain",
            "text/plain, application/openmetrics-text;q=0.9",
            "application/openmetrics-text;q=0",
            "application/openmetrics-text;q=0, */*;q=0",
            "application/openmetrics-text;version=2.0.0, text/plain;q=0.1",
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily",
            "application/openmetrics-text;q=nonsense",
            "application/openmetrics-text;q=0, application/*",
            ";;;,/,=",
        ] {
            assert!(!open(&[accept]), "{accept}");
        }
        assert!(!open(&[]));
    }
}
