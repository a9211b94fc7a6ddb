//! The task that writes what the callers add.

use std::collections::VecDeque;
use std::io;
use std::mem::take;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tracing::Instrument;

use super::AddError;
use super::batch::Batch;
use super::metrics::Reason;
use super::panics::Contained;
use super::queue::{Entry, Wanted};
use super::shared::Shared;
use super::sink::Sink;
use crate::BatchError;

/// When a batch is full or due.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) rows: usize,
    pub(super) bytes: usize,
    pub(super) linger: Duration,
    pub(super) timeout: Duration,
}

pub(super) struct Writer<R, S> {
    sink: Arc<S>,
    shared: Arc<Shared<R>>,
    limits: Limits,
    /// Rows taken out of the queue, the oldest first.
    waiting: VecDeque<Entry<R>>,
    waiting_bytes: usize,
    wanted: Wanted,
    done: watch::Sender<u64>,
}

impl<R: Send + Sync + 'static, S: Sink<R>> Writer<R, S> {
    pub(super) fn new(
        sink: S,
        shared: Arc<Shared<R>>,
        limits: Limits,
        done: watch::Sender<u64>,
    ) -> Self {
        Self {
            sink: Arc::new(sink),
            shared,
            limits,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            wanted: Wanted::default(),
            done,
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            match Contained::new(self.turn()).await {
                Ok(true) => {}
                Ok(false) => {
                    self.publish();
                    return;
                }
                // Encoding and the pool are contained closer by; whatever this was, the rows at
                // hand must not bring it about for ever.
                Err(panic) => {
                    tracing::error!(batch = self.shared.dead.name, panic, "a flush panicked");
                    let batch = self.form_all();
                    let rows = batch.rows.len();
                    batch.error(panicked(rows, &panic));
                }
            }
            self.publish();
            // Those who were just told may have more to add, which then goes out together.
            tokio::task::yield_now().await;
        }
    }

    /// Waits for rows and writes a batch of them; `false` once there will be none.
    async fn turn(&mut self) -> bool {
        if !self.ripe().await {
            return false;
        }
        let sink = Arc::clone(&self.sink);
        // First the connection: what comes until it is there goes along.
        let Some(conn) = self.connect(&sink).await else {
            return true;
        };
        let batch = self.form();
        let rows = batch.rows.len();
        if rows == 0 {
            return true;
        }
        let again = match conn {
            Ok(conn) => {
                let now = Instant::now();
                for accepted in batch.accepted() {
                    self.shared.metrics.waited(now - accepted);
                }
                self.write(&sink, conn, batch).await
            }
            Err(source) => {
                self.shared.metrics.aborted(rows);
                batch.error(BatchError::Acquire { rows, source });
                None
            }
        };
        if let Some(batch) = again {
            tracing::debug!(rows, "writing the rows of a batch one at a time");
            self.one_by_one(&sink, batch).await;
        }
        true
    }

    /// Waits until there are rows that are to be written now.
    async fn ripe(&mut self) -> bool {
        loop {
            self.take();
            self.expire();
            let Some(oldest) = self.waiting.front() else {
                if self.wanted.closed {
                    return false;
                }
                self.publish();
                self.shared.queue.changed().await;
                continue;
            };
            let due = after(oldest.accepted, self.limits.linger);
            let wake = due.min(after(oldest.accepted, self.limits.timeout));
            if self.reason() != Reason::Linger || due <= Instant::now() {
                return true;
            }
            // Whichever it was, the next look tells.
            let _ = timeout_at(wake, self.shared.queue.changed()).await;
        }
    }

    /// Takes a connection, without losing the place in the pool's line to rows whose time is over
    /// meanwhile; `None` when that was so for all.
    async fn connect<'s>(&mut self, sink: &'s S) -> Option<sqlx::Result<S::Conn<'s>>> {
        let mut connecting = Contained::new(sink.connect());
        loop {
            let oldest = self.waiting.front()?.accepted;
            let deadline = after(oldest, self.limits.timeout);
            match timeout_at(deadline, &mut connecting).await {
                Ok(Ok(conn)) => return Some(conn),
                Ok(Err(panic)) => return Some(Err(protocol(&panic))),
                Err(_) => {
                    self.take();
                    self.expire();
                }
            }
        }
    }

    /// Tells those who flush how many rows are done. Not where the task is dropped, so that they
    /// know.
    fn publish(&self) {
        self.done.send_replace(self.shared.answered());
    }

    fn take(&mut self) {
        let before = self.waiting.len();
        self.wanted = self.shared.queue.take(&mut self.waiting);
        let new = self.waiting.iter().skip(before);
        self.waiting_bytes += new.map(|entry| entry.bytes as usize).sum::<usize>();
    }

    /// Gives up the rows whose time is over.
    fn expire(&mut self) {
        let now = Instant::now();
        let timeout = self.limits.timeout;
        let over = |entry: &mut Entry<R>| after(entry.accepted, timeout) <= now;
        while let Some(entry) = self.waiting.pop_front_if(over) {
            self.waiting_bytes -= entry.bytes as usize;
            self.shared.metrics.expired();
            self.give_up(entry, AddError::Timeout);
        }
    }

    fn give_up(&self, entry: Entry<R>, failure: fn(R) -> AddError<R>) {
        self.shared.queue.release(entry.bytes as usize);
        self.shared.answer(entry.answer, Err(failure(entry.row)));
        self.shared.count(1);
    }

    /// Why the waiting rows are written, if they are written now.
    fn reason(&self) -> Reason {
        if self.waiting.len() >= self.limits.rows {
            Reason::Size
        } else if self.waiting_bytes >= self.limits.bytes {
            Reason::Bytes
        } else if self.wanted.closed {
            Reason::Shutdown
        } else if self.wanted.flush_to > self.shared.answered() {
            Reason::Flush
        } else if self.limits.linger.is_zero() {
            Reason::Ready
        } else {
            Reason::Linger
        }
    }

    /// The next batch: as many of the waiting rows as fit, the oldest first.
    fn form(&mut self) -> Batch<R> {
        self.take();
        self.expire();
        let rows = self.waiting.len().min(self.limits.rows);
        let mut batch = Batch::new(Arc::clone(&self.shared), self.reason(), rows);
        while batch.rows.len() < self.limits.rows
            && let Some(entry) = self.waiting.front()
        {
            if batch.bytes + entry.bytes as usize > self.limits.bytes {
                batch.reason = Reason::Bytes;
                break;
            }
            let Some(entry) = self.waiting.pop_front() else {
                break;
            };
            self.waiting_bytes -= entry.bytes as usize;
            batch.push(entry);
        }
        batch
    }

    fn form_all(&mut self) -> Batch<R> {
        let mut batch = Batch::new(Arc::clone(&self.shared), self.reason(), self.waiting.len());
        self.waiting_bytes = 0;
        for entry in take(&mut self.waiting) {
            batch.push(entry);
        }
        batch
    }

    async fn one_by_one(&self, sink: &S, batch: Batch<R>) {
        for single in batch.split() {
            let Some(deadline) = self.deadline(&single) else {
                continue;
            };
            if deadline <= Instant::now() {
                self.shared.metrics.expired();
                single.failed(AddError::Timeout);
                continue;
            }
            let conn = timeout_at(deadline, Contained::new(sink.connect())).await;
            let conn = match conn {
                Ok(conn) => conn.unwrap_or_else(|panic| Err(protocol(&panic))),
                Err(_) => {
                    self.shared.metrics.expired();
                    single.failed(AddError::Timeout);
                    continue;
                }
            };
            match conn {
                Ok(conn) => {
                    // A single row is never to be written again.
                    let _ = self.write(sink, conn, single).await;
                }
                Err(source) => {
                    self.shared.metrics.aborted(1);
                    single.error(BatchError::Acquire { rows: 1, source });
                }
            }
        }
    }

    /// Writes the batch and tells its callers; returns it, with nothing written, if one of several
    /// rows is to blame and only writing them one at a time will tell which.
    async fn write<'s>(&self, sink: &'s S, conn: S::Conn<'s>, batch: Batch<R>) -> Option<Batch<R>> {
        let started = Instant::now();
        let deadline = self.deadline(&batch)?;
        let rows = batch.rows.len();
        let metrics = &self.shared.metrics;
        let span = tracing::debug_span!(
            "batch_flush",
            batch = self.shared.dead.name,
            rows,
            bytes = batch.bytes,
            reason = batch.reason.as_str()
        );
        let write = Contained::new(sink.write(conn, &batch.rows, &batch.phase));
        // Out of time, the write is dropped here, before its callers are told.
        let written = timeout_at(deadline, write.instrument(span)).await;
        let committing = batch.phase.is_committing();
        match written {
            Ok(Ok(Ok(written))) => {
                metrics.done(batch.reason, rows, &written, started.elapsed());
                batch.written(written.failed);
            }
            Ok(Ok(Err(BatchError::Row { .. } | BatchError::Range { .. }))) if rows > 1 => {
                return Some(batch);
            }
            Ok(Err(_)) if !committing && rows > 1 => return Some(batch),
            Ok(Ok(Err(error))) => {
                metrics.aborted(rows);
                match error.into_refusal() {
                    Ok(refusal) => batch.written(vec![(0, refusal)]),
                    Err(error) => batch.error(error),
                }
            }
            Ok(Err(panic)) => {
                metrics.aborted(rows);
                if committing {
                    let source = protocol(&panic);
                    batch.error(BatchError::CommitUnknown { rows, source });
                } else {
                    let message = format!("writing the row panicked: {panic}");
                    batch.failed(|row| AddError::refused(row, message.clone()));
                }
            }
            Err(_) => {
                metrics.aborted(rows);
                if committing {
                    let source = sqlx::Error::Io(io::ErrorKind::TimedOut.into());
                    batch.error(BatchError::CommitUnknown { rows, source });
                } else {
                    batch.failed(AddError::Timeout);
                }
            }
        }
        None
    }

    /// When the time of the batch's oldest row is over.
    fn deadline(&self, batch: &Batch<R>) -> Option<Instant> {
        let oldest = batch.accepted().next()?;
        Some(after(oldest, self.limits.timeout))
    }
}

/// The task is gone, with its runtime or because all is done: who still waits is told.
impl<R, S> Drop for Writer<R, S> {
    fn drop(&mut self) {
        self.shared.queue.close();
        let _ = self.shared.queue.take(&mut self.waiting);
        for entry in take(&mut self.waiting) {
            self.shared
                .answer(entry.answer, Err(AddError::Closed(entry.row)));
        }
    }
}

fn panicked(rows: usize, panic: &str) -> BatchError {
    BatchError::Database {
        rows,
        source: protocol(panic),
    }
}

fn protocol(panic: &str) -> sqlx::Error {
    sqlx::Error::Protocol(format!("panicked: {panic}"))
}

/// `instant + time`, far enough away where that is more than an `Instant` can hold.
fn after(instant: Instant, time: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 3_600);
    instant + time.min(FAR)
}
