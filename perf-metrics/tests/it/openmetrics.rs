//! A reader of OpenMetrics 1.0 that fails on whatever its specification forbids, and what the
//! monitor writes in that format.

use std::collections::{BTreeMap, HashSet};

use metrics::{Recorder, Unit, counter, gauge, histogram};
use perf_metrics::Monitor;

use crate::exposition::{Exposition, Sample, sample};

/// Reads a whole scrape: samples by name, and families with their types.
pub(crate) fn parse(text: &str) -> (Vec<Sample>, BTreeMap<String, String>) {
    let body = text.strip_suffix("# EOF\n").expect("ends with EOF");
    assert!(!body.contains("# EOF"), "one EOF");
    assert!(
        body.lines().all(|line| !line.is_empty()),
        "no line is empty"
    );
    let mut kinds = BTreeMap::new();
    let mut names = HashSet::new();
    let mut samples: Vec<Sample> = Vec::new();
    let mut family = String::new();
    let mut seen = HashSet::new();
    for line in body.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let (what, rest) = comment.split_once(' ').unwrap();
            let (name, text) = rest.split_once(' ').unwrap();
            if name != family {
                assert!(names.insert(name.to_owned()), "{name} clashes");
                name.clone_into(&mut family);
                seen.clear();
            }
            assert!(seen.insert(what.to_owned()), "{what} of {name} twice");
            assert!(!seen.contains("sample"), "{line} after the samples");
            match what {
                "TYPE" => {
                    let suffixes: &[&str] = match text {
                        "counter" => &["_total", "_created"],
                        "histogram" => &["_bucket", "_sum", "_count", "_created"],
                        "gauge" | "unknown" => &[],
                        kind => panic!("unknown type {kind}"),
                    };
                    for suffix in suffixes {
                        assert!(names.insert(format!("{name}{suffix}")), "{name} clashes");
                    }
                    kinds.insert(name.to_owned(), text.to_owned());
                }
                "UNIT" => assert!(name.ends_with(&format!("_{text}")), "{line}"),
                "HELP" => check_escapes(text),
                _ => panic!("unknown comment {line}"),
            }
            continue;
        }
        seen.insert("sample".to_owned());
        let sample = sample(line);
        let suffixes: &[&str] = match kinds[&family].as_str() {
            "counter" => &["_total"],
            "histogram" => &["_bucket", "_sum", "_count"],
            _ => &[""],
        };
        let belongs = suffixes
            .iter()
            .any(|s| format!("{family}{s}") == sample.name);
        assert!(belongs, "{line} is not of {family}");
        if kinds[&family] == "counter" {
            assert!(sample.value >= 0.0, "{line}");
        }
        if let Some(le) = sample
            .labels
            .get("le")
            .filter(|_| kinds[&family] == "histogram")
        {
            let canonical = le == "+Inf" || le.contains('.') || le.contains("e+");
            assert!(canonical, "{line}");
        }
        samples.push(sample);
    }
    (samples, kinds)
}

fn check_escapes(text: &str) {
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        assert_ne!(c, '"', "a quote that is not escaped in {text}");
        if c == '\\' {
            let next = chars.next();
            assert!(matches!(next, Some('\\' | 'n' | '"')), "{text}");
        }
    }
}

fn value(samples: &[Sample], name: &str) -> f64 {
    let mut of_name = samples.iter().filter(|sample| sample.name == name);
    let value = of_name.next().unwrap_or_else(|| panic!("no {name}")).value;
    assert!(of_name.next().is_none(), "{name} twice");
    value
}

#[test]
fn counters_are_named_by_their_family() {
    let monitor = Monitor::builder().build().unwrap();
    metrics::with_local_recorder(&monitor.recorder(), || {
        counter!("jobs_total", "queue" => "mail").increment(3);
        counter!("anything").increment(2);
        counter!("_total").increment(1);
    });
    let text = monitor.render_openmetrics();
    let (samples, kinds) = parse(&text);
    assert!(text.contains("# TYPE jobs counter\njobs_total{queue=\"mail\"} 3\n"));
    assert_eq!(value(&samples, "jobs_total"), 3.0);
    // Rules know it by this name from the other format.
    assert_eq!(value(&samples, "anything"), 2.0);
    assert_eq!(kinds["anything"], "unknown");
    assert_eq!(kinds["_total"], "unknown");
}

