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
    /// The job, or what is left of it where the bytes in the backend are none.
    pub job: Result<T, Undecodable>,
    /// How many attempts it had.
    pub attempts: u32,
    /// What the attempts failed with, their sources included, the oldest first: the last ten.
    pub errors: Vec<String>,
    /// How old the job was when it died, from its enqueue on.
    pub age: Duration,
}

impl<T> DeadLetter<T> {
    /// What the last attempt failed with.
    #[must_use]
    pub fn error(&self) -> &str {
        self.errors.last().map_or("", String::as_str)
    }
}

/// Bytes that are no job of the queue's type: written by another version of the program, or by
/// another program.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the payload of {} bytes is no job of this queue: {reason}", .payload.len())]
#[non_exhaustive]
pub struct Undecodable {
    /// The bytes.
    pub payload: Vec<u8>,
    /// What is wrong with them.
    pub reason: String,
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
        self.shared.backend.dead(at_most).await
    }

    /// Puts a letter back into the queue, with all its attempts before it. Waits while the queue is
    /// full. False if there is no such letter (any more).
    ///
    /// # Errors
    ///
    /// [`ReplayError::Closed`] if the queue takes no more jobs, [`ReplayError::Backend`] if the backend
    /// fails.
    ///
    /// # Cancel safety
    ///
    /// A dropped future has replayed nothing: the letter is still there.
    pub async fn replay(&self, id: JobId) -> Result<bool, ReplayError> {
        Ok(self.shared.backend.replay(id).await?)
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
        self.shared.backend.purge(Duration::ZERO).await
    }

    /// Drops the letters of jobs that failed for good at least `age` ago; returns how many there were.
    /// [`keep_dead_letters_for`](crate::QueueBuilder::keep_dead_letters_for) does it by itself.
    ///
    /// # Errors
    ///
    /// If the backend fails; the in-memory one never does.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it may have dropped them.
    pub async fn purge_older_than(&self, age: Duration) -> Result<usize, BackendError> {
        self.shared.backend.purge(age).await
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
