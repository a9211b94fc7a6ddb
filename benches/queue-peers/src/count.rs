//! How many jobs have run.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

use crate::Failure;

/// Long beyond what the slowest peer takes.
const HANGS: Duration = Duration::from_secs(120);

/// Counts jobs down.
#[derive(Debug, Clone)]
pub(crate) struct Count(Arc<(AtomicUsize, Notify)>);

impl Count {
    pub(crate) fn of(jobs: usize) -> Self {
        Self(Arc::new((AtomicUsize::new(jobs), Notify::new())))
    }

    /// A job has run.
    pub(crate) fn one(&self) {
        if self.0.0.fetch_sub(1, Relaxed) == 1 {
            self.0.1.notify_one();
        }
    }

    /// Waits for the last job.
    pub(crate) async fn over(&self) -> Result<(), Failure> {
        let over = timeout(HANGS, self.0.1.notified()).await;
        over.map_err(|_| format!("{} jobs have not run", self.0.0.load(Relaxed)).into())
    }
}
