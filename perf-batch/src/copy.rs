//! One transaction's worth of a batch, copied in.

use sqlx::{Connection as _, Database};
use sqlx_core::transaction::TransactionManager;

use crate::engine::{BulkDatabase, Class, Refusal};
use crate::order::Indexed;
use crate::phase::Phase;
use crate::source::{self, Link};
use crate::ticket::Ticketing;
use crate::write::{Ended, Filled, ticket};
use crate::{BatchError, BulkValues};

/// One try to copy rows in, in one transaction.
pub(crate) struct CopyAttempt<'a, DB: BulkDatabase> {
    pub(crate) copying: DB::Copying,
    pub(crate) ticketing: &'a Ticketing,
    pub(crate) progress: &'a (dyn Fn(u64) + Send + Sync),
    /// Counts the requests.
    pub(crate) statements: &'a mut u64,
    pub(crate) phase: &'a Phase,
}

impl<DB: BulkDatabase> CopyAttempt<'_, DB> {
    /// Copies the rows in.
    pub(crate) async fn write<R: BulkValues<DB> + Sync>(
        &mut self,
        link: &mut dyn Link<DB>,
        unit: &[Indexed<'_, R>],
    ) -> Result<Filled, Ended> {
        let mut open = Open::begin(link, self.statements).await?;
        let filled = self.fill(&mut open, unit).await;
        let (filled, ticket) = match filled {
            Ok(filled) => filled,
            Err(ended) => {
                *self.statements += 1;
                open.rollback().await;
                return Err(ended);
            }
        };
        *self.statements += 1;
        self.phase.commits();
        if let Err(error) = open.commit().await {
            let ended = Ended::at_commit(error, unit.len(), ticket, filled);
            if !matches!(ended, Ended::CommitUnknown { .. }) {
                self.phase.settles();
            }
            return Err(ended);
        }
        Ok(filled)
    }

    async fn fill<R: BulkValues<DB> + Sync>(
        &mut self,
        open: &mut Open<'_, DB>,
        unit: &[Indexed<'_, R>],
    ) -> Result<(Filled, Option<crate::ticket::Ticket>), Ended> {
        let conn = open.conn().await?;
        let ticket = ticket::<DB>(conn, self.ticketing, self.statements).await?;
        *self.statements += 1;
        DB::hold(conn, &self.copying)
            .await
            .map_err(Ended::Database)?;
        let mut filled = Filled::default();
        let mut at = 0;
        while let Some(rest) = unit.get(at..).filter(|rest| !rest.is_empty()) {
            let (data, taken) = DB::encode_copy(&self.copying, rest).map_err(|error| {
                let bad = at + error.offset;
                Ended::Refused(bad..bad + 1, Refusal::by_encoding(error.source))
            })?;
            *self.statements += 1;
            let copied = open.link.copy(DB::copy_sql(&self.copying), data).await;
            let affected = copied.map_err(|error| {
                if Class::of_error(&error) != Class::Row {
                    return Ended::Database(error);
                }
                // The row that is named is a bad one, if not always the first.
                let row = DB::refused_row(&self.copying, &error).map(|row| at + row);
                let range = row.map_or(at..at + taken, |row| row..row + 1);
                Ended::Refused(range, Refusal::by_database(error))
            })?;
            filled.took(taken, affected);
            at += taken;
            (self.progress)(filled.rows());
        }
        Ok((filled, ticket))
    }
}

/// A transaction on the link's connection, rolled back when this is dropped.
struct Open<'l, DB: BulkDatabase> {
    link: &'l mut dyn Link<DB>,
    /// Whether its BEGIN is not answered yet.
    beginning: bool,
}

impl<'l, DB: BulkDatabase> Open<'l, DB> {
    async fn begin(link: &'l mut dyn Link<DB>, statements: &mut u64) -> Result<Self, Ended> {
        let mut open = Self {
            link,
            beginning: false,
        };
        let conn = source::conn(&mut *open.link)
            .await
            .map_err(Ended::Acquire)?;
        if conn.is_in_transaction() {
            let reason =
                "COPY is not taken back to a savepoint: leave out path inside a transaction";
            return Err(Ended::Error(BatchError::Invalid {
                table: String::new(),
                reason: reason.to_owned(),
            }));
        }
        *statements += 1;
        open.beginning = true;
        let begun = <DB::TransactionManager as TransactionManager>::begin(conn, None).await;
        open.beginning = false;
        begun.map_err(Ended::Database)?;
        Ok(open)
    }

    async fn conn(&mut self) -> Result<&mut DB::Connection, Ended> {
        source::conn(&mut *self.link).await.map_err(Ended::Acquire)
    }

    async fn commit(&mut self) -> sqlx::Result<()> {
        let conn = self.link.connection().ok_or(sqlx::Error::WorkerCrashed)?;
        <DB::TransactionManager as TransactionManager>::commit(conn).await
    }

    async fn rollback(&mut self) {
        if let Some(conn) = self.link.connection() {
            // The first error says more than one of this.
            let _ = <DB::TransactionManager as TransactionManager>::rollback(conn).await;
        }
    }
}

impl<DB: BulkDatabase> Drop for Open<'_, DB> {
    fn drop(&mut self) {
        let Some(conn) = self.link.connection() else {
            return;
        };
        if self.beginning {
            DB::abandon_begin(conn);
        }
        if depth::<DB>(conn) > 0 {
            <DB::TransactionManager as TransactionManager>::start_rollback(conn);
        }
    }
}

fn depth<DB: Database>(conn: &DB::Connection) -> usize {
    <DB::TransactionManager as TransactionManager>::get_transaction_depth(conn)
}
