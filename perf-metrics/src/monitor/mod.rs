//! The monitor: a recorder, the layer that feeds it, and the endpoints that show it.

mod builder;
mod compatibility;
#[cfg(feature = "axum")]
mod endpoints;
mod error;
#[cfg(feature = "axum")]
mod health;
mod install;
mod process;
mod requests;
mod sampling;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::budget::Objectives;
use crate::history::History;
use crate::recorder::{Format, Samples};
use crate::snapshot::{FAMILY_METRICS, REQUEST_METRICS};
use crate::{MonitorRecorder, Snapshot, TimingLayer};

pub use builder::MonitorBuilder;
pub use error::{AlreadyInstalled, BuildError};
#[cfg(feature = "axum")]
pub use health::{CheckKind, CheckOptions};

use process::ProcessMetrics;

/// Records the metrics of a service, and shows them.
///
/// A monitor brings a recorder of its own, so a process can have several (two servers in a test),
/// of which one can be [installed](Self::install). Clones are cheap and share everything. It runs
/// no task but its health checks, which end with it: nothing has to be shut down.
#[derive(Clone)]
pub struct Monitor {
    inner: Arc<Inner>,
}

struct Inner {
    service: String,
    started: Instant,
    recorder: MonitorRecorder,
    layer: TimingLayer,
    installation: install::Installation,
    compatibility_names: bool,
    /// Behind an `Arc` of its own, which a sampler holds.
    history: Arc<History>,
    objectives: Objectives,
    process: ProcessMetrics,
    #[cfg(feature = "axum")]
    health: health::Health,
    #[cfg(feature = "axum")]
    token: Option<endpoints::AdminToken>,
}

impl Monitor {
    /// Starts to build a monitor. The first time in a process this calibrates the clock of the
    /// [`TimingLayer`], which keeps the thread busy for some milliseconds, at most 200.
    pub fn builder() -> MonitorBuilder {
        MonitorBuilder::default()
    }

    /// A layer that times requests into this monitor, installed or not.
    ///
    /// All layers of a monitor share its routes and their limit. With axum, add it with
    /// `Router::layer` after the routes it is to time, and merge the monitor's router after it, so
    /// that scrapes are not timed.
    ///
    /// What is to differ from the framework's routes belongs to the
    /// [builder](MonitorBuilder::route_label): a layer that is changed afterwards counts into this
    /// monitor too, but its requests are not among those [`running`](Self::running).
    pub fn layer(&self) -> TimingLayer {
        #[cfg(feature = "tokio")]
        self.inner.process.runtime.look();
        self.inner.layer.clone()
    }

    pub(crate) fn objectives(&self) -> &Objectives {
        &self.inner.objectives
    }

    pub(crate) fn samples(&self) -> Samples {
        let names = [REQUEST_METRICS, FAMILY_METRICS];
        self.inner.recorder.samples(&names)
    }

    /// The name of the service.
    pub fn service(&self) -> &str {
        &self.inner.service
    }

    /// The time since the monitor was built.
    pub fn uptime(&self) -> Duration {
        self.inner.started.elapsed()
    }

    /// All metrics in the Prometheus text format (version 0.0.4), the process's read just now.
    pub fn render(&self) -> String {
        self.render_as(Format::Prometheus)
    }

    /// All metrics in the OpenMetrics text format (version 1.0), the process's read just now.
    ///
    /// Samples have the names and labels of [`render`](Self::render). A counter whose name does not
    /// end in `_total` is of type `unknown`, as OpenMetrics would give it another name.
    pub fn render_openmetrics(&self) -> String {
        self.render_as(Format::OpenMetrics)
    }

    fn render_as(&self, format: Format) -> String {
        self.inner.layer.watch();
        self.warn_if_closed();
        let process = self.inner.process.update();
        let mut derived = self.inner.process.derived(&process);
        derived.extend(self.compatible(&process));
        self.inner.recorder.render(format, derived, self.aliases())
    }

    /// The state of the service, as `/monitoring/stats` shows it.
    pub fn snapshot(&self) -> Snapshot {
        self.inner.layer.watch();
        self.warn_if_closed();
        Snapshot::of(
            &self.inner.service,
            self.uptime(),
            self.inner.process.update(),
            &self.samples(),
        )
    }
}

impl fmt::Debug for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Monitor")
            .field("service", &self.inner.service)
            .field("uptime", &self.uptime())
            .finish_non_exhaustive()
    }
}
