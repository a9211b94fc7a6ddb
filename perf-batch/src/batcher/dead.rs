use super::AddError;
use super::metrics::Metrics;
use super::panics::contained;

/// Takes the failures that no caller waits for.
pub(super) type Callback<R> = Box<dyn Fn(AddError<R>) + Send + Sync>;

/// Where a failure goes whose caller has gone away.
pub(super) struct DeadLetters<R> {
    pub(super) name: String,
    pub(super) callback: Option<Callback<R>>,
}

impl<R> DeadLetters<R> {
    pub(super) fn take(&self, failure: AddError<R>, metrics: &Metrics) {
        metrics.dead_letter();
        tracing::warn!(
            batch = self.name,
            error = %failure,
            "a row whose caller has gone away was not written"
        );
        if let Some(callback) = &self.callback
            && let Err(panic) = contained(|| callback(failure))
        {
            tracing::error!(
                batch = self.name,
                panic,
                "the dead letter callback panicked"
            );
        }
    }
}
