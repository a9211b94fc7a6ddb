use std::any::Any;
use std::fmt;
use std::sync::Arc;

use metrics::Recorder;

use crate::MonitorRecorder;

/// Where the handles come from.
#[derive(Clone)]
pub(super) enum Source {
    /// The recorder that is installed, whenever that happens.
    Installed,
    /// The recorder of a monitor, installed or not.
    Monitor(MonitorRecorder),
    /// Another recorder, installed or not.
    Fixed(Arc<dyn Recorder + Send + Sync>),
}

impl Source {
    /// This recorder, which is told if it is a monitor's.
    pub(super) fn of(recorder: impl Recorder + Send + Sync + 'static) -> Self {
        let any: &dyn Any = &recorder;
        match any.downcast_ref::<MonitorRecorder>() {
            Some(monitor) => Self::Monitor(monitor.clone()),
            None => Self::Fixed(Arc::new(recorder)),
        }
    }

    /// Runs `f` with the recorder, and says whether handles that come from it may be kept.
    ///
    /// Before a recorder is installed, `metrics` hands out handles that stay silent for ever; they
    /// must not be kept. The facade does not say so itself, but its no-op recorder has no size. A
    /// real recorder without a size works too; its handles are fetched anew for each request.
    pub(super) fn with<T>(&self, f: impl FnOnce(&dyn Recorder) -> T) -> (T, bool) {
        match self {
            Self::Installed => metrics::with_recorder(|r| (f(r), size_of_val(r) > 0)),
            Self::Monitor(recorder) => (f(recorder), true),
            Self::Fixed(recorder) => (f(recorder.as_ref()), true),
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Installed => "Installed",
            Self::Monitor(_) => "Monitor",
            Self::Fixed(_) => "Fixed",
        })
    }
}
