//! A reader of the Prometheus text format that fails on whatever Prometheus would refuse.

use std::collections::{BTreeMap, HashMap, HashSet};

#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) value: f64,
}

#[derive(Debug)]
pub(crate) struct Exposition {
    samples: Vec<Sample>,
}

impl Exposition {
    /// Reads a whole scrape.
    pub(crate) fn parse(text: &str) -> Self {
        assert!(
            text.is_empty() || text.ends_with('\n'),
            "the last line ends"
        );
        let mut kinds: HashMap<&str, &str> = HashMap::new();
        let mut current = "";
        let mut seen = HashSet::new();
        let mut samples = Vec::new();
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, _) = help.split_once(' ').unwrap();
                assert!(!kinds.contains_key(name), "help of {name} comes first");
                continue;
            }
            if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').unwrap();
                assert!(kinds.insert(name, kind).is_none(), "{name} has two types");
                current = name;
                continue;
            }
            let sample = sample(line);
            let suffixes: &[&str] = match kinds[current] {
                "histogram" => &["_bucket", "_sum", "_count"],
                "counter" | "gauge" => &[""],
                kind => panic!("unknown type {kind}"),
            };
            let belongs = suffixes
                .iter()
                .any(|s| format!("{current}{s}") == sample.name);
            assert!(belongs, "{line} is not of {current}");
            assert!(
                seen.insert((sample.name.clone(), sample.labels.clone())),
                "twice: {line}"
            );
            samples.push(sample);
        }
        let text = Self { samples };
        for (name, _) in kinds.iter().filter(|(_, kind)| **kind == "histogram") {
            text.check_histogram(name);
        }
        text
    }

    /// The samples of this name.
    pub(crate) fn samples<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a Sample> + use<'a> {
        let name = name.to_owned();
        self.samples.iter().filter(move |s| s.name == name)
    }

    /// The sum of all samples of this name.
    pub(crate) fn sum(&self, name: &str) -> f64 {
        self.samples(name).map(|sample| sample.value).sum()
    }

    fn check_histogram(&self, name: &str) {
        let mut last: BTreeMap<_, (f64, f64)> = BTreeMap::new();
        for bucket in self.samples(&format!("{name}_bucket")) {
            let mut labels = bucket.labels.clone();
            let bound: f64 = labels.remove("le").unwrap().parse().unwrap();
            if let Some((le, count)) = last.get(&labels) {
                assert!(*le < bound, "{name}: bounds rise");
                assert!(*count <= bucket.value, "{name}: buckets are cumulative");
            }
            last.insert(labels, (bound, bucket.value));
        }
        let counts = self.samples(&format!("{name}_count"));
        let counts: Vec<_> = counts
            .map(|s| (&s.labels, (f64::INFINITY, s.value)))
            .collect();
        assert_eq!(
            last.iter().map(|(l, v)| (l, *v)).collect::<Vec<_>>(),
            sorted(counts)
        );
        assert_eq!(last.len(), self.samples(&format!("{name}_sum")).count());
    }
}

fn sorted<K: Ord, V>(mut pairs: Vec<(K, V)>) -> Vec<(K, V)> {
    pairs.sort_by(|a, b| a.0.cmp(&b.0));
    pairs
}

pub(crate) fn sample(line: &str) -> Sample {
    let end = line.find(['{', ' ']).unwrap();
    let (name, rest) = line.split_at(end);
    let valid = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    assert!(name.chars().all(valid) && !name.starts_with(|c: char| c.is_ascii_digit()));
    let mut labels = BTreeMap::new();
    let mut rest = rest;
    if let Some(mut inner) = rest.strip_prefix('{') {
        loop {
            let (key, value) = inner.split_once("=\"").unwrap();
            let mut text = String::new();
            let mut chars = value.char_indices();
            let end = loop {
                match chars.next().unwrap() {
                    (i, '"') => break i,
                    (_, '\\') => text.push(match chars.next().unwrap().1 {
                        'n' => '\n',
                        c @ ('\\' | '"') => c,
                        c => panic!("unknown escape {c} in {line}"),
                    }),
                    (_, c) => text.push(c),
                }
            };
            assert!(
                labels.insert(key.to_owned(), text).is_none(),
                "label {key} twice"
            );
            inner = &value[end + 1..];
            match inner.strip_prefix(',') {
                Some(more) => inner = more,
                None => break,
            }
        }
        rest = inner.strip_prefix('}').unwrap();
    }
    let value = rest.strip_prefix(' ').unwrap().parse().unwrap();
    Sample {
        name: name.to_owned(),
        labels,
        value,
    }
}

#[test]
fn labels_of_any_text_come_back_as_they_were() {
    let monitor = perf_metrics::Monitor::builder().build().unwrap();
    let values = [
        "",
        "plain",
        "q\"uote",
        "back\\slash",
        "\\n",
        "line\nbreak",
        "ünïcode",
        "{},=",
    ];
    metrics::with_local_recorder(&monitor.recorder(), || {
        for value in values {
            metrics::counter!("odd_total", "label" => value).increment(1);
        }
    });
    let text = Exposition::parse(&monitor.render());
    let mut found: Vec<_> = text
        .samples("odd_total")
        .map(|s| &s.labels["label"])
        .collect();
    let mut values = values.to_vec();
    found.sort();
    values.sort_unstable();
    assert_eq!(found, values);
}
