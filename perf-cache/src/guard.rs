//! Loaders that panic or hang.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Poll;
use std::time::Duration;

use crate::LoadError;
use crate::load::Boxed;

pub(crate) async fn timed<T>(
    loading: impl Future<Output = Result<T, LoadError>>,
    after: Duration,
) -> Result<T, LoadError> {
    match tokio::time::timeout(after, loading).await {
        Ok(loaded) => loaded,
        Err(_) => Err(LoadError::TimedOut { after }),
    }
}

/// The loader's result; its panic too, wherever in the loader or in its future's life.
pub(crate) async fn caught<T>(loader: impl FnOnce() -> Boxed<T>) -> Result<T, LoadError> {
    let panicked = |payload: Box<dyn Any + Send>| LoadError::panicked(&*payload);
    // Unwind safe: after a panic the future is only dropped.
    let mut load = match catch_unwind(AssertUnwindSafe(loader)) {
        Ok(load) => Guarded(Some(load)),
        Err(payload) => return Err(panicked(payload)),
    };
    let polled = poll_fn(|cx| {
        let poll = catch_unwind(AssertUnwindSafe(|| match &mut load.0 {
            Some(load) => load.as_mut().poll(cx),
            None => Poll::Ready(Err(LoadError::Closed)),
        }));
        poll.map_or_else(|payload| Poll::Ready(Err(payload)), |poll| poll.map(Ok))
    })
    .await;
    match (polled, load.destroy()) {
        (Ok(outcome), Ok(())) => outcome,
        (Err(payload), _) | (_, Err(payload)) => Err(panicked(payload)),
    }
}

/// A loader's future, whose destructor may panic; also when a timeout drops it.
struct Guarded<T>(Option<Boxed<T>>);

impl<T> Guarded<T> {
    fn destroy(&mut self) -> Result<(), Box<dyn Any + Send>> {
        let load = self.0.take();
        catch_unwind(AssertUnwindSafe(|| drop(load)))
    }
}

impl<T> Drop for Guarded<T> {
    fn drop(&mut self) {
        // The panic hook has reported it.
        let _ = self.destroy();
    }
}
