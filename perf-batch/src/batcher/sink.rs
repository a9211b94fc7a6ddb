use std::future::Future;
use std::marker::PhantomData;

use crate::phase::Phase;
use crate::report::Tally;
use crate::source::{Link, Source, Taken};
use crate::write::Failed;
use crate::{BatchError, BulkDatabase, BulkInsert, BulkValues};

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

/// A [`BulkInsert`] over the connections of a pool.
pub(super) struct PoolSink<P, DB, R> {
    pub(super) pool: P,
    pub(super) insert: BulkInsert<R>,
    pub(super) database: PhantomData<fn() -> DB>,
}

impl<P, DB, R> Sink<R> for PoolSink<P, DB, R>
where
    P: Send + Sync + 'static,
    for<'a> &'a P: Source<'a, Database = DB>,
    DB: BulkDatabase,
    R: BulkValues<DB> + Send + Sync + 'static,
{
    type Conn<'a> = Box<dyn Link<DB> + 'a>;

    fn connect(&self) -> impl Future<Output = Result<Self::Conn<'_>, sqlx::Error>> + Send {
        let mut link: Box<dyn Link<DB> + '_> = Box::new(Taken::new(&self.pool));
        async move {
            link.connect().await?;
            Ok(link)
        }
    }

    async fn write<'a>(
        &'a self,
        mut link: Self::Conn<'a>,
        rows: &[R],
        phase: &Phase,
    ) -> Result<Written, BatchError> {
        let job = &self.insert.job;
        let mut tally = Tally::default();
        let written = job
            .units(&mut *link, rows, phase, &mut tally, &mut ())
            .await;
        job.metrics().committed(tally.commits);
        written.map_err(|(_, error)| error)?;
        Ok(Written {
            written: tally.written,
            ignored: tally.ignored,
            deduplicated: tally.deduplicated,
            failed: tally.failed,
        })
    }
}
