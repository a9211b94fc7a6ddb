use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use metrics::Key;
use metrics::atomics::AtomicU64;
use metrics_util::registry::Storage;

use super::distribution::Distribution;
use super::gauge::Level;
use super::samples::label;
use super::scheme::Scheme;
use crate::timing::{REQUEST_DURATION, ROUTE};

/// Storage whose size does not depend on the number of samples.
#[derive(Debug, Clone, Default)]
pub(super) struct FixedStorage {
    request_times: Arc<OnceLock<RequestTimes>>,
}

/// How the times of requests are kept.
#[derive(Debug)]
struct RequestTimes {
    /// Those to routes without bounds of their own.
    others: &'static Scheme,
    routes: HashMap<String, &'static Scheme>,
}

impl FixedStorage {
    /// Exports these bounds, in seconds, for the times of requests too: those of a route, else
    /// `others`. What is recorded already, and what was set before, stays as it is.
    pub(super) fn set_request_bounds(&self, others: &[f64], routes: HashMap<String, Vec<f64>>) {
        self.request_times.get_or_init(|| RequestTimes {
            others: Scheme::times_with(others),
            routes: routes
                .into_iter()
                .map(|(route, bounds)| (route, Scheme::times_with(&bounds)))
                .collect(),
        });
    }

    fn scheme(&self, key: &Key) -> &'static Scheme {
        match self.request_times.get() {
            Some(times) if key.name() == REQUEST_DURATION => {
                let own = label(key, ROUTE).and_then(|route| times.routes.get(route));
                own.copied().unwrap_or(times.others)
            }
            _ => Scheme::for_name(key.name()),
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
        Arc::new(Distribution::new(self.scheme(key)))
    }
}
