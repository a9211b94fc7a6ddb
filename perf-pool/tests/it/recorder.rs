//! A recorder whose values stay as they are when they are read; `DebuggingRecorder` resets them,
//! so it cannot show a gauge twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use metrics_util::registry::{AtomicStorage, Registry};

#[derive(Clone)]
pub(crate) struct Recorded {
    registry: Arc<Registry<Key, AtomicStorage>>,
    described: Arc<Mutex<BTreeSet<String>>>,
}

impl Recorded {
    pub(crate) fn new() -> Self {
        Self {
            registry: Arc::new(Registry::new(AtomicStorage)),
            described: Arc::default(),
        }
    }

    pub(crate) fn gauge(&self, name: &str) -> f64 {
        let gauges = self.registry.get_gauge_handles();
        let value = named(gauges)[name].load(std::sync::atomic::Ordering::SeqCst);
        f64::from_bits(value)
    }

    pub(crate) fn counter(&self, name: &str) -> u64 {
        named(self.registry.get_counter_handles())[name].load(std::sync::atomic::Ordering::SeqCst)
    }

    pub(crate) fn histogram(&self, name: &str) -> Vec<f64> {
        named(self.registry.get_histogram_handles())[name].data()
    }

    /// The names of everything there is, without labels.
    pub(crate) fn names(&self) -> BTreeSet<String> {
        let gauges = self.registry.get_gauge_handles().into_keys();
        let counters = self.registry.get_counter_handles().into_keys();
        let histograms = self.registry.get_histogram_handles().into_keys();
        gauges
            .chain(counters)
            .chain(histograms)
            .map(|key| key.name().to_owned())
            .collect()
    }

    pub(crate) fn described(&self) -> BTreeSet<String> {
        self.described.lock().unwrap().clone()
    }

    fn describe(&self, name: KeyName) {
        self.described
            .lock()
            .unwrap()
            .insert(name.as_str().to_owned());
    }
}

/// By name and labels, `name/label=value`, without the pool's name, which must be `m`.
fn named<T>(handles: impl IntoIterator<Item = (Key, T)>) -> BTreeMap<String, T> {
    let mut all = BTreeMap::new();
    for (key, handle) in handles {
        let mut name = key.name().to_owned();
        for label in key.labels() {
            match label.key() {
                "pool" => assert_eq!(label.value(), "m"),
                other => name.push_str(&format!("/{other}={}", label.value())),
            }
        }
        all.insert(name, handle);
    }
    all
}

impl Recorder for Recorded {
    fn describe_counter(&self, key: KeyName, _: Option<Unit>, _: SharedString) {
        self.describe(key);
    }

    fn describe_gauge(&self, key: KeyName, _: Option<Unit>, _: SharedString) {
        self.describe(key);
    }

    fn describe_histogram(&self, key: KeyName, _: Option<Unit>, _: SharedString) {
        self.describe(key);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        self.registry
            .get_or_create_counter(key, |counter| Counter::from_arc(Arc::clone(counter)))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        self.registry
            .get_or_create_gauge(key, |gauge| Gauge::from_arc(Arc::clone(gauge)))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        self.registry
            .get_or_create_histogram(key, |histogram| Histogram::from_arc(Arc::clone(histogram)))
    }
}
