//! One transaction's worth of a batch.

mod fill;
mod straight;

use std::ops::Range;
use std::sync::Arc;

use sqlx::{Connection, Database};

use crate::engine::{
    BulkDatabase, Class, EncodeError, Plan, Refusal, Unfinished, commit_is_open, is_refused_as_such,
};
use crate::order::Indexed;
use crate::phase::Phase;
use crate::returned::Returned;
use crate::ticket::{Ticket, Ticketing};
use crate::{BatchError, BulkValues};

/// What a refused row means for the attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The attempt is over; no savepoints.
    Stop,
    /// The row is told, and the others go on.
    Skip,
    /// The attempt is over as soon as the row is known.
    Find,
}

/// A refused row, by its position in the input.
pub(crate) type Failed = (usize, Refusal);

/// What went in.
#[derive(Debug, Default)]
pub(crate) struct Filled {
    pub(crate) written: u64,
    pub(crate) ignored: u64,
    pub(crate) failed: Vec<Failed>,
}

impl Filled {
    /// `rows` went in, of which the database counts `affected` as written.
    pub(crate) fn took(&mut self, rows: usize, affected: u64) {
        let written = affected.min(rows as u64);
        self.written += written;
        self.ignored += rows as u64 - written;
    }

    pub(crate) fn rows(&self) -> u64 {
        self.written + self.ignored + self.failed.len() as u64
    }
}

/// Why an attempt ended without a commit.
#[derive(Debug)]
pub(crate) enum Ended {
    /// A row among these positions of the batch was refused.
    Refused(Range<usize>, Refusal),
    /// More rows were refused than the limit allows; these, in no order.
    TooMany(Vec<Failed>),
    /// Anything but a row's fault.
    Database(sqlx::Error),
    /// It is open which of the returned values is which row's.
    Unmatched,
    /// There was no connection.
    Acquire(sqlx::Error),
    /// The database does not tell the ids of transactions.
    NoTicket(sqlx::Error),
    /// The commit's answer did not come.
    CommitUnknown {
        source: sqlx::Error,
        ticket: Option<Ticket>,
        filled: Filled,
    },
    /// The error as the caller gets it.
    Error(BatchError),
}

impl Ended {
    /// After a COMMIT that failed, or a statement that is its own transaction: only the database's
    /// own refusal says that nothing was written.
    pub(crate) fn at_commit(
        source: sqlx::Error,
        rows: usize,
        ticket: Option<Ticket>,
        filled: Filled,
    ) -> Self {
        let ambiguous = match &source {
            sqlx::Error::Database(error) => commit_is_open(error.as_ref()),
            // Nothing was sent yet.
            sqlx::Error::Encode(_) => false,
            _ => true,
        };
        if ambiguous {
            return Self::CommitUnknown {
                source,
                ticket,
                filled,
            };
        }
        Self::refused_or_failed(source, rows)
    }

    fn refused_or_failed(error: sqlx::Error, rows: usize) -> Self {
        match Class::of_error(&error) {
            Class::Row => Self::Refused(0..rows, Refusal::by_database(error)),
            Class::Transient | Class::Fatal => Self::Database(error),
        }
    }
}

/// One try to write rows in one transaction.
pub(crate) struct Attempt<'a, DB: BulkDatabase> {
    pub(crate) plan: DB::Plan,
    pub(crate) mode: Mode,
    /// One row a statement, since the order of the rows matters.
    pub(crate) singly: bool,
    /// Where a bad row is known to be, from an attempt before.
    pub(crate) hint: Option<Range<usize>>,
    /// How many rows may be refused.
    pub(crate) room: usize,
    pub(crate) ticketing: &'a Ticketing,
    /// Told how many rows of the attempt are done.
    pub(crate) progress: &'a (dyn Fn(u64) + Send + Sync),
    /// Counts the requests.
    pub(crate) statements: &'a mut u64,
    pub(crate) phase: &'a Phase,
    /// Takes what the rows return.
    pub(crate) returned: &'a mut dyn Returned<DB>,
}

