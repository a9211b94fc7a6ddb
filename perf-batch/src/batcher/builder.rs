use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use crate::source::Source;
use tokio::sync::{Semaphore, watch};

use super::dead::{Callback, DeadLetters};
use super::measure::measure;
use super::metrics::Metrics;
use super::queue::Queue;
use super::shared::Shared;
use super::sink::{PoolSink, Sink};
use super::writer::{Limits, Writer};
use super::{AddError, Batcher};
use crate::{BulkDatabase, BulkInsert, BulkValues, OnRowError, TxScope};

/// Sets up a [`Batcher`].
#[must_use = "nothing runs until spawn"]
pub struct BatcherBuilder<P, R> {
    pool: P,
    insert: BulkInsert<R>,
    options: Options<R>,
}

/// All but where the rows go.
pub(super) struct Options<R> {
    pub(super) limits: Limits,
    pub(super) memory: usize,
    pub(super) dead_letter: Option<Callback<R>>,
}

impl<R> Default for Options<R> {
    fn default() -> Self {
        Self {
            limits: Limits {
                rows: 1_000,
                bytes: 1 << 20,
                linger: Duration::ZERO,
                timeout: Duration::from_secs(30),
            },
            memory: 32 << 20,
            dead_letter: None,
        }
    }
}

impl<P, R> BatcherBuilder<P, R> {
    pub(super) fn new(pool: P, insert: BulkInsert<R>) -> Self {
        Self {
            pool,
            insert,
            options: Options::default(),
        }
    }

    /// The most rows of one batch; 0 counts as 1. Defaults to 1,000.
    pub fn max_batch_size(mut self, rows: usize) -> Self {
        self.options.limits.rows = rows.max(1);
        self
    }

    /// The most bytes of one batch, by what the rows' values encode to. A single row over it is
    /// turned away with [`AddError::TooLarge`]. Defaults to 1 MiB.
    pub fn max_batch_bytes(mut self, bytes: usize) -> Self {
        self.options.limits.bytes = bytes;
        self
    }

    /// How long a row waits for others before its batch is written. Defaults to zero: a row goes
    /// out as soon as no other batch is being written and there is a connection.
    ///
    /// Even at zero the rows that come while a batch is being written make up the next one.
    /// Longer makes fewer and larger commits, and each row later. No connection is held
    /// meanwhile. Keep it well below [`delivery_timeout`](Self::delivery_timeout), which goes
    /// on.
    pub fn linger(mut self, linger: Duration) -> Self {
        self.options.limits.linger = linger;
        self
    }

    /// The most bytes of all rows that are accepted and not yet answered, by what their values
    /// encode to, 4 bytes a value added. When it is full, [`add`](Batcher::add) waits in line and
    /// [`try_add`](Batcher::try_add) gives [`AddError::Full`]. Defaults to 32 MiB.
    ///
    /// The memory that the rows take is a multiple: the values as they are in Rust, about 100
    /// bytes a row for its place in the queue, and the batch that is being written once more,
    /// encoded.
    pub fn buffer_memory(mut self, bytes: usize) -> Self {
        self.options.memory = bytes.min(Semaphore::MAX_PERMITS);
        self
    }

    /// The most time from a row's acceptance to its answer. Defaults to 30 s.
    ///
    /// A row whose time is over before its batch is written gives [`AddError::Timeout`] and is
    /// not written. A batch that is being written has until the time of its oldest row: then it
    /// is rolled back, and its rows too give `Timeout`; if its commit was already under way, they
    /// give [`AddError::CommitUnknown`]. The wait of [`add`](Batcher::add) for memory does not
    /// count.
    pub fn delivery_timeout(mut self, timeout: Duration) -> Self {
        self.options.limits.timeout = timeout;
        self
    }

    /// What is done with a failure that nobody waits for any more: the future of
    /// [`add`](Batcher::add) or the [`Ticket`](super::Ticket) was dropped after the row was
    /// accepted. Defaults to nothing beyond a warning and `batch_dead_letters_total`, which come
    /// with it too.
    ///
    /// It runs on the batcher's task, or where the future is dropped, so it should hand the
    /// failure on and return. A panic in it is logged.
    pub fn dead_letter<F>(mut self, callback: F) -> Self
    where
        F: Fn(AddError<R>) + Send + Sync + 'static,
    {
        self.options.dead_letter = Some(Box::new(callback));
        self
    }

    /// Starts the task that writes.
    ///
    /// Rows are refused one by one ([`OnRowError::Skip`]) without a limit, and each batch is one
    /// transaction ([`TxScope::All`]), whatever the insert says. The insert's
    /// name is the label `batch` of the metrics. The task keeps the pool until it ends.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime, and in one without its timer.
    pub fn spawn<DB>(self) -> Batcher<R>
    where
        P: Send + Sync + 'static,
        for<'a> &'a P: Source<'a, Database = DB>,
        DB: BulkDatabase,
        R: BulkValues<DB> + Send + Sync + 'static,
    {
        let mut insert = self.insert.on_row_error(OnRowError::Skip);
        insert = insert.scope(TxScope::All);
        insert.job.skip_limit = None;
        // Here, where the caller's recorder is.
        insert.job.metrics();
        let name = insert.job.batch_name().to_owned();
        let sink = PoolSink {
            pool: self.pool,
            insert,
            database: PhantomData,
        };
        start(sink, self.options, name, measure::<DB, R>)
    }
}

impl<P, R> fmt::Debug for BatcherBuilder<P, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatcherBuilder")
            .field("insert", &self.insert)
            .field("limits", &self.options.limits)
            .field("buffer_memory", &self.options.memory)
            .finish_non_exhaustive()
    }
}

pub(super) fn start<R, S>(
    sink: S,
    options: Options<R>,
    name: String,
    measure: fn(&R) -> Result<usize, String>,
) -> Batcher<R>
where
    R: Send + Sync + 'static,
    S: Sink<R>,
{
    let Options {
        limits,
        memory,
        dead_letter,
    } = options;
    let (done, progress) = watch::channel(0);
    let metrics = Metrics::new(&name);
    let dead = DeadLetters {
        name,
        callback: dead_letter,
    };
    // A row's bytes are counted in 32 bits, as the semaphore hands them out.
    let row_limit = limits.bytes.min(memory).min(u32::MAX as usize);
    let queue = Queue::new(memory);
    let shared = Shared::new(queue, dead, metrics, measure, row_limit, progress);
    let shared = Arc::new(shared);
    let writer = Writer::new(sink, Arc::clone(&shared), limits, done);
    tokio::spawn(writer.run());
    Batcher::new(shared)
}
