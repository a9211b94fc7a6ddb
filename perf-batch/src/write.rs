//! One batch in one transaction.

use std::ops::Range;

use sqlx::{Connection, Database};

use crate::batcher::Phase;
use crate::engine::{BulkDatabase, Class, EncodeError, Plan, Refusal, commit_is_open, savepoint};
use crate::order::Indexed;
use crate::pieces::Pieces;
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

/// Why an attempt ended without a commit.
#[derive(Debug)]
pub(crate) enum Ended {
    /// A row among these positions of the batch was refused.
    Refused(Range<usize>, Refusal),
    /// Anything but a row's fault.
    Database(sqlx::Error),
    /// The commit's answer did not come.
    CommitUnknown(sqlx::Error),
}

impl Ended {
    /// After a COMMIT that failed: only the database's own refusal says that nothing was written.
    pub(crate) fn at_commit(error: sqlx::Error, rows: usize) -> Self {
        let ambiguous = match &error {
            sqlx::Error::Database(error) => commit_is_open(error.as_ref()),
            _ => true,
        };
        if ambiguous {
            return Self::CommitUnknown(error);
        }
        match Class::of_error(&error) {
            Class::Row => Self::Refused(0..rows, Refusal::by_database(error)),
            Class::Transient | Class::Fatal => Self::Database(error),
        }
    }

    /// The error for the caller, with positions of the input.
    pub(crate) fn into_error<R>(self, batch: &[Indexed<'_, R>], rows: usize) -> BatchError {
        match self {
            Self::Database(source) => BatchError::Database { rows, source },
            Self::CommitUnknown(source) => BatchError::CommitUnknown { rows, source },
            Self::Refused(range, refusal) => {
                let indices = batch.get(range).unwrap_or_default().iter().map(|row| row.0);
                let first = indices.clone().min().unwrap_or_default();
                let last = indices.max().unwrap_or_default();
                if first == last {
                    return BatchError::row(first, refusal);
                }
                BatchError::Range {
                    first,
                    last,
                    source: refusal.source,
                }
            }
        }
    }
}

/// One try to write a batch.
pub(crate) struct Attempt<'a, DB: BulkDatabase> {
    pub(crate) plan: &'a mut DB::Plan,
    pub(crate) mode: Mode,
    /// Positions in the batch among which an attempt before met a bad row.
    pub(crate) hint: Option<Range<usize>>,
    pub(crate) statements: &'a mut u64,
    /// Tells whoever drops the future how far the attempt had come.
    pub(crate) phase: &'a Phase,
}

impl<DB: BulkDatabase> Attempt<'_, DB> {
    /// Writes the batch in a transaction of its own, or, on a connection that is in one already,
    /// under a savepoint of that. Anything but `Ok` leaves nothing written.
    pub(crate) async fn write<R: BulkValues<DB> + Sync>(
        &mut self,
        conn: &mut <DB as Database>::Connection,
        batch: &[Indexed<'_, R>],
    ) -> Result<Filled, Ended> {
        if conn.is_in_transaction() {
            self.in_savepoint(conn, batch).await
        } else {
            self.in_transaction(conn, batch).await
        }
    }

    async fn in_transaction<R: BulkValues<DB> + Sync>(
        &mut self,
        conn: &mut <DB as Database>::Connection,
        batch: &[Indexed<'_, R>],
    ) -> Result<Filled, Ended> {
        self.phase.before();
        let mut opening = Opening::<DB> { conn, armed: true };
        *self.statements += 1;
        let begun = DB::begin(&mut *opening.conn).await;
        opening.armed = false;
        let mut tx = begun.map_err(Ended::Database)?;
        if self.mode != Mode::Stop && DB::DEFERS_CONSTRAINTS {
            // A row must be refused at its own insert, not at the commit of all.
            self.command(&mut tx, include_str!("sql/constraints_immediate.sql"))
                .await?;
        }
        let filled = self.fill(&mut tx, batch).await;
        *self.statements += 1;
        if filled.is_err() {
            DB::before_rollback(&mut tx).await;
            // The first error says more than one of this.
            let _ = tx.rollback().await;
            return filled;
        }
        self.phase.committing();
        if let Err(error) = tx.commit().await {
            DB::after_failed_commit(opening.conn).await;
            return Err(Ended::at_commit(error, batch.len()));
        }
        filled
    }

    // Not sqlx's nested begin: dropped half way, it rolls back the caller's whole transaction and
    // lets the caller's commit succeed.
    async fn in_savepoint<R: BulkValues<DB> + Sync>(
        &mut self,
        conn: &mut <DB as Database>::Connection,
        batch: &[Indexed<'_, R>],
    ) -> Result<Filled, Ended> {
        self.command(conn, include_str!("sql/scope_begin.sql"))
            .await?;
        let filled = self.fill(conn, batch).await;
        let end = if filled.is_ok() {
            include_str!("sql/scope_commit.sql")
        } else {
            include_str!("sql/scope_rollback.sql")
        };
        let ended = self.command(conn, end).await;
        match filled {
            Err(first @ Ended::Database(_)) => Err(first),
            filled => ended.and(filled),
        }
    }

    /// Inserts the batch piece by piece.
    async fn fill<R: BulkValues<DB> + Sync>(
        &mut self,
        conn: &mut <DB as Database>::Connection,
        batch: &[Indexed<'_, R>],
    ) -> Result<Filled, Ended> {
        let mut filled = Filled::default();
        let mut pieces = Pieces::new(batch.len(), self.plan.shape(), self.hint.clone());
        let guarded = self.mode != Mode::Stop;
        if guarded {
            self.command(conn, savepoint::SET).await?;
        }
        while let Some(range) = pieces.next() {
            let rows = batch.get(range.clone()).unwrap_or_default();
            let (range, refusal) = match DB::statement(self.plan, rows) {
                Ok(statement) => {
                    let range = pieces.shorten(statement.rows);
                    *self.statements += 1;
                    match DB::insert(conn, statement).await {
                        Ok(affected) => {
                            let given = range.len() as u64;
                            let written = affected.min(given);
                            filled.written += written;
                            filled.ignored += given - written;
                            pieces.went_in();
                            if guarded && !pieces.is_empty() {
                                self.command(conn, savepoint::ADVANCE).await?;
                            }
                            continue;
                        }
                        Err(error) if Class::of_error(&error) == Class::Row => {
                            if guarded {
                                self.command(conn, savepoint::RETREAT).await?;
                                if range.len() > 1 {
                                    pieces.split();
                                    continue;
                                }
                                pieces.refused();
                            }
                            (range, Refusal::by_database(error))
                        }
                        Err(error) => return Err(Ended::Database(error)),
                    }
                }
                Err(EncodeError { offset, source }) => {
                    pieces.bad_in_itself(offset);
                    let at = range.start + offset;
                    (at..at + 1, Refusal::by_encoding(source))
                }
            };
            if self.mode != Mode::Skip {
                return Err(Ended::Refused(range, refusal));
            }
            let row = batch.get(range.start).map_or(range.start, |row| row.0);
            filled.failed.push((row, refusal));
        }
        if guarded {
            self.command(conn, savepoint::RELEASE).await?;
        }
        Ok(filled)
    }

    async fn command(
        &mut self,
        conn: &mut <DB as Database>::Connection,
        sql: &'static str,
    ) -> Result<(), Ended> {
        *self.statements += 1;
        DB::command(conn, sql).await.map_err(Ended::Database)
    }
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
