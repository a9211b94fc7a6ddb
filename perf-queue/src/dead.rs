use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::queue::Shared;
use crate::{BackendError, JobId, ReplayError};

/// A job that failed for good.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadLetter<T> {
    /// The job's id; a replay keeps it.
    pub id: JobId,
    /// The job.
    pub job: T,
    /// How many attempts it had.
    pub attempts: u32,
    /// What the last attempt failed with, its sources included.
    pub error: String,
    /// How old the job was when it died, from its enqueue on.
    pub age: Duration,
}

/// The jobs of a queue that failed for good, from
/// [`Queue::dead_letters`](crate::Queue::dead_letters).
pub struct DeadLetters<T> {
    pub(crate) shared: Arc<Shared<T>>,
}

impl<T: Send + 'static> DeadLetters<T> {
    /// The oldest letters, `at_most` of them, as copies.
    ///
    /// # Errors
    ///
    /// If the backend fails; the in-memory one never does.
    ///
    /// # Cancel safety
    ///
    /// Changes nothing, so dropping it loses nothing.
    pub async fn list(&self, at_most: usize) -> Result<Vec<DeadLetter<T>>, BackendError>
    where
        T: Clone,
    {
        Ok(self.shared.backend.dead(at_most))
    }

    /// Puts a letter back into the queue, with all its attempts before it. Waits while the queue is
    /// full. False if there is no such letter (any more).
    ///
    /// # Errors
    ///
    /// [`ReplayError::Closed`] if the queue takes no more jobs.
    ///
    /// # Cancel safety
    ///
    /// A dropped future has replayed nothing: the letter is still there.
    pub async fn replay(&self, id: JobId) -> Result<bool, ReplayError> {
        let room = self.shared.signals.room.acquire().await;
        let room = room.map_err(|_| ReplayError::Closed)?;
        let replayed = self.shared.backend.replay(id);
        let replayed = replayed.map_err(|_| ReplayError::Closed)?;
        if replayed {
            room.forget();
        }
        Ok(replayed)
    }

    /// Drops all letters; returns how many there were.
    ///
    /// # Errors
    ///
    /// If the backend fails; the in-memory one never does.
    ///
    /// # Cancel safety
    ///
    /// Runs to its end when first polled.
    pub async fn purge(&self) -> Result<usize, BackendError> {
        Ok(self.shared.backend.purge())
    }
}

impl<T> Clone for DeadLetters<T> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<T> fmt::Debug for DeadLetters<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetters").finish_non_exhaustive()
    }
}
