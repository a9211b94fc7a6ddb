mod group;
mod run;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use crate::queue::Shared;
use crate::{JobContext, JobError};
use group::Group;

/// Workers that are not started yet; from [`Queue::workers`](crate::Queue::workers).
#[must_use = "workers do nothing until spawned"]
pub struct WorkersBuilder<T, H> {
    shared: Arc<Shared<T>>,
    count: usize,
    handler: H,
}

impl<T, H, F> WorkersBuilder<T, H>
where
    T: Clone + Send + 'static,
    H: Fn(T, JobContext) -> F + Send + Sync + 'static,
    F: Future<Output = Result<(), JobError>> + Send + 'static,
{
    pub(crate) fn new(shared: Arc<Shared<T>>, count: usize, handler: H) -> Self {
        Self {
            shared,
            count,
            handler,
        }
    }

    /// Starts the workers, as tasks on the runtime in which the queue was built.
    pub fn spawn(self) -> Workers {
        Workers {
            group: Arc::new(Group::spawn(self.shared, self.count, self.handler)),
        }
    }
}

impl<T, H> fmt::Debug for WorkersBuilder<T, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkersBuilder")
            .field("count", &self.count)
            .finish_non_exhaustive()
    }
}

/// A group of workers that run. Cheap to clone; all clones are the same group.
///
/// When the last clone is dropped, the workers take no more jobs; what they run, they finish. Use
/// [`shutdown`](Self::shutdown) to wait for that, and to bound it.
#[derive(Debug, Clone)]
#[must_use = "workers stop when their last handle is dropped"]
pub struct Workers {
    group: Arc<Group>,
}

impl Workers {
    /// Changes the number of workers. Those that are too many finish their job first. Has no effect
    /// after [`shutdown`](Self::shutdown).
    pub fn set_concurrency(&self, count: usize) {
        self.group.set_concurrency(count);
    }

    /// Stops the workers: they take no more jobs, and have until `deadline` (from now) to finish what
    /// they run. Then their handlers are dropped where they wait, and the jobs go back into the
    /// queue, each first of its key, to run again as the same attempt when there are workers again:
    /// what such a handler had already done is done twice.
    ///
    /// Jobs that are queued stay there, and the queue still takes more.
    ///
    /// A handler that blocks its thread instead of waiting cannot be dropped: `shutdown` returns one
    /// second after the deadline without it, and counts it as [`stuck`](Drain::stuck). It finishes
    /// on its own, as if it had been in time.
    ///
    /// Further calls wait for the first one, and return the same.
    ///
    /// # Cancel safety
    ///
    /// When dropped, the workers take no more jobs, and finish what they run without a deadline. The
    /// next call goes on from there, with its own deadline.
    pub async fn shutdown(&self, deadline: Duration) -> Drain {
        self.group.shutdown(deadline).await
    }
}

/// What a [`shutdown`](Workers::shutdown) did with the jobs that were running when it was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drain {
    /// Jobs whose handler came to its end, whatever the outcome.
    pub completed: usize,
    /// Jobs given back to the queue at the deadline.
    pub released: usize,
    /// Jobs whose handler blocks its thread and still runs.
    pub stuck: usize,
}
