//! The monitor's recorder: counters, gauges and fixed-bucket histograms that can be read at any
//! time, as Prometheus text or by name.

mod distribution;
mod exposition;
mod gauge;
mod samples;
mod scheme;
mod storage;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use metrics_util::registry::Registry;

use storage::FixedStorage;

pub(crate) use distribution::{Cells, Counts, Distribution};
pub(crate) use exposition::{Alias, Derived, Format, Kind, le};
pub(crate) use gauge::Flows;
pub(crate) use samples::{Samples, label};
pub(crate) use scheme::TIME_BOUNDS;

/// The recorder of a [`Monitor`](crate::Monitor); clones share everything.
///
/// Its memory grows with the number of series alone, never with the number of samples, scraped or
/// not, and without a task that cleans up. Histograms are Prometheus histograms with fixed
/// buckets, chosen by the metric's name: OpenTelemetry's bounds from 0.005 to 10 for `.._seconds`,
/// 100 to 100,000,000 in steps of ten for `.._bytes`, 1, 2, 5 .. 1,000,000 for anything else.
///
/// A name is of one kind in Prometheus. Where it is recorded as two, scrapes show the gauge, else
/// the counter, and the first that does so warns through `tracing`.
///
/// Use it as any recorder of the `metrics` facade: to record into a monitor that is not installed,
/// or as one of several behind a fanout.
#[derive(Clone)]
pub struct MonitorRecorder {
    inner: Arc<Inner>,
}

struct Inner {
    storage: FixedStorage,
    registry: Registry<Key, FixedStorage>,
    descriptions: RwLock<HashMap<KeyName, SharedString>>,
    /// The metrics whose names clash, of which the log told.
    clashing: Mutex<HashSet<String>>,
}

impl MonitorRecorder {
    pub(crate) fn new() -> Self {
        let storage = FixedStorage::default();
        Self {
            inner: Arc::new(Inner {
                storage: storage.clone(),
                registry: Registry::new(storage),
                descriptions: RwLock::default(),
                clashing: Mutex::default(),
            }),
        }
    }

    /// Exports these bounds, in seconds, for the times of requests too: those of a route, else
    /// `others`. To be called before any is recorded.
    pub(crate) fn set_request_bounds(&self, others: &[f64], routes: HashMap<String, Vec<f64>>) {
        self.inner.storage.set_request_bounds(others, routes);
    }

    /// All metrics in this format, with those that are not in the recorder.
    pub(crate) fn render(
        &self,
        format: Format,
        derived: Vec<Derived>,
        aliases: &[Alias],
    ) -> String {
        let (text, clashes) = {
            let descriptions = self.inner.descriptions.read();
            let descriptions = descriptions.unwrap_or_else(PoisonError::into_inner);
            let registry = &self.inner.registry;
            exposition::render(registry, &descriptions, format, derived, aliases)
        };
        for clash in clashes {
            self.tell(&clash);
        }
        text
    }

    /// Warns of a metric whose name clashes, once.
    fn tell(&self, clash: &exposition::Clash) {
        let first = {
            let clashing = self.inner.clashing.lock();
            let mut clashing = clashing.unwrap_or_else(PoisonError::into_inner);
            clashing.insert(clash.name.clone())
        };
        if first {
            tracing::warn!(
                metric = clash.name,
                shown = clash.shown.as_str(),
                left_out = clash.left_out.as_str(),
                "a metric is recorded as two kinds, of which scrapes show one: rename the other"
            );
        }
    }

    /// The metrics of these names.
    pub(crate) fn samples(&self, names: &[&[&str]]) -> Samples {
        Samples::of(&self.inner.registry, names)
    }

    /// What comes and goes in the gauge of this key, without what the facade puts around it.
    pub(crate) fn flows(&self, key: &Key) -> Arc<Flows> {
        let registry = &self.inner.registry;
        registry.get_or_create_gauge(key, |gauge| Arc::clone(gauge.flows()))
    }

    /// The histogram of this key itself.
    pub(crate) fn distribution(&self, key: &Key) -> Arc<Distribution> {
        self.inner.registry.get_or_create_histogram(key, Arc::clone)
    }

    fn describe(&self, key: KeyName, description: SharedString) {
        let mut descriptions = self
            .inner
            .descriptions
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        descriptions.insert(key, description);
    }
}

impl Recorder for MonitorRecorder {
    fn describe_counter(&self, key: KeyName, _: Option<Unit>, description: SharedString) {
        self.describe(key, description);
    }

    fn describe_gauge(&self, key: KeyName, _: Option<Unit>, description: SharedString) {
        self.describe(key, description);
    }

    fn describe_histogram(&self, key: KeyName, _: Option<Unit>, description: SharedString) {
        self.describe(key, description);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let registry = &self.inner.registry;
        registry.get_or_create_counter(key, |c| Counter::from_arc(Arc::clone(c)))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        let registry = &self.inner.registry;
        registry.get_or_create_gauge(key, |g| Gauge::from_arc(Arc::clone(g)))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        let registry = &self.inner.registry;
        registry.get_or_create_histogram(key, |h| Histogram::from_arc(Arc::clone(h)))
    }
}

impl fmt::Debug for MonitorRecorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MonitorRecorder").finish_non_exhaustive()
    }
}
