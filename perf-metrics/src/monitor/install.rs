use std::sync::atomic::{AtomicBool, Ordering};

use super::{AlreadyInstalled, Monitor};
use crate::MonitorRecorder;

/// Who may record into the monitor.
#[derive(Debug, Default)]
pub(super) struct Installation {
    /// It was installed, or its recorder was given to somebody who may have.
    open: AtomicBool,
    warned: AtomicBool,
}

impl Monitor {
    /// Makes this monitor's recorder the one of the process, so that it shows what other crates
    /// record through the `metrics` facade. Do this first in `main`: most crates fetch their
    /// handles when their objects are built, and a handle fetched before stays silent for ever.
    ///
    /// The facade does not tell who fetched handles before. But objects that record often run
    /// tasks: if there are any already, a warning of `tracing` says so (feature `tokio`). There is
    /// one as well when a monitor that was never installed is first asked for its metrics.
    ///
    /// The monitor's own [`layer`](Self::layer) does not need it. To record into this monitor and
    /// something else, put its [`recorder`](Self::recorder) behind a fanout, and install that.
    ///
    /// # Errors
    ///
    /// [`AlreadyInstalled`] if the process has a recorder, this one or another. The monitor stays
    /// usable: it shows what its own layer records.
    pub fn install(&self) -> Result<(), AlreadyInstalled> {
        metrics::set_global_recorder(self.inner.recorder.clone()).map_err(|_| AlreadyInstalled)?;
        self.inner.installation.open.store(true, Ordering::Relaxed);
        #[cfg(feature = "tokio")]
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let tasks = runtime.metrics().num_alive_tasks();
            if tasks > 0 {
                tracing::warn!(
                    tasks,
                    "the monitor is installed while tasks are running: pools, queues and caches \
                     that were built before stay invisible; install it first in `main`"
                );
            }
        }
        Ok(())
    }

    /// This monitor's recorder, to record into it without installing it, or to make it one of
    /// several behind a fanout.
    pub fn recorder(&self) -> MonitorRecorder {
        self.inner.installation.open.store(true, Ordering::Relaxed);
        self.inner.recorder.clone()
    }

    /// Warns once if nobody but the monitor's layer can have recorded anything.
    pub(super) fn warn_if_closed(&self) {
        let Installation { open, warned } = &self.inner.installation;
        if !open.load(Ordering::Relaxed) && !warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                service = self.inner.service,
                "the monitor shows the requests of its own layer alone, as it is not installed: \
                 call `install()` first in `main`, or put `recorder()` behind a fanout"
            );
        }
    }
}
