use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::process::ProcessMetrics;
use super::{BuildError, Inner, Monitor};
use crate::budget::Objectives;
use crate::{MonitorRecorder, RequestHead, TimingLayer};

/// Builds a [`Monitor`]; made by [`Monitor::builder`].
#[must_use = "a builder does nothing until `build` is called"]
pub struct MonitorBuilder {
    service: String,
    recorder: MonitorRecorder,
    pub(super) compatibility_names: bool,
    pub(super) layer: TimingLayer,
    pub(super) exclude: Vec<String>,
    pub(super) watchdog: Option<Duration>,
    pub(crate) objectives: Objectives,
    #[cfg(feature = "axum")]
    pub(super) health: super::health::Health,
    #[cfg(feature = "axum")]
    pub(super) token: Option<super::endpoints::AdminToken>,
}

impl Default for MonitorBuilder {
    fn default() -> Self {
        let recorder = MonitorRecorder::new();
        Self {
            // OpenTelemetry's default.
            service: "unknown_service".to_owned(),
            layer: TimingLayer::with_recorder(recorder.clone()),
            exclude: Vec::new(),
            watchdog: None,
            recorder,
            compatibility_names: false,
            objectives: Objectives::default(),
            #[cfg(feature = "axum")]
            health: super::health::Health::default(),
            #[cfg(feature = "axum")]
            token: None,
        }
    }
}

impl MonitorBuilder {
    /// The name of the service, as `/health` and `/monitoring/stats` show it. Defaults to
    /// `unknown_service`.
    pub fn service(mut self, service: impl Into<String>) -> Self {
        self.service = service.into();
        self
    }

    /// How many routes the monitor's layers tell apart; those that come later share the label
    /// `_OVERFLOW`. Defaults to 256; at most 65,536.
    pub fn max_routes(mut self, max_routes: usize) -> Self {
        self.layer = self.layer.max_routes(max_routes);
        self
    }

    /// Where the monitor's layers take the route label from, instead of the framework; see
    /// [`TimingLayer::route_label`].
    pub fn route_label(
        mut self,
        label: impl for<'a> Fn(RequestHead<'a>) -> Option<Cow<'a, str>> + Send + Sync + 'static,
    ) -> Self {
        self.layer = self.layer.route_label(label);
        self
    }

    /// Builds the monitor.
    ///
    /// # Errors
    ///
    /// [`BuildError`] for an empty service name, two checks with one name, a check timeout of zero,
    /// an admin token that no client can send, a pattern to exclude that is none, or budgets and
    /// thresholds that cannot be.
    pub fn build(mut self) -> Result<Monitor, BuildError> {
        if self.service.is_empty() {
            return Err(BuildError::EmptyService);
        }
        if !self.exclude.is_empty() {
            self.layer = self.layer.exclude(self.exclude)?;
        }
        self.objectives.validate()?;
        if let Some(threshold) = self.watchdog {
            self.layer = self.layer.watch_by(self.objectives.patience(threshold));
        }
        self.recorder.set_request_bounds(
            &self.objectives.request_bounds(),
            self.objectives.request_bounds_by_route(),
        );
        #[cfg(feature = "axum")]
        self.health.validate()?;
        #[cfg(feature = "axum")]
        if self.token.as_ref().is_some_and(|token| !token.is_valid()) {
            return Err(BuildError::AdminToken);
        }
        let process = ProcessMetrics::new(&self.recorder);
        Ok(Monitor {
            inner: Arc::new(Inner {
                service: self.service,
                started: Instant::now(),
                recorder: self.recorder,
                history: Arc::default(),
                installation: Default::default(),
                compatibility_names: self.compatibility_names,
                layer: self.layer,
                objectives: self.objectives,
                process,
                #[cfg(feature = "axum")]
                health: self.health,
                #[cfg(feature = "axum")]
                token: self.token,
            }),
        })
    }
}

impl fmt::Debug for MonitorBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MonitorBuilder")
            .field("service", &self.service)
            .finish_non_exhaustive()
    }
}
