//! Runs a COPY so that whatever happens, its connection is in order afterwards or closed.

use std::any::Any;
use std::ops::DerefMut;
use std::sync::Arc;

use sqlx::pool::PoolConnection;
use sqlx::postgres::PgConnection;
use sqlx::{Database, Postgres};
use sqlx_core::transaction::TransactionManager;
use tokio::sync::oneshot;

/// Between two chunks, a COPY that nobody waits for any more stops. sqlx copies a chunk into the
/// connection's buffer and keeps that, so chunks bound it as well. For 7 MB, no size from 16 KiB to
/// the whole was faster than another.
const CHUNK: usize = 1 << 20;

/// Runs the COPY `sql` with `data` as its input, inside the transaction that the connection is in;
/// says how many rows the server took.
///
/// The connection comes back with the answer, the transaction on it as the COPY left it; `None`
/// where it is of no use any more, which ends the transaction too.
///
/// # Cancel safety
///
/// The COPY runs in a task of its own, as sqlx' connections get out of step with the server when
/// one is dropped half way. Dropped, this lets the task stop at the next chunk, or end if there
/// is none; the transaction is rolled back, and the connection is dropped in order.
pub(in crate::engine) fn run<C>(
    conn: C,
    sql: Arc<str>,
    data: Vec<u8>,
) -> impl Future<Output = (Option<C>, sqlx::Result<u64>)> + Send
where
    C: DerefMut<Target = PgConnection> + Send + 'static,
{
    // All of one size: over TCP, the end of the COPY may wait 40 ms for a small last one.
    let chunks = data.len().div_ceil(CHUNK).max(1);
    let chunk = data.len().div_ceil(chunks);
    run_in_chunks(conn, sql, data, chunk)
}

pub(super) fn run_in_chunks<C>(
    conn: C,
    sql: Arc<str>,
    data: Vec<u8>,
    chunk: usize,
) -> impl Future<Output = (Option<C>, sqlx::Result<u64>)> + Send
where
    C: DerefMut<Target = PgConnection> + Send + 'static,
{
    // From the start: the future may be dropped before it is polled.
    let mut held = Held::new(conn);
    async move {
        let (answer, waiting) = oneshot::channel();
        tokio::spawn(async move {
            let is_dropped = || answer.is_closed();
            let copied = held.copy(&sql, &data, chunk, is_dropped).await;
            drop(data);
            // Where nobody waits, what is held is dropped here.
            let _ = answer.send((held, copied));
        });
        match waiting.await {
            Ok((held, copied)) => (held.release(), copied),
            // The runtime is going down.
            Err(_) => (None, Err(sqlx::Error::WorkerCrashed)),
        }
    }
}

/// A connection that is put in order, or closed, when this is dropped.
pub(super) struct Held<C: DerefMut<Target = PgConnection> + 'static> {
    conn: Option<C>,
    /// Whether the server's next messages may belong to a COPY.
    in_copy: bool,
}

impl<C: DerefMut<Target = PgConnection> + Send + 'static> Held<C> {
    pub(super) fn new(conn: C) -> Self {
        Self {
            conn: Some(conn),
            in_copy: false,
        }
    }

    pub(super) async fn copy(
        &mut self,
        sql: &str,
        data: &[u8],
        chunk: usize,
        is_dropped: impl Fn() -> bool + Send,
    ) -> sqlx::Result<u64> {
        let Some(conn) = self.conn.as_deref_mut() else {
            return Err(sqlx::Error::WorkerCrashed);
        };
        if is_dropped() {
            return Ok(0);
        }
        self.in_copy = true;
        let begun = conn.copy_in_raw(sql).await;
        let mut copy = begun.inspect_err(|error| self.in_copy = !answered(error))?;
        for chunk in data.chunks(chunk.max(1)) {
            if is_dropped() {
                // Not `abort`, which leaves the answer half read where the server refused a row
                // before. The rows that are there go with the transaction.
                break;
            }
            copy.send(chunk).await?;
        }
        let copied = copy.finish().await;
        self.in_copy = copied.as_ref().is_err_and(|error| !answered(error));
        copied
    }

    /// The connection, if it is in order.
    pub(super) fn release(mut self) -> Option<C> {
        if self.in_copy {
            return None; // dropped here, and so closed
        }
        self.conn.take()
    }
}

/// Whether the server ended the COPY with this error, and sqlx read its answer to the end.
fn answered(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(_))
}

impl<C: DerefMut<Target = PgConnection> + 'static> Drop for Held<C> {
    fn drop(&mut self) {
        type Transactions = <Postgres as Database>::TransactionManager;
        let Some(conn) = &mut self.conn else {
            return;
        };
        if self.in_copy {
            // Other pools find a broken connection by themselves, as they must find any other.
            let conn: &mut dyn Any = conn;
            if let Some(conn) = conn.downcast_mut::<PoolConnection<Postgres>>() {
                conn.close_on_drop();
            }
            return;
        }
        // Only queues the ROLLBACK: it goes out with whatever uses the connection next, be it the
        // pool that takes it back.
        while Transactions::get_transaction_depth(conn) > 0 {
            Transactions::start_rollback(conn);
        }
    }
}
