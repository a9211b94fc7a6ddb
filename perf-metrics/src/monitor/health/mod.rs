mod check;
mod report;

use std::collections::{BTreeMap, HashSet};
use std::fmt::Display;
use std::future::Future;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use super::{BuildError, Monitor, MonitorBuilder};
use check::Check;

pub(super) use report::Report;

/// What a failed check means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CheckKind {
    /// The process cannot go on and should be started again: `/health/live` fails. Check nothing
    /// here that lies outside of the process: a database that is down would have it restarted
    /// again and again.
    Liveness,
    /// The service cannot answer now and should get no requests: `/health/ready` fails.
    Readiness,
}

impl CheckKind {
    /// This kind, with a timeout of its own instead of that of
    /// [`check_timeout`](MonitorBuilder::check_timeout).
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> CheckOptions {
        CheckOptions {
            kind: self,
            timeout: Some(timeout),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Liveness => "liveness",
            Self::Readiness => "readiness",
        }
    }
}

/// How a check is run: its kind, or `Readiness.timeout(..)`.
#[derive(Debug, Clone, Copy)]
pub struct CheckOptions {
    kind: CheckKind,
    timeout: Option<Duration>,
}

impl From<CheckKind> for CheckOptions {
    fn from(kind: CheckKind) -> Self {
        Self {
            kind,
            timeout: None,
        }
    }
}

/// The health checks of a service.
pub(super) struct Health {
    checks: RwLock<Vec<Arc<Check>>>,
    timeout: Duration,
    fresh: Duration,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            checks: RwLock::default(),
            // Half of the second that a Kubernetes probe waits by default.
            timeout: Duration::from_millis(500),
            fresh: Duration::from_secs(1),
        }
    }
}

impl MonitorBuilder {
    /// Adds a check: it fails while it returns an error, panics, or takes longer than its
    /// [timeout](Self::check_timeout). Defaults to none.
    ///
    /// `/health/live` runs those of kind [`Liveness`](CheckKind::Liveness), `/health/ready` those
    /// of kind [`Readiness`](CheckKind::Readiness), `/health` all; each answers 503 while one of
    /// its checks fails, and shows the error's text. With an
    /// [admin token](Self::admin_token), that text is for those who have it.
    ///
    /// However many ask, a check runs once at a time, and its result is good for a
    /// [while](Self::check_cache): probes cannot storm the database. It runs in a task, so that who
    /// asks and hangs up does not cancel it. When it is late it is cancelled at its next `.await`,
    /// as it is when the monitor is dropped. It must not block its thread: one that does keeps
    /// that thread, and fails, until it returns.
    ///
    /// A check of something that is made once the monitor is installed, such as a pool that records
    /// its metrics, is added with [`Monitor::add_check`].
    ///
    /// ```
    /// # use std::time::Duration;
    /// use perf_metrics::{Monitor, Readiness};
    /// use tokio::net::TcpStream;
    ///
    /// let monitor = Monitor::builder()
    ///     .check("mail", Readiness, || async { TcpStream::connect("localhost:25").await.map(drop) })
    ///     .check("disk", Readiness.timeout(Duration::from_millis(100)), || async {
    ///         tokio::fs::metadata("/var/lib/orders").await.map(drop)
    ///     })
    ///     .build()?;
    /// # Ok::<(), perf_metrics::BuildError>(())
    /// ```
    pub fn check<F, Fut, E>(
        mut self,
        name: impl Into<String>,
        options: impl Into<CheckOptions>,
        check: F,
    ) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Display,
    {
        self.health.push(named(name, options, check));
        self
    }

    /// How long each check may take that has no timeout of its own. Checks run at the same time, so
    /// the endpoints answer within the longest of them. Defaults to 500 milliseconds, half of the
    /// time that a Kubernetes probe waits.
    pub fn check_timeout(mut self, timeout: Duration) -> Self {
        self.health.timeout = timeout;
        self
    }

    /// How long the result of a check is good: who asks within this time after its end gets the
    /// same. Zero has each request run the checks, but for those that run already. Defaults to a
    /// second.
    pub fn check_cache(mut self, fresh: Duration) -> Self {
        self.health.fresh = fresh;
        self
    }
}

fn named<F, Fut, E>(
    name: impl Into<String>,
    options: impl Into<CheckOptions>,
    check: F,
) -> Arc<Check>
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), E>> + Send + 'static,
    E: Display,
{
    Arc::new(Check::new(name.into(), options.into(), move || {
        let check = check();
        async move { check.await.map_err(|error| error.to_string()) }
    }))
}

impl Health {
    pub(super) fn validate(&self) -> Result<(), BuildError> {
        let checks = self.checks();
        let mut names = HashSet::new();
        if let Some(check) = checks.iter().find(|check| !names.insert(&check.name)) {
            return Err(BuildError::DuplicateCheck(check.name.clone()));
        }
        let timeouts = checks.iter().filter_map(|check| check.options.timeout);
        match timeouts.chain([self.timeout]).find(Duration::is_zero) {
            Some(zero) => Err(BuildError::CheckTimeout(zero)),
            None => Ok(()),
        }
    }

    fn checks(&self) -> Vec<Arc<Check>> {
        self.checks
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn push(&mut self, check: Arc<Check>) {
        self.checks
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .push(check);
    }
}

impl Monitor {
    /// Adds a check to a monitor that is built, as [`MonitorBuilder::check`] does before: for what
    /// can only be made once the monitor is installed, since it fetches its handles then.
    ///
    /// ```
    /// # use perf_metrics::{Monitor, Readiness};
    /// # struct Pool;
    /// # impl Pool { async fn ping(&self) -> std::io::Result<()> { Ok(()) } }
    /// # fn connect() -> std::sync::Arc<Pool> { std::sync::Arc::new(Pool) }
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let monitor = Monitor::builder().service("orders").build()?;
    /// monitor.install()?;
    /// let pool = connect();
    /// monitor.add_check("db", Readiness, move || {
    ///     let pool = pool.clone();
    ///     async move { pool.ping().await }
    /// })?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`BuildError`] if there is a check of this name, or its timeout is zero; nothing is added
    /// then.
    pub fn add_check<F, Fut, E>(
        &self,
        name: impl Into<String>,
        options: impl Into<CheckOptions>,
        check: F,
    ) -> Result<(), BuildError>
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Display,
    {
        let check = named(name, options, check);
        if let Some(zero) = check.options.timeout.filter(Duration::is_zero) {
            return Err(BuildError::CheckTimeout(zero));
        }
        let checks = &self.inner.health.checks;
        let mut checks = checks.write().unwrap_or_else(PoisonError::into_inner);
        if checks.iter().any(|other| other.name == check.name) {
            return Err(BuildError::DuplicateCheck(check.name.clone()));
        }
        checks.push(check);
        Ok(())
    }

    /// Runs the checks of this kind, or all.
    pub(super) async fn health(&self, kind: Option<CheckKind>) -> Report {
        let health = &self.inner.health;
        let mut checks = health.checks();
        checks.retain(|check| kind.is_none_or(|kind| check.options.kind == kind));
        // All are started before one is awaited.
        let runs: Vec<_> = checks
            .iter()
            .map(|check| check.run(health.timeout, health.fresh))
            .collect();
        let mut reports = BTreeMap::new();
        for (check, run) in checks.into_iter().zip(runs) {
            let outcome = run.outcome().await;
            reports.insert(check.name.clone(), (check.options.kind, outcome));
        }
        Report::new(&self.inner.service, self.uptime(), reports)
    }
}
