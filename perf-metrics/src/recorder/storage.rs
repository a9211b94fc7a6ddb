use std::sync::Arc;

use metrics::Key;
use metrics::atomics::AtomicU64;
use metrics_util::registry::Storage;

use super::distribution::Distribution;
use super::scheme::Scheme;

/// Storage whose size does not depend on the number of samples.
#[derive(Debug)]
pub(super) struct FixedStorage;

impl Storage<Key> for FixedStorage {
    type Counter = Arc<AtomicU64>;
    type Gauge = Arc<AtomicU64>;
    type Histogram = Arc<Distribution>;

    fn counter(&self, _: &Key) -> Self::Counter {
        Arc::new(AtomicU64::new(0))
    }

    fn gauge(&self, _: &Key) -> Self::Gauge {
        Arc::new(AtomicU64::new(0))
    }

    fn histogram(&self, key: &Key) -> Self::Histogram {
        Arc::new(Distribution::new(Scheme::for_name(key.name())))
    }
}
