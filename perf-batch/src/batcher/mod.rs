//! Single rows from many callers, written together.

mod batch;
mod builder;
mod dead;
mod error;
mod measure;
mod metrics;
mod panics;
mod queue;
mod shared;
mod sink;
#[cfg(test)]
mod tests;
mod ticket;
mod writer;

use std::fmt;
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::BulkInsert;
use shared::Shared;

pub use builder::BatcherBuilder;
pub use error::{AddError, DrainError};
pub(crate) use measure::Measure;
pub use ticket::Ticket;

/// Takes single rows from any number of callers and writes them in batches, one commit each.
///
/// While a batch is being written, the rows that come make up the next. Each caller is told what
/// became of its own row. A handle that is cheap to clone; the task behind it ends with
/// [`shutdown`](Self::shutdown), or once the last handle is dropped and all accepted rows are
/// done.
///
/// ```no_run
/// # #[cfg(all(feature = "derive", feature = "sqlite"))]
/// # async fn example(pool: sqlx::SqlitePool) -> Result<(), Box<dyn std::error::Error>> {
/// use perf_batch::{AddError, Batcher, BulkInsert, BulkRow};
///
/// #[derive(BulkRow)]
/// #[bulk(table = "answers")]
/// struct Answer {
///     user_id: i64,
///     answer: String,
/// }
///
/// let batcher = Batcher::builder(pool, BulkInsert::<Answer>::new()).spawn();
/// let row = Answer { user_id: 7, answer: "42".into() };
/// match batcher.add(row).await {
///     Ok(()) => println!("saved"),
///     Err(AddError::Refused(failure)) => println!("refused: {}", failure.message),
///     Err(error) => return Err(error.into()),
/// }
/// batcher.shutdown().await?;
/// # Ok(())
/// # }
/// ```
pub struct Batcher<R> {
    handle: Arc<Handle<R>>,
}

/// What all handles share; its drop is that of the last.
struct Handle<R> {
    shared: Arc<Shared<R>>,
}

impl<R> Batcher<R> {
    /// A batcher that writes with `insert` over connections of `pool`.
    ///
    /// `pool` is a `SqlitePool`, a `PgPool`, or another pool type whose reference implements
    /// [`Acquire`](sqlx::Acquire). The batcher takes one connection at a time.
    pub fn builder<P>(pool: P, insert: BulkInsert<R>) -> BatcherBuilder<P, R> {
        BatcherBuilder::new(pool, insert)
    }

    fn new(shared: Arc<Shared<R>>) -> Self {
        Self {
            handle: Arc::new(Handle { shared }),
        }
    }

    /// Adds a row and waits until it is committed, refused or given up.
    ///
    /// `Ok` means that the batch with the row is committed: the row is written, or taken as the
    /// insert's [`OnConflict`](crate::OnConflict) says (ignored, or outdone by a later row with
    /// its key). When the buffer is full, it waits for room, first come, first served.
    ///
    /// # Errors
    ///
    /// An [`AddError`] with the row.
    ///
    /// # Cancel safety
    ///
    /// Dropped while it waits for room, the row was never accepted and is dropped too. Dropped
    /// later, the row is written all the same, and if it is not, the
    /// [dead letter callback](BatcherBuilder::dead_letter) is told. To know which it was, use
    /// [`try_add`](Self::try_add).
    pub async fn add(&self, row: R) -> Result<(), AddError<R>> {
        let (row, bytes) = self.weigh(row)?;
        if !self.handle.shared.queue.reserve(bytes).await {
            return Err(AddError::Closed(row));
        }
        self.accept(row, bytes)?.await
    }

    /// Adds a row if there is room for it, without waiting; the ticket resolves to what
    /// [`add`](Self::add) would return, and may be dropped.
    ///
    /// # Errors
    ///
    /// [`AddError::Full`] if there is no room or others wait for it, and
    /// [`AddError::Closed`], [`AddError::TooLarge`] or [`AddError::Refused`] as `add`; all with
    /// the row, which was not accepted.
    pub fn try_add(&self, row: R) -> Result<Ticket<R>, AddError<R>> {
        let (row, bytes) = self.weigh(row)?;
        match self.handle.shared.queue.try_reserve(bytes) {
            Ok(()) => self.accept(row, bytes),
            Err(tokio::sync::TryAcquireError::NoPermits) => Err(AddError::Full(row)),
            Err(tokio::sync::TryAcquireError::Closed) => Err(AddError::Closed(row)),
        }
    }

    /// Waits until every row that was accepted before is done: written, or its caller told why
    /// not. They are written at once, whatever linger says.
    ///
    /// Rows that are accepted later do not hold it up, nor do those that still wait for room.
    ///
    /// # Errors
    ///
    /// [`DrainError`] if the task went down with its runtime.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing; the rows are written at once all the same.
    pub async fn flush(&self) -> Result<(), DrainError> {
        let to = self.handle.shared.queue.flush();
        let mut done = self.handle.shared.done.clone();
        match done.wait_for(|done| *done >= to).await {
            Ok(_) => Ok(()),
            Err(_) => self.drained(to),
        }
    }

    /// Accepts no more rows, writes those that were accepted, and waits until the task has ended.
    ///
    /// Callers that wait for room get [`AddError::Closed`], as does every later `add`. Any number
    /// of calls, at once or later, wait for the same end. It takes no longer than the rows'
    /// [`delivery_timeout`](BatcherBuilder::delivery_timeout).
    ///
    /// # Errors
    ///
    /// [`DrainError`] if the task went down with its runtime.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing: the shutdown goes on, and another call waits for it.
    pub async fn shutdown(&self) -> Result<(), DrainError> {
        self.handle.shared.queue.close();
        let mut done = self.handle.shared.done.clone();
        while done.changed().await.is_ok() {}
        self.drained(self.handle.shared.queue.accepted())
    }

    /// The task has ended: whether it did all it should.
    fn drained(&self, to: u64) -> Result<(), DrainError> {
        if *self.handle.shared.done.borrow() >= to {
            return Ok(());
        }
        Err(DrainError::Stopped)
    }

    /// Measures the row on its caller's side, where an error in its encoding belongs.
    fn weigh(&self, row: R) -> Result<(R, u32), AddError<R>> {
        let limit = self.handle.shared.row_limit;
        match (self.handle.shared.measure)(&row) {
            Ok(bytes) if bytes <= limit => {
                let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
                Ok((row, bytes.max(1)))
            }
            Ok(bytes) => Err(AddError::TooLarge { row, bytes, limit }),
            Err(message) => Err(AddError::refused(row, message)),
        }
    }

    fn accept(&self, row: R, bytes: u32) -> Result<Ticket<R>, AddError<R>> {
        let shared = &self.handle.shared;
        let (answer, outcome) = oneshot::channel();
        match shared.queue.push(row, bytes, answer) {
            Ok(()) => Ok(Ticket::new(outcome, Arc::clone(shared))),
            Err(row) => Err(AddError::Closed(row)),
        }
    }
}

impl<R> Clone for Batcher<R> {
    fn clone(&self) -> Self {
        Self {
            handle: Arc::clone(&self.handle),
        }
    }
}

impl<R> Drop for Handle<R> {
    fn drop(&mut self) {
        self.shared.queue.close();
    }
}

impl<R> fmt::Debug for Batcher<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batcher")
            .field("batch", &self.handle.shared.dead.name)
            .field("accepted", &self.handle.shared.queue.accepted())
            .field("done", &*self.handle.shared.done.borrow())
            .finish_non_exhaustive()
    }
}
