use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::sync::oneshot;

use super::AddError;
use super::queue::Outcome;
use super::shared::Shared;

/// The outcome of a row that [`try_add`](super::Batcher::try_add) accepted: a future of it.
///
/// It may be dropped: the row is written all the same, and if it is not, the dead letter callback
/// is told instead.
#[must_use = "drop it where nobody wants to know the row's outcome"]
pub struct Ticket<R> {
    answer: oneshot::Receiver<Outcome<R>>,
    shared: Arc<Shared<R>>,
}

impl<R> Ticket<R> {
    pub(super) fn new(answer: oneshot::Receiver<Outcome<R>>, shared: Arc<Shared<R>>) -> Self {
        Self { answer, shared }
    }
}

impl<R> Future for Ticket<R> {
    type Output = Result<(), AddError<R>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = ready!(Pin::new(&mut self.answer).poll(cx));
        Poll::Ready(answer.unwrap_or(Err(AddError::Lost)))
    }
}

// The answer may be on its way already, and would be lost with its receiver.
impl<R> Drop for Ticket<R> {
    fn drop(&mut self) {
        self.answer.close();
        if let Ok(Err(failure)) = self.answer.try_recv() {
            self.shared.dead.take(failure, &self.shared.metrics);
        }
    }
}

impl<R> fmt::Debug for Ticket<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").finish_non_exhaustive()
    }
}
