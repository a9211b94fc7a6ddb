use std::collections::HashMap;
use std::sync::atomic::Ordering::Acquire;

use metrics::Key;
use metrics_util::registry::Registry;

use super::distribution::Counts;
use super::storage::FixedStorage;

/// Counters and gauges, and histograms, by the name of the metric.
#[derive(Debug, Default)]
pub(crate) struct Samples {
    values: HashMap<String, Vec<(Key, f64)>>,
    histograms: HashMap<String, Vec<(Key, Counts)>>,
}

/// The value of a label, if the series has it.
pub(crate) fn label<'a>(key: &'a Key, name: &str) -> Option<&'a str> {
    key.labels()
        .find(|l| l.key() == name)
        .map(metrics::Label::value)
}

impl Samples {
    /// The metrics of these names: others are neither read nor copied.
    pub(super) fn of(registry: &Registry<Key, FixedStorage>, names: &[&[&str]]) -> Self {
        let wanted = |key: &Key| names.iter().any(|names| names.contains(&key.name()));
        let mut samples = Self::default();
        // Gauges first: what goes out of flight after that is counted as ended too, never as
        // neither, as it is counted before it leaves the gauge.
        registry.visit_gauges(|key, gauge| {
            if wanted(key) {
                samples.value(key, gauge.value());
            }
        });
        registry.visit_counters(|key, counter| {
            if wanted(key) {
                samples.value(key, counter.load(Acquire) as f64);
            }
        });
        registry.visit_histograms(|key, histogram| {
            if wanted(key) {
                let series = samples.histograms.entry(key.name().to_owned());
                series.or_default().push((key.clone(), histogram.counts()));
            }
        });
        samples
    }

    fn value(&mut self, key: &Key, value: f64) {
        let series = self.values.entry(key.name().to_owned());
        series.or_default().push((key.clone(), value));
    }

    /// The series of the counters and gauges of this name.
    pub(crate) fn values(&self, name: &str) -> &[(Key, f64)] {
        self.values.get(name).map_or(&[], Vec::as_slice)
    }

    /// The series of the histograms of this name.
    pub(crate) fn histograms(&self, name: &str) -> &[(Key, Counts)] {
        self.histograms.get(name).map_or(&[], Vec::as_slice)
    }

    /// The sum over the series of this name for which `filter` holds.
    pub(crate) fn sum(&self, name: &str, filter: impl Fn(&Key) -> bool) -> f64 {
        let series = self.values(name).iter().filter(|(key, _)| filter(key));
        series.map(|(_, value)| value).sum()
    }

    /// Whether there is any series of one of these names.
    pub(crate) fn any(&self, names: &[&str]) -> bool {
        names
            .iter()
            .any(|name| !self.values(name).is_empty() || !self.histograms(name).is_empty())
    }
}
