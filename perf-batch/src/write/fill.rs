//! The statements of one transaction, and the search for the rows that they refuse.

use std::ops::Range;

use sqlx::Database;

use crate::BulkValues;
use crate::engine::{BulkDatabase, Class, EncodeError, How, Plan, Refusal, Statement, savepoint};
use crate::order::Indexed;
use crate::pieces::{Pieces, Shape};

use super::{Attempt, Ended, Filled, Mode};

impl<DB: BulkDatabase> Attempt<'_, DB> {
    /// Writes the batch statement by statement.
    pub(super) async fn fill<R: BulkValues<DB> + Sync>(
        &mut self,
        conn: &mut <DB as Database>::Connection,
        batch: &[Indexed<'_, R>],
    ) -> Result<Filled, Ended> {
        let mut filled = Filled::default();
        if self.mode == Mode::Stop && !(self.singly && self.plan.calls()) {
            let hint = self.hint.take();
            if hint.is_none() && !self.singly && self.returned.column().is_none() {
                self.straight(conn, batch, &mut filled).await?;
            } else {
                self.piece_by_piece(conn, batch, hint, &mut filled).await?;
            }
            return Ok(filled);
        }
        self.command(conn, savepoint::SET).await?;
        if self.plan.calls() {
            self.call_by_call(conn, batch, &mut filled).await?;
            DB::tidy(conn, &mut self.plan)
                .await
                .map_err(Ended::Database)?;
        } else {
            let hint = self.hint.take();
            self.piece_by_piece(conn, batch, hint, &mut filled).await?;
        }
        self.command(conn, savepoint::RELEASE).await?;
        Ok(filled)
    }

    /// Chunk by chunk; the server looks for the bad rows of a chunk that it refused.
    pub(super) async fn call_by_call<R: BulkValues<DB> + Sync>(
        &mut self,
        conn: &mut <DB as Database>::Connection,
        batch: &[Indexed<'_, R>],
        filled: &mut Filled,
    ) -> Result<(), Ended> {
        let hint = self.hint.clone().unwrap_or_default();
        let mut start = 0;
        while start < batch.len() {
            let end = batch.len().min(start + self.plan.shape().max_rows);
            let mut rows = batch.get(start..end).unwrap_or_default();
            let mut suspect = !hint.is_empty() && start <= hint.start && hint.end <= end;
            if !self.singly && !suspect {
                // A row that cannot be encoded is found by the call.
                if let Ok(statement) = DB::statement(&mut self.plan, rows) {
                    rows = rows.get(..statement.rows).unwrap_or(rows);
                    *self.statements += 1;
                    match DB::run(conn, statement).await {
                        Ok(affected) => {
                            filled.took(rows.len(), affected);
                            start += rows.len();
                            self.command(conn, savepoint::ADVANCE).await?;
                            (self.progress)(filled.rows());
                            continue;
                        }
                        Err(error) if Class::of_error(&error) == Class::Row => {
                            self.command(conn, savepoint::RETREAT).await?;
                            suspect = true;
                        }
                        Err(error) => return Err(Ended::Database(error)),
                    }
                }
            }
            let how = How {
                singly: self.singly,
                suspect,
                room: self.room.saturating_sub(filled.failed.len()),
            };
            *self.statements += 1;
            let returned = &mut *self.returned;
            let mut told = |at: usize, row: &DB::Row, column: usize| match rows.get(at) {
                Some((index, _)) => returned.put(*index, row, column),
                None => Ok(()),
            };
            match DB::call(conn, &mut self.plan, rows, how, &mut told).await {
                Ok(called) => {
                    rows = rows.get(..called.taken).unwrap_or(rows);
                    let went = rows.len().saturating_sub(called.failed.len());
                    for (at, refusal) in called.failed {
                        self.refuse(batch, start + at, refusal, filled)?;
                    }
                    filled.took(went, called.affected);
                    self.command(conn, savepoint::ADVANCE).await?;
                }
                Err(error) if Class::of_error(&error) == Class::Transient => {
                    return Err(Ended::Database(error));
                }
                // No right to make a temporary function, or rows that cannot even be sent.
                Err(error) => {
                    tracing::debug!(%error, "looking for the bad rows statement by statement");
                    self.command(conn, savepoint::RETREAT).await?;
                    let hint = how.suspect.then_some(0..rows.len());
                    let offset = start;
                    self.piece_by_piece_from(
                        conn,
                        batch,
                        offset..offset + rows.len(),
                        hint,
                        filled,
                    )
                    .await?;
                }
            }
            start += rows.len();
            (self.progress)(filled.rows());
        }
        Ok(())
    }

    pub(super) async fn piece_by_piece<R: BulkValues<DB> + Sync>(
        &mut self,
        conn: &mut <DB as Database>::Connection,
        batch: &[Indexed<'_, R>],
        hint: Option<Range<usize>>,
        filled: &mut Filled,
    ) -> Result<(), Ended> {
        self.piece_by_piece_from(conn, batch, 0..batch.len(), hint, filled)
            .await
    }

    /// Writes a range of the batch, closing in on the rows that are refused.
    pub(super) async fn piece_by_piece_from<R: BulkValues<DB> + Sync>(
        &mut self,
        conn: &mut <DB as Database>::Connection,
        batch: &[Indexed<'_, R>],
        of: Range<usize>,
        hint: Option<Range<usize>>,
        filled: &mut Filled,
    ) -> Result<(), Ended> {
        let guarded = self.mode != Mode::Stop;
        let mut shape = self.plan.shape();
        if self.singly {
            shape = Shape {
                max_rows: 1,
                exact: 0,
                ..shape
            };
        }
        let mut pieces = Pieces::new(of.len(), shape, hint);
        while let Some(range) = pieces.next() {
            let at = of.start + range.start;
            let rows = batch.get(at..at + range.len()).unwrap_or_default();
            let (range, refusal) = match DB::statement(&mut self.plan, rows) {
                Ok(statement) => {
                    let range = pieces.shorten(statement.rows);
                    *self.statements += 1;
                    match self.run(conn, statement, rows).await {
                        Ok(affected) => {
                            filled.took(range.len(), affected);
                            pieces.went_in();
                            if guarded {
                                self.command(conn, savepoint::ADVANCE).await?;
                            }
                            (self.progress)(filled.rows());
                            continue;
                        }
                        Err(Ended::Database(error)) if Class::of_error(&error) == Class::Row => {
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
                        Err(ended) => return Err(ended),
                    }
                }
                Err(EncodeError { offset, source }) => {
                    pieces.bad_in_itself(offset);
                    let at = range.start + offset;
                    (at..at + 1, Refusal::by_encoding(source))
                }
            };
            if self.mode == Mode::Stop {
                let (start, end) = (of.start + range.start, of.start + range.end);
                return Err(Ended::Refused(start..end, refusal));
            }
            self.refuse(batch, of.start + range.start, refusal, filled)?;
        }
        Ok(())
    }

    /// Runs a statement about the rows, and takes what they return.
    pub(super) async fn run<R: BulkValues<DB> + Sync>(
        &mut self,
        conn: &mut <DB as Database>::Connection,
        statement: Statement<DB>,
        rows: &[Indexed<'_, R>],
    ) -> Result<u64, Ended> {
        if self.returned.column().is_none() {
            return DB::run(conn, statement).await.map_err(Ended::Database);
        }
        let returned = &mut *self.returned;
        let mut told = |at: usize, row: &DB::Row, column: usize| match rows.get(at) {
            Some((index, _)) => returned.put(*index, row, column),
            None => Ok(()),
        };
        let fetched = DB::fetch(conn, statement, &mut told).await;
        if fetched.is_err() {
            self.forget(rows);
        }
        fetched.map_err(Ended::Database)?.ok_or(Ended::Unmatched)
    }

    /// What the rows returned is rolled back.
    pub(super) fn forget<R>(&mut self, rows: &[Indexed<'_, R>]) {
        for (index, _) in rows {
            self.returned.clear(*index);
        }
    }

    /// The row at this place of the batch was refused.
    #[expect(
        clippy::result_large_err,
        reason = "one is made for a failed transaction"
    )]
    pub(super) fn refuse<R>(
        &self,
        batch: &[Indexed<'_, R>],
        at: usize,
        refusal: Refusal,
        filled: &mut Filled,
    ) -> Result<(), Ended> {
        if self.mode != Mode::Skip {
            return Err(Ended::Refused(at..at + 1, refusal));
        }
        let row = batch.get(at).map_or(at, |row| row.0);
        filled.failed.push((row, refusal));
        if filled.failed.len() > self.room {
            return Err(Ended::TooMany(std::mem::take(&mut filled.failed)));
        }
        Ok(())
    }

    pub(super) async fn command(
        &mut self,
        conn: &mut <DB as Database>::Connection,
        sql: &'static str,
    ) -> Result<(), Ended> {
        *self.statements += 1;
        DB::command(conn, sql).await.map_err(Ended::Database)
    }
}
