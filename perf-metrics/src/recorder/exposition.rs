//! The Prometheus text format, version 0.0.4.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::sync::atomic::Ordering::Acquire;

use metrics::{Key, KeyName, SharedString};
use metrics_util::registry::Registry;

use super::distribution::Counts;
use super::storage::FixedStorage;

#[derive(Debug)]
enum Value {
    Counter(u64),
    Gauge(f64),
    Histogram(Counts),
}

impl Value {
    fn kind(&self) -> &'static str {
        match self {
            Self::Counter(_) => "counter",
            Self::Gauge(_) => "gauge",
            Self::Histogram(_) => "histogram",
        }
    }
}

/// The series of one metric, by their labels as written.
#[derive(Debug)]
struct Family {
    name: KeyName,
    kind: &'static str,
    series: BTreeMap<String, Value>,
}

pub(super) fn render(
    registry: &Registry<Key, FixedStorage>,
    descriptions: &HashMap<KeyName, SharedString>,
) -> String {
    let mut text = String::new();
    for (name, family) in families(registry) {
        if let Some(description) = descriptions.get(&family.name) {
            let description = description.replace('\\', "\\\\").replace('\n', "\\n");
            let _ = writeln!(text, "# HELP {name} {description}");
        }
        let _ = writeln!(text, "# TYPE {name} {}", family.kind);
        for (labels, value) in &family.series {
            write_value(&mut text, &name, labels, value);
        }
    }
    text
}

fn families(registry: &Registry<Key, FixedStorage>) -> BTreeMap<String, Family> {
    let mut families = BTreeMap::new();
    registry.visit_counters(|key, counter| {
        add(&mut families, key, Value::Counter(counter.load(Acquire)));
    });
    registry.visit_gauges(|key, gauge| {
        let value = f64::from_bits(gauge.load(Acquire));
        add(&mut families, key, Value::Gauge(value));
    });
    registry.visit_histograms(|key, histogram| {
        add(&mut families, key, Value::Histogram(histogram.counts()));
    });
    families
}

fn add(families: &mut BTreeMap<String, Family>, key: &Key, value: Value) {
    let family = families
        .entry(sanitize(key.name(), true))
        .or_insert_with(|| Family {
            name: key.name_shared(),
            kind: value.kind(),
            series: BTreeMap::new(),
        });
    // A name is of one kind in Prometheus: one series of another kind, and the whole scrape would
    // be refused. The kind seen first stays.
    if family.kind == value.kind() {
        family.series.insert(labels(key, family.kind), value);
    }
}

fn labels(key: &Key, kind: &str) -> String {
    let mut text = String::new();
    let mut names = Vec::with_capacity(key.labels().len());
    for label in key.labels() {
        let mut name = sanitize(label.key(), false);
        // Of Prometheus's own; the bounds of a histogram are labels too.
        if name.starts_with("__") || (name == "le" && kind == "histogram") {
            name.insert_str(0, "exported_");
        }
        // One series with a label twice, and the whole scrape would be refused: the first stays.
        if names.contains(&name) {
            continue;
        }
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(&name);
        names.push(name);
        text.push_str("=\"");
        for c in label.value().chars() {
            match c {
                '\\' => text.push_str("\\\\"),
                '"' => text.push_str("\\\""),
                '\n' => text.push_str("\\n"),
                c => text.push(c),
            }
        }
        text.push('"');
    }
    text
}

/// Makes a valid metric name, or label name, of any string.
fn sanitize(name: &str, metric: bool) -> String {
    let valid = |(i, c): (usize, char)| match c {
        'a'..='z' | 'A'..='Z' | '_' => c,
        '0'..='9' if i > 0 => c,
        ':' if metric => c,
        _ => '_',
    };
    if name.is_empty() {
        return "_".to_owned();
    }
    name.chars().enumerate().map(valid).collect()
}

fn write_value(text: &mut String, name: &str, labels: &str, value: &Value) {
    // Writing to a string does not fail.
    let _ = match value {
        Value::Counter(value) => writeln!(text, "{name}{} {value}", braced(labels)),
        Value::Gauge(value) => writeln!(text, "{name}{} {}", braced(labels), Float(*value)),
        Value::Histogram(counts) => write_histogram(text, name, labels, counts),
    };
}

fn write_histogram(
    text: &mut String,
    name: &str,
    labels: &str,
    counts: &Counts,
) -> std::fmt::Result {
    let comma = if labels.is_empty() { "" } else { "," };
    for (bound, within) in counts.buckets() {
        writeln!(
            text,
            "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {within}"
        )?;
    }
    let count = counts.count();
    writeln!(text, "{name}_bucket{{{labels}{comma}le=\"+Inf\"}} {count}")?;
    let labels = braced(labels);
    writeln!(text, "{name}_sum{labels} {}", Float(counts.sum()))?;
    writeln!(text, "{name}_count{labels} {count}")
}

