use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};

use super::CheckOptions;

type CheckFuture = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// One check, which runs once at a time however many ask.
pub(super) struct Check {
    pub(super) name: String,
    pub(super) options: CheckOptions,
    check: Box<dyn Fn() -> CheckFuture + Send + Sync>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    last: Option<Outcome>,
    running: Option<Running>,
}

struct Running {
    started: Instant,
    outcome: watch::Receiver<Option<Outcome>>,
    /// Once it is spawned.
    task: Option<AbortHandle>,
}

impl Running {
    fn run(&self, timeout: Duration) -> Run {
        Run::Running {
            started: self.started,
            timeout,
            outcome: self.outcome.clone(),
        }
    }
}

/// How a check ended.
#[derive(Debug, Clone)]
pub(super) struct Outcome {
    pub(super) ended: Instant,
    pub(super) took: Duration,
    /// `None` if all is well.
    pub(super) error: Option<String>,
}

impl Outcome {
    fn now(started: Instant, error: Option<String>) -> Self {
        Self {
            ended: Instant::now(),
            took: started.elapsed(),
            error,
        }
    }
}

/// An outcome, or one that is to come.
pub(super) enum Run {
    Known(Outcome),
    Running {
        started: Instant,
        timeout: Duration,
        outcome: watch::Receiver<Option<Outcome>>,
    },
}

impl Check {
    pub(super) fn new<F>(
        name: String,
        options: CheckOptions,
        check: impl Fn() -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        Self {
            name,
            options,
            check: Box::new(move || Box::pin(check())),
            state: Mutex::default(),
        }
    }

    /// Starts the check, joins the run that is under way, or takes a result that is fresh.
    ///
    /// The task is spawned without the lock: a runtime that is shutting down drops it at once, and
    /// its end takes the lock.
    pub(super) fn run(self: &Arc<Self>, default_timeout: Duration, fresh: Duration) -> Run {
        let limit = self.options.timeout.unwrap_or(default_timeout);
        let mut state = self.state();
        if let Some(last) = &state.last
            && last.ended.elapsed() < fresh
        {
            return Run::Known(last.clone());
        }
        if let Some(running) = &state.running {
            return running.run(limit);
        }
        let (sender, outcome) = watch::channel(None);
        let started = Instant::now();
        let running = state.running.insert(Running {
            started,
            outcome,
            task: None,
        });
        let run = running.run(limit);
        drop(state);
        let end = End {
            check: Arc::downgrade(self),
            started,
            sender,
            error: Some("the check panicked".to_owned()),
        };
        let task = self.spawn(end, limit);
        if let Some(running) = &mut self.state().running
            && running.started == started
        {
            running.task = Some(task);
        }
        run
    }

    fn spawn(self: &Arc<Self>, end: End, limit: Duration) -> AbortHandle {
        let check = Arc::downgrade(self);
        let task = tokio::spawn(async move {
            // Made in here, so that a panic of the closure is one of the check; and not kept: the
            // task ends with the check.
            let Some(run) = check.upgrade().map(|check| (check.check)()) else {
                return;
            };
            let result = timeout(limit, run).await;
            end.with(result.unwrap_or_else(|_| Err(late(limit))));
        });
        task.abort_handle()
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Check {
    fn drop(&mut self) {
        if let Some(task) = self
            .state()
            .running
            .as_ref()
            .and_then(|it| it.task.as_ref())
        {
            task.abort();
        }
    }
}

impl Run {
    /// The outcome, within the timeout of the check.
    ///
    /// Cancel safe: the check runs on.
    pub(super) async fn outcome(self) -> Outcome {
        match self {
            Self::Known(outcome) => outcome,
            Self::Running {
                started,
                timeout: limit,
                mut outcome,
            } => {
                // The time is kept here too: a check that blocks its thread cannot.
                let left = limit.saturating_sub(started.elapsed());
                let ended = timeout(left, outcome.wait_for(Option::is_some)).await;
                let known = ended.ok().and_then(|it| it.ok()?.clone());
                known.unwrap_or_else(|| Outcome::now(started, Some(late(limit))))
            }
        }
    }
}

fn late(limit: Duration) -> String {
    format!("no answer within {limit:?}")
}

/// Records how a check ended when it is dropped, so also when the check panics.
struct End {
    check: Weak<Check>,
    started: Instant,
    sender: watch::Sender<Option<Outcome>>,
    error: Option<String>,
}

impl End {
    fn with(mut self, result: Result<(), String>) {
        self.error = result.err();
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let outcome = Outcome::now(self.started, self.error.take());
        if let Some(check) = self.check.upgrade() {
            let mut state = check.state();
            state.running = None;
            state.last = Some(outcome.clone());
        }
        self.sender.send_replace(Some(outcome));
    }
}
