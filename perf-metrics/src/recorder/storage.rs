use std::sync::{Arc, OnceLock};

use metrics::Key;
use metrics::atomics::AtomicU64;
use metrics_util::registry::Storage;

use super::distribution::Distribution;
use super::gauge::Level;
use super::scheme::Scheme;
use crate::timing::REQUEST_DURATION;

/// Storage whose size does not depend on the number of samples.
#[derive(Debug, Clone, Default)]
pub(super) struct FixedStorage {
    request_times: Arc<OnceLock<&'static Scheme>>,
}

impl FixedStorage {
    /// Exports these bounds, in seconds, for the times of requests too. What is recorded already,
    /// and what was set before, stays as it is.
    pub(super) fn set_request_bounds(&self, bounds: &[f64]) {
        self.request_times
            .get_or_init(|| Scheme::times_with(bounds));
    }

    fn scheme(&self, name: &str) -> &'static Scheme {
        match self.request_times.get() {
            Some(&scheme) if name == REQUEST_DURATION => scheme,
            _ => Scheme::for_name(name),
        }
    }
}

impl Storage<Key> for FixedStorage {
    type Counter = Arc<AtomicU64>;
    type Gauge = Arc<Level>;
    type Histogram = Arc<Distribution>;

    fn counter(&self, _: &Key) -> Self::Counter {
        Arc::new(AtomicU64::new(0))
    }

    fn gauge(&self, _: &Key) -> Self::Gauge {
        Arc::default()
    }

    fn histogram(&self, key: &Key) -> Self::Histogram {
        Arc::new(Distribution::new(self.scheme(key.name())))
    }
}
