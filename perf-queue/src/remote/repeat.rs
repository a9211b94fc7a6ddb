use std::time::Duration;

use tokio::time::sleep;

use crate::BackendError;
use crate::job_error::chain;
use crate::panics::log;

/// How often a call that failed on the way is tried again before the caller gets the error, and how
/// long after. Every verb is safe to repeat.
const TRIES: [u64; 3] = [50, 100, 200];

/// Calls until it succeeds, or has failed too often for the caller to wait on.
pub(super) async fn repeat<V, F>(mut call: impl FnMut() -> F) -> Result<V, BackendError>
where
    F: Future<Output = Result<V, BackendError>>,
{
    for wait in TRIES {
        match call().await {
            Err(error) if error.is_retryable() => {
                log!(debug, error = chain(&error), "trying again");
                sleep(Duration::from_millis(fastrand::u64(wait / 2..=wait))).await;
            }
            ended => return ended,
        }
    }
    call().await
}