impl<DB: BulkDatabase> Attempt<'_, DB> {
    /// Writes the batch: as one statement where that is a transaction by itself, in a transaction
    /// of its own, or under a savepoint where the connection is inside one already.
    pub(crate) async fn write<R: BulkValues<DB> + Sync>(
        &mut self,
        conn: &mut <DB as Database>::Connection,
        batch: &[Indexed<'_, R>],
    ) -> Result<Filled, Ended> {
        let returns = self.returned.column().is_some();
        if returns {
            self.forget(batch);
        }
        if conn.is_in_transaction() {
            return self.in_savepoint(conn, batch).await;
        }
        let alone = !returns
            && DB::ATOMIC_ALONE
            && self.mode == Mode::Stop
            && matches!(self.ticketing, Ticketing::Off)
            && self.plan.shape().fit(batch.len()) == batch.len();
        if alone {
            let statement = DB::statement(&mut self.plan, batch).map_err(refused)?;
            if statement.rows == batch.len() {
                *self.statements += 1;
                self.phase.commits();
                let ran = DB::run_alone(conn, statement).await;
                let mut filled = Filled::default();
                return match ran {
                    Ok(affected) => {
                        filled.took(batch.len(), affected);
                        (self.progress)(filled.rows());
                        Ok(filled)
                    }
                    Err(Unfinished { error, done }) => {
                        filled.took(batch.len(), batch.len() as u64);
                        let ended = if done {
                            Ended::at_commit(error, batch.len(), None, filled)
                        } else {
                            Ended::refused_or_failed(error, batch.len())
                        };
                        if !matches!(ended, Ended::CommitUnknown { .. }) {
                            self.phase.settles();
                        }
                        Err(ended)
                    }
                };
            }
        }
        self.in_transaction(conn, batch).await
    }

    async fn in_transaction<R: BulkValues<DB> + Sync>(
        &mut self,
        conn: &mut <DB as Database>::Connection,
        batch: &[Indexed<'_, R>],
    ) -> Result<Filled, Ended> {
        let mut opening = Opening::<DB> { conn, armed: true };
        *self.statements += 1;
        let begun = DB::begin(&mut *opening.conn).await;
        opening.armed = false;
        let mut tx = begun.map_err(Ended::Database)?;
        let filled = async {
            if self.mode != Mode::Stop && DB::DEFERS_CONSTRAINTS {
                // A row must be refused at its own insert, not at the commit of all.
                self.command(&mut tx, include_str!("../sql/constraints_immediate.sql"))
                    .await?;
            }
            let ticket = ticket::<DB>(&mut tx, self.ticketing, self.statements).await?;
            Ok((self.fill(&mut tx, batch).await?, ticket))
        };
        let (filled, ticket) = match filled.await {
            Ok(filled) => filled,
            Err(ended) => {
                *self.statements += 1;
                DB::before_rollback(&mut tx).await;
                // The first error says more than one of this.
                let _ = tx.rollback().await;
                return Err(ended);
            }
        };
        *self.statements += 1;
        self.phase.commits();
        if let Err(error) = tx.commit().await {
            DB::after_failed_commit(opening.conn).await;
            let ended = Ended::at_commit(error, batch.len(), ticket, filled);
            if !matches!(ended, Ended::CommitUnknown { .. }) {
                self.phase.settles();
            }
            return Err(ended);
        }
        Ok(filled)
    }

    // Not sqlx's nested begin: dropped half way, it rolls back the caller's whole transaction and
    // lets the caller's commit succeed.
    async fn in_savepoint<R: BulkValues<DB> + Sync>(
        &mut self,
        conn: &mut <DB as Database>::Connection,
        batch: &[Indexed<'_, R>],
    ) -> Result<Filled, Ended> {
        self.command(conn, include_str!("../sql/scope_begin.sql"))
            .await?;
        let filled = self.fill(conn, batch).await;
        let end = if filled.is_ok() {
            include_str!("../sql/scope_commit.sql")
        } else {
            include_str!("../sql/scope_rollback.sql")
        };
        let ended = self.command(conn, end).await;
        match filled {
            Err(first @ Ended::Database(_)) => Err(first),
            filled => ended.and(filled),
        }
    }
}

/// What the transaction leaves behind from which its outcome can be told.
pub(crate) async fn ticket<DB: BulkDatabase>(
    conn: &mut DB::Connection,
    ticketing: &Ticketing,
    statements: &mut u64,
) -> Result<Option<Ticket>, Ended> {
    match ticketing {
        Ticketing::Off => Ok(None),
        Ticketing::Transaction => {
            *statements += 1;
            let id = DB::transaction_id(conn).await;
            let id = id.map_err(|error| {
                if is_refused_as_such(&error) {
                    Ended::NoTicket(error)
                } else {
                    Ended::Database(error)
                }
            })?;
            Ok(id.map(Ticket::Transaction))
        }
        Ticketing::Marker(table) => {
            *statements += 1;
            let id = uuid::Uuid::new_v4().simple().to_string();
            let marked = DB::mark(conn, table, &id).await;
            marked.map_err(Ended::Database)?;
            let table = Arc::clone(table);
            Ok(Some(Ticket::Marker { table, id }))
        }
    }
}

fn refused(EncodeError { offset, source }: EncodeError) -> Ended {
    Ended::Refused(offset..offset + 1, Refusal::by_encoding(source))
}

/// Holds the connection until its BEGIN is answered.
struct Opening<'c, DB: BulkDatabase> {
    conn: &'c mut DB::Connection,
    armed: bool,
}

impl<DB: BulkDatabase> Drop for Opening<'_, DB> {
    fn drop(&mut self) {
        if self.armed {
            DB::abandon_begin(self.conn);
        }
    }
}
