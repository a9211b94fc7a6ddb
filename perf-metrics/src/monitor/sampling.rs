use std::time::Instant;

use super::Monitor;
use crate::history::{HistorySample, Totals};

/// Tokio's clock, which tests can pause, where there is a tokio.
fn now() -> Instant {
    #[cfg(feature = "tokio")]
    return tokio::time::Instant::now().into_std();
    #[cfg(not(feature = "tokio"))]
    Instant::now()
}

impl Monitor {
    /// The samples of the last fifteen minutes, the oldest first; see [`history`](crate::history).
    ///
    /// Takes a sample itself if no [`sampler`](Self::sampler) runs and the last is a second old;
    /// the first reading only marks where the first sample starts, and returns nothing.
    pub fn history(&self) -> Vec<HistorySample> {
        let totals = || Totals::read(&self.inner.recorder);
        self.inner.history.read(now(), totals)
    }

    /// A future that samples the [`history`](Self::history) once a second, to be spawned:
    /// `tokio::spawn(monitor.sampler())`. It ends when the last clone of the monitor is dropped.
    ///
    /// A sample reads the series of the requests, the queues, the pools, the caches and the
    /// batches: some microseconds, and about one for each method, route and status.
    ///
    /// # Cancel safety
    ///
    /// Dropping it at any time loses nothing but the samples to come.
    #[cfg(feature = "tokio")]
    pub fn sampler(&self) -> impl Future<Output = ()> + Send + use<> {
        use std::sync::Arc;
        use std::time::Duration;
        use tokio::time::{MissedTickBehavior, interval};

        // Not the monitor itself: the future would keep alive what its own end waits for.
        let history = Arc::clone(&self.inner.history);
        let monitor = Arc::downgrade(&self.inner);
        async move {
            let _sampling = history.sampling();
            let mut ticks = interval(Duration::from_secs(1));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
            loop {
                ticks.tick().await;
                let Some(inner) = monitor.upgrade() else {
                    return;
                };
                history.sample(now(), || Totals::read(&inner.recorder));
            }
        }
    }
}
