use std::time::Duration;

use crate::BuildError;

/// How alerts and dashboards are made.
#[derive(Debug, Clone, PartialEq)]
#[must_use = "options do nothing until they are given to a monitor's builder"]
pub struct AlertOptions {
    pub(crate) job: Option<String>,
    pub(crate) scrape_interval: Duration,
    pub(crate) time_scale: f64,
}

impl Default for AlertOptions {
    fn default() -> Self {
        Self {
            job: None,
            scrape_interval: Duration::from_secs(15),
            time_scale: 1.0,
        }
    }
}

impl AlertOptions {
    /// The `job_name` under which Prometheus scrapes the service. Defaults to the service's name.
    pub fn job(mut self, job: impl Into<String>) -> Self {
        self.job = Some(job.into());
        self
    }

    /// How often Prometheus scrapes the service: no rate is taken over less than four scrapes.
    /// Defaults to 15 seconds.
    pub fn scrape_interval(mut self, interval: Duration) -> Self {
        self.scrape_interval = interval;
        self
    }

    /// Multiplies the windows of the rates and the times for which a condition has to hold, as to
    /// see an alert in a test: with 0.01, one on five minutes looks at three seconds. Defaults to 1.
    pub fn time_scale(mut self, factor: f64) -> Self {
        self.time_scale = factor;
        self
    }

    pub(crate) fn validate(&self) -> Result<(), BuildError> {
        if self.job.as_deref() == Some("") {
            return Err(BuildError::AlertOption {
                name: "job",
                remedy: "name the job, or leave the option out",
            });
        }
        if self.scrape_interval < Duration::from_millis(1) {
            return Err(BuildError::AlertOption {
                name: "scrape_interval",
                remedy: "set one of at least a millisecond",
            });
        }
        if !(self.time_scale > 0.0 && self.time_scale <= 1000.0) {
            return Err(BuildError::AlertOption {
                name: "time_scale",
                remedy: "set a factor above 0 and at most 1000",
            });
        }
        Ok(())
    }
}
