mod group;
mod run;
mod service;
#[cfg(test)]
mod tests;

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tower_layer::Layer;
use tower_service::Service;

use crate::queue::Shared;
use group::Group;
pub use service::{Failed, Handler, Run, Running};

/// Workers that are not started yet; from [`Queue::workers`](crate::Queue::workers). `S` is the tower
/// service that runs the jobs: the handler, and the layers around it.
#[must_use = "workers do nothing until spawned"]
pub struct WorkersBuilder<T, S> {
    shared: Arc<Shared<T>>,
    count: usize,
    service: S,
}

impl<T, S> WorkersBuilder<T, S> {
    pub(crate) fn new(shared: Arc<Shared<T>>, count: usize, service: S) -> Self {
        Self {
            shared,
            count,
            service,
        }
    }

    /// Puts a tower layer around the handler; the one that was added last sees a job first. Each
    /// worker has a clone of the service. An error of a layer's own, such as a timeout, is a failed
    /// attempt. A layer that is not ready keeps the worker, its job and the slot that it was granted
    /// waiting: limits belong to the queue.
    pub fn layer<L: Layer<S>>(self, layer: L) -> WorkersBuilder<T, L::Service> {
        WorkersBuilder {
            shared: self.shared,
            count: self.count,
            service: layer.layer(self.service),
        }
    }
}

impl<T, S> WorkersBuilder<T, S>
where
    T: Clone + Send + 'static,
    S: Service<Run<T>, Response = ()> + Clone + Send + 'static,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    S::Future: Send,
{
    /// Starts the workers, as tasks on the runtime in which the queue was built.
    pub fn spawn(self) -> Workers {
        Workers {
            group: Arc::new(Group::spawn(self.shared, self.count, self.service)),
        }
    }
}

impl<T, S> fmt::Debug for WorkersBuilder<T, S> {
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
