use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::engine::Order;

/// What the database said of the order of rows, for as long as it is believed: a trigger or a foreign
/// key that is new counts after that.
#[derive(Debug, Clone, Default)]
pub(crate) struct KnownOrder(Arc<Mutex<Option<(Instant, Order)>>>);

impl KnownOrder {
    const BELIEVED: Duration = Duration::from_secs(1);

    pub(super) fn get(&self) -> Option<Order> {
        let known = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, order) = known?;
        (since.elapsed() < Self::BELIEVED).then_some(order)
    }

    pub(super) fn set(&self, order: Order) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *known = Some((Instant::now(), order));
    }
}
