use std::future::Future;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, Ordering};

use sqlx::{Acquire, Database};

use crate::engine::{EncodeError, Refusal};
use crate::write::{Ended, Failed};
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
        self.insert.check()?;
        if let [row] = rows {
            return alone::<DB, R>(&self.insert, &mut conn, row, phase).await;
        }
        let mut report = BatchReport::new(rows.len());
        let failed = self.insert.run(&mut conn, rows, &mut report, phase).await?;
        Ok(Written {
            written: report.written,
            ignored: report.ignored,
            deduplicated: report.deduplicated,
            failed,
        })
    }
}

/// Writes one row as a statement that is a transaction by itself: two requests less to wait for,
/// where nobody else waits. Once it is sent, its commit has begun.
async fn alone<DB: BulkDatabase, R: BulkValues<DB> + Sync>(
    insert: &BulkInsert<R>,
    conn: &mut <DB as Database>::Connection,
    row: &R,
    phase: &Phase,
) -> Result<Written, BatchError> {
    phase.before();
    let batch = [(0, row)];
    let mut plan = insert.plan::<DB>(row)?;
    let statement = match DB::statement(&mut plan, &batch) {
        Ok(statement) => statement,
        Err(EncodeError { source, .. }) => return Ok(refused(Refusal::by_encoding(source))),
    };
    phase.committing();
    match DB::insert(conn, statement).await {
        Ok(affected) => {
            insert.metrics().committed();
            let written = affected.min(1);
            Ok(Written {
                written,
                ignored: 1 - written,
                ..Written::default()
            })
        }
        // Found before anything was sent.
        Err(error @ sqlx::Error::Encode(_)) => Ok(refused(Refusal::by_database(error))),
        Err(error) => match Ended::at_commit(error, 1) {
            Ended::Refused(_, refusal) => Ok(refused(refusal)),
            ended => Err(ended.into_error(&batch, 1)),
        },
    }
}

fn refused(refusal: Refusal) -> Written {
    Written {
        failed: vec![(0, refusal)],
        ..Written::default()
    }
}
