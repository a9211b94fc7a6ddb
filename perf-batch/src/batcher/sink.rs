use std::future::Future;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, Ordering};

use sqlx::Acquire;

use crate::write::Failed;
use crate::{BatchError, BatchReport, BulkDatabase, BulkInsert, BulkValues};

/// Where batches go.
pub(crate) trait Sink<R>: Send + Sync + 'static {
    type Conn<'a>: Send
    where
        Self: 'a;

    fn connect(&self) -> impl Future<Output = Result<Self::Conn<'_>, sqlx::Error>> + Send;

    /// Writes the rows but those that are refused, in one commit. A dropped future leaves nothing
    /// written unless `phase` says that the commit has begun.
    fn write<'a>(
        &'a self,
        conn: Self::Conn<'a>,
        rows: &[R],
        phase: &Phase,
    ) -> impl Future<Output = Result<Written, BatchError>> + Send;
}

/// What became of a batch.
#[derive(Debug, Default)]
pub(crate) struct Written {
    pub(crate) written: u64,
    pub(crate) ignored: u64,
    pub(crate) deduplicated: u64,
    pub(crate) failed: Vec<Failed>,
}

/// How far a write has come, for whoever drops its future.
#[derive(Debug, Default)]
pub(crate) struct Phase(AtomicBool);

impl Phase {
    /// A transaction begins: nothing is written.
    pub(crate) fn before(&self) {
        self.0.store(false, Ordering::Release);
    }

    /// The COMMIT is about to be sent: from here on all may be written.
    pub(crate) fn committing(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub(crate) fn is_committing(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// A [`BulkInsert`] over the connections of a pool.
pub(super) struct PoolSink<P, DB, R> {
    pub(super) pool: P,
    pub(super) insert: BulkInsert<R>,
    pub(super) database: PhantomData<fn() -> DB>,
}

impl<P, DB, R> Sink<R> for PoolSink<P, DB, R>
where
    P: Send + Sync + 'static,
    for<'a> &'a P: Acquire<'a, Database = DB>,
    DB: BulkDatabase,
    R: BulkValues<DB> + Send + Sync + 'static,
{
    type Conn<'a> = <&'a P as Acquire<'a>>::Connection;

    fn connect(&self) -> impl Future<Output = Result<Self::Conn<'_>, sqlx::Error>> + Send {
        (&self.pool).acquire()
    }

    async fn write<'a>(
        &'a self,
        mut conn: Self::Conn<'a>,
        rows: &[R],
        phase: &Phase,
    ) -> Result<Written, BatchError> {
        let mut report = BatchReport::new(rows.len());
        self.insert.check()?;
        let failed = self.insert.run(&mut conn, rows, &mut report, phase).await?;
        Ok(Written {
            written: report.written,
            ignored: report.ignored,
            deduplicated: report.deduplicated,
            failed,
        })
    }
}