#[test]
fn names_that_differ_by_the_suffix_of_a_counter_do_not_clash() {
    let monitor = Monitor::builder().build().unwrap();
    metrics::with_local_recorder(&monitor.recorder(), || {
        gauge!("jobs").set(7);
        counter!("jobs_total").increment(3);
        histogram!("jobs_total_seconds").record(1.0);
    });
    let (samples, kinds) = parse(&monitor.render_openmetrics());
    assert_eq!(value(&samples, "jobs"), 7.0);
    assert_eq!(value(&samples, "jobs_total"), 3.0);
    assert_eq!(
        (&*kinds["jobs"], &*kinds["jobs_total"]),
        ("gauge", "unknown")
    );
}

#[test]
fn a_name_that_a_histogram_needs_is_left_out() {
    let monitor = Monitor::builder().build().unwrap();
    metrics::with_local_recorder(&monitor.recorder(), || {
        histogram!("size").record(1.0);
        gauge!("size_count").set(5);
    });
    let (samples, _) = parse(&monitor.render_openmetrics());
    assert_eq!(value(&samples, "size_count"), 1.0);
    assert_eq!(Exposition::parse(&monitor.render()).sum("size_count"), 1.0);
}

#[test]
fn units_are_those_that_the_names_end_in() {
    let monitor = Monitor::builder().build().unwrap();
    metrics::with_local_recorder(&monitor.recorder(), || {
        histogram!("wait_seconds").record(0.01);
        counter!("sent_bytes_total").increment(5);
        gauge!("hit_ratio").set(0.5);
        gauge!("seconds").set(1);
        gauge!("milliseconds").set(1);
    });
    let text = monitor.render_openmetrics();
    parse(&text);
    for unit in [
        "# UNIT wait_seconds seconds\n",
        "# UNIT sent_bytes bytes\n",
        "# UNIT hit_ratio ratio\n",
    ] {
        assert!(text.contains(unit), "{unit}");
    }
    assert!(!text.contains("# UNIT seconds") && !text.contains("# UNIT milliseconds"));
    assert!(!monitor.render().contains("# UNIT"));
}

#[test]
fn help_and_labels_of_any_text_are_escaped() {
    let monitor = Monitor::builder().build().unwrap();
    let recorder = monitor.recorder();
    let help = "a \"quote\", a \\ and\na line";
    recorder.describe_gauge("g".into(), Some(Unit::Count), help.into());
    metrics::with_local_recorder(&recorder, || gauge!("g", "l" => help).set(f64::NAN));
    let text = monitor.render_openmetrics();
    let (samples, _) = parse(&text);
    assert!(text.contains("# HELP g a \\\"quote\\\", a \\\\ and\\na line\n"));
    let g = samples.iter().find(|sample| sample.name == "g").unwrap();
    assert_eq!(g.labels["l"], help);
    assert!(g.value.is_nan());
}

#[test]
fn both_formats_have_the_same_samples() {
    let monitor = Monitor::builder().build().unwrap();
    metrics::with_local_recorder(&monitor.recorder(), || {
        for i in 0..100u32 {
            counter!("jobs_total", "queue" => i.to_string(), "zone" => "a").increment(1);
            gauge!("depth", "queue" => i.to_string()).set(i);
            histogram!("wait_seconds", "queue" => i.to_string()).record(f64::from(i) / 100.0);
            histogram!("body_bytes", "queue" => i.to_string()).record(f64::from(i) * 1e5);
        }
    });
    let open = monitor.render_openmetrics();
    parse(&open);
    let own = |text: &str| -> Vec<String> {
        let lines = text.lines();
        let own = lines.filter(|l| !l.starts_with(['#', 'p', 't']));
        own.map(str::to_owned).collect()
    };
    let own_open = own(&open);
    assert_eq!(own_open, own(&monitor.render()));
    // 100 series of a counter, a gauge, 14 + 3 lines of times, 7 + 3 of sizes.
    assert_eq!(own_open.len(), 2900);
}