fn braced(labels: &str) -> String {
    if labels.is_empty() {
        String::new()
    } else {
        format!("{{{labels}}}")
    }
}

/// A number as Prometheus writes it.
struct Float(f64);

impl std::fmt::Display for Float {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            f64::INFINITY => f.write_str("+Inf"),
            f64::NEG_INFINITY => f.write_str("-Inf"),
            value => write!(f, "{value}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use metrics::{Recorder, counter, gauge, histogram};

    use crate::MonitorRecorder;

    fn rendered(record: impl FnOnce()) -> String {
        let recorder = MonitorRecorder::new();
        metrics::with_local_recorder(&recorder, record);
        recorder.render()
    }

    #[test]
    fn a_counter_is_one_line_below_its_type() {
        let text = rendered(|| counter!("jobs_total", "queue" => "mail").increment(3));
        assert_eq!(
            text,
            "# TYPE jobs_total counter\njobs_total{queue=\"mail\"} 3\n"
        );
    }

    #[test]
    fn a_gauge_shows_numbers_that_are_not_finite() {
        let text = rendered(|| gauge!("g").set(f64::INFINITY));
        assert!(text.ends_with("g +Inf\n"), "{text}");
        let text = rendered(|| gauge!("g").set(f64::NAN));
        assert!(text.ends_with("g NaN\n"), "{text}");
    }

    #[test]
    fn a_histogram_has_cumulative_buckets_a_sum_and_a_count() {
        let text = rendered(|| {
            for value in [0.005, 0.006, 0.3, 11.0] {
                histogram!("t_seconds").record(value);
            }
        });
        for line in [
            "t_seconds_bucket{le=\"0.005\"} 1",
            "t_seconds_bucket{le=\"0.01\"} 2",
            "t_seconds_bucket{le=\"0.5\"} 3",
            "t_seconds_bucket{le=\"10\"} 3",
            "t_seconds_bucket{le=\"+Inf\"} 4",
            "t_seconds_count 4",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in {text}");
        }
    }

    #[test]
    fn labels_are_escaped() {
        let text = rendered(|| counter!("c", "l" => "a\\n\"b\nc").increment(1));
        assert!(text.ends_with("c{l=\"a\\\\n\\\"b\\nc\"} 1\n"), "{text}");
    }

    #[test]
    fn names_that_prometheus_does_not_know_are_made_valid() {
        let text = rendered(|| counter!("1http.server-time", "http.route" => "/").increment(1));
        assert!(
            text.ends_with("_http_server_time{http_route=\"/\"} 1\n"),
            "{text}"
        );
    }

    #[test]
    fn a_metric_or_label_without_a_name_gets_one() {
        let text = rendered(|| counter!("", "" => "v").increment(1));
        assert_eq!(text, "# TYPE _ counter\n_{_=\"v\"} 1\n");
    }

    #[test]
    fn a_label_that_comes_twice_is_shown_once() {
        let text = rendered(|| counter!("c", "a.b" => "1", "a_b" => "2", "c" => "3").increment(1));
        assert_eq!(text, "# TYPE c counter\nc{a_b=\"1\",c=\"3\"} 1\n");
    }

    #[test]
    fn labels_that_are_prometheus_own_are_renamed() {
        let text = rendered(|| {
            counter!("c", "__name__" => "x", "le" => "y").increment(1);
            histogram!("h", "le" => "z").record(1.0);
        });
        assert!(
            text.contains("c{exported___name__=\"x\",le=\"y\"} 1\n"),
            "{text}"
        );
        assert!(
            text.contains("h_bucket{exported_le=\"z\",le=\"1\"} 1\n"),
            "{text}"
        );
    }

    #[test]
    fn a_name_used_for_two_kinds_keeps_the_first() {
        let text = rendered(|| {
            counter!("x").increment(1);
            gauge!("x").set(2.0);
        });
        assert_eq!(text, "# TYPE x counter\nx 1\n");
    }

    #[test]
    fn a_description_is_one_line_of_help() {
        let recorder = MonitorRecorder::new();
        recorder.describe_counter("c".into(), None, "first\nsecond".into());
        metrics::with_local_recorder(&recorder, || counter!("c").increment(1));
        assert!(recorder.render().starts_with("# HELP c first\\nsecond\n"));
    }
}
