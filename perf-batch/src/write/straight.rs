//! Statement by statement, without a look back: a refused row is the end of it.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use sqlx::Database;

use crate::BulkValues;
use crate::engine::{BulkDatabase, EncodeError, Plan, Statement};
use crate::order::Indexed;

use super::{Attempt, Ended, Filled, refused};

impl<DB: BulkDatabase> Attempt<'_, DB> {
    /// Writes the batch; while the database has one statement, the next one is made.
    pub(super) async fn straight<R: BulkValues<DB> + Sync>(
        &mut self,
        conn: &mut <DB as Database>::Connection,
        batch: &[Indexed<'_, R>],
        filled: &mut Filled,
    ) -> Result<(), Ended> {
        let mut start = 0;
        let mut next = self.statement_at(batch, start);
        while let Some(statement) = next.take() {
            let statement = statement.map_err(|error| refused_at(start, error))?;
            let rows = statement.rows;
            *self.statements += 1;
            let affected = {
                let mut run = pin!(DB::run(conn, statement));
                // The first poll hands the statement over.
                let first = poll_fn(|cx| Poll::Ready(run.as_mut().poll(cx))).await;
                next = self.statement_at(batch, start + rows);
                match first {
                    Poll::Ready(ran) => ran,
                    Poll::Pending => run.await,
                }
            }
            .map_err(|error| match Ended::refused_or_failed(error, rows) {
                Ended::Refused(at, refusal) => {
                    Ended::Refused(start + at.start..start + at.end, refusal)
                }
                ended => ended,
            })?;
            filled.took(rows, affected);
            start += rows;
            (self.progress)(filled.rows());
        }
        Ok(())
    }

    fn statement_at<R: BulkValues<DB>>(
        &mut self,
        batch: &[Indexed<'_, R>],
        start: usize,
    ) -> Option<Result<Statement<DB>, EncodeError>> {
        let rest = batch.get(start..).filter(|rest| !rest.is_empty())?;
        let rows = rest.get(..self.plan.shape().fit(rest.len()))?;
        Some(DB::statement(&mut self.plan, rows))
    }
}

fn refused_at(start: usize, EncodeError { offset, source }: EncodeError) -> Ended {
    refused(EncodeError {
        offset: start + offset,
        source,
    })
}
