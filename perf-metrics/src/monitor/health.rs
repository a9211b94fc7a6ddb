use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Display;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{BuildError, Monitor, MonitorBuilder};

type CheckFuture = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

struct Check {
    name: String,
    run: Arc<dyn Fn() -> CheckFuture + Send + Sync>,
}

/// The health checks of a service.
pub(super) struct Health {
    checks: Vec<Check>,
    timeout: Duration,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            checks: Vec::new(),
            // Half of the second that a Kubernetes probe waits by default.
            timeout: Duration::from_millis(500),
        }
    }
}

impl MonitorBuilder {
    /// Adds a check to `/health`, run each time that is asked: the service is unhealthy while
    /// `check` returns an error, panics, or takes longer than the
    /// [timeout](Self::check_timeout). The error's text is shown to whoever asks. Defaults to none.
    ///
    /// A check that is late is cancelled at its next `.await`. It must not block its thread, as any
    /// async code: that thread would be lost to the runtime, another with each time that is asked.
    ///
    /// ```
    /// # use perf_metrics::Monitor;
    /// use tokio::net::TcpStream;
    ///
    /// let monitor = Monitor::builder()
    ///     .check("mail", || async { TcpStream::connect("localhost:25").await.map(drop) })
    ///     .build()?;
    /// # Ok::<(), perf_metrics::BuildError>(())
    /// ```
    pub fn check<F, Fut, E>(mut self, name: impl Into<String>, check: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Display,
    {
        self.health.checks.push(Check {
            name: name.into(),
            run: Arc::new(move || {
                let check = check();
                Box::pin(async move { check.await.map_err(|error| error.to_string()) })
            }),
        });
        self
    }

    /// How long each check may take. Checks run at the same time, so `/health` answers within
    /// this. Defaults to 500 milliseconds, half of the time that a Kubernetes probe waits.
    pub fn check_timeout(mut self, timeout: Duration) -> Self {
        self.health.timeout = timeout;
        self
    }
}

/// The outcome of all checks.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    status: Status,
    service: String,
    uptime_seconds: f64,
    checks: BTreeMap<String, CheckReport>,
}

/// The outcome of one check.
#[derive(Debug, Serialize)]
struct CheckReport {
    status: Status,
    seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    Ok,
    Unhealthy,
}

impl Report {
    pub(super) fn healthy(&self) -> bool {
        self.status == Status::Ok
    }
}

impl CheckReport {
    fn new(elapsed: Duration, error: Option<String>) -> Self {
        Self {
            status: if error.is_none() {
                Status::Ok
            } else {
                Status::Unhealthy
            },
            seconds: elapsed.as_secs_f64(),
            error,
        }
    }
}

impl Health {
    pub(super) fn validate(&self) -> Result<(), BuildError> {
        let mut names = HashSet::new();
        if let Some(check) = self.checks.iter().find(|c| !names.insert(&c.name)) {
            return Err(BuildError::DuplicateCheck(check.name.clone()));
        }
        if self.timeout.is_zero() {
            return Err(BuildError::CheckTimeout(self.timeout));
        }
        Ok(())
    }

    async fn run(&self) -> BTreeMap<String, CheckReport> {
        let mut names = HashMap::new();
        // A task for each check, so that one that panics is one that failed. The set ends them
        // when it is dropped, when the client that asked went away.
        let mut tasks = JoinSet::new();
        let (timeout, start) = (self.timeout, Instant::now());
        for check in &self.checks {
            let run = Arc::clone(&check.run);
            let task = tasks.spawn(async move { run().await });
            names.insert(task.id(), check.name.clone());
        }
        let mut reports = BTreeMap::new();
        // The time is kept here, not in the tasks: a check that blocks its thread could not.
        loop {
            let left = timeout.saturating_sub(start.elapsed());
            let (id, result) = match tokio::time::timeout(left, tasks.join_next_with_id()).await {
                Ok(Some(Ok((id, result)))) => (id, result),
                Ok(Some(Err(error))) => (error.id(), Err("the check panicked".to_owned())),
                Ok(None) | Err(_) => break,
            };
            if let Some(name) = names.remove(&id) {
                reports.insert(name, CheckReport::new(start.elapsed(), result.err()));
            }
        }
        for name in names.into_values() {
            let error = format!("no answer within {timeout:?}");
            reports.insert(name, CheckReport::new(start.elapsed(), Some(error)));
        }
        reports
    }
}

impl Monitor {
    pub(super) async fn health(&self) -> Report {
        let checks = self.inner.health.run().await;
        let healthy = checks.values().all(|check| check.status == Status::Ok);
        Report {
            status: if healthy {
                Status::Ok
            } else {
                Status::Unhealthy
            },
            service: self.inner.service.clone(),
            uptime_seconds: self.uptime().as_secs_f64(),
            checks,
        }
    }
}
