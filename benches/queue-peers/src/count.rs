//! How many jobs have run, and when their ends are stored.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use crate::Failure;

/// Long beyond what the slowest peer takes.
const HANGS: Duration = Duration::from_secs(120);

/// Between two looks at what the peer has stored, which cost the server next to nothing.
const LOOK: Duration = Duration::from_millis(2);

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

    /// Waits for the last job to have run, and then until none is `left` whose end is not stored.
    pub(crate) async fn over<F>(&self, left: impl Fn() -> F) -> Result<(), Failure>
    where
        F: Future<Output = Result<i64, Failure>>,
    {
        let over = timeout(HANGS, self.0.1.notified()).await;
        over.map_err(|_| format!("{} jobs have not run", self.0.0.load(Relaxed)))?;
        let stored = async {
            while left().await? > 0 {
                sleep(LOOK).await;
            }
            Ok(())
        };
        let stored = timeout(HANGS, stored).await;
        stored.map_err(|_| "the ends of jobs are not stored")?
    }
}
