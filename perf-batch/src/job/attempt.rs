//! One try to write a transaction's rows, by the best way.

use sqlx::Connection;

use super::{Job, KnownOrder};
use crate::copy::CopyAttempt;
use crate::engine::{Order, Plan, PlanError, Wanted, is_refused_as_such};
use crate::order::{Indexed, sort_by_key};
use crate::phase::Phase;
use crate::report::Tally;
use crate::returned::Returned;
use crate::row::count;
use crate::source::{self, Link};
use crate::write::{Attempt, Ended, Filled, Mode};
use crate::{BatchError, BulkDatabase, BulkValues, OnRowError, Path, Table};

/// So few rows that a server takes them sooner as values of their own than as arrays: a statement of
/// one row takes Postgres 20 us less, from some dozen rows on the arrays are level.
const FEW: usize = 16;

impl Job {
    /// Tries once to write the rows in one transaction; also tells whether that is the caller's.
    pub(super) async fn attempt<DB, R>(
        &self,
        link: &mut dyn Link<DB>,
        unit: &[Indexed<'_, R>],
        given: usize,
        phase: &Phase,
        tally: &mut Tally,
        returned: &mut dyn Returned<DB>,
    ) -> (bool, Result<Filled, Ended>)
    where
        DB: BulkDatabase,
        R: BulkValues<DB> + Send + Sync,
    {
        let nested = match source::conn(link).await {
            Ok(conn) => conn.is_in_transaction(),
            Err(error) => return (false, Err(Ended::Acquire(error))),
        };
        if self.inside && !nested {
            return (nested, Err(Ended::Error(BatchError::NoTransaction)));
        }
        let written = self.attempt_on(link, unit, given, phase, tally, returned);
        (nested, written.await)
    }

    pub(super) async fn attempt_on<DB, R>(
        &self,
        link: &mut dyn Link<DB>,
        unit: &[Indexed<'_, R>],
        given: usize,
        phase: &Phase,
        tally: &mut Tally,
        returned: &mut dyn Returned<DB>,
    ) -> Result<Filled, Ended>
    where
        DB: BulkDatabase,
        R: BulkValues<DB> + Send + Sync,
    {
        let Some(sample) = sample::<DB, R>(&self.table, unit) else {
            return Ok(Filled::default());
        };
        let skip = self.on_row_error == OnRowError::Skip;
        let forced = self.path == Some(Path::Copy);
        let returns = returned.column().is_some();
        let owned = link.can_copy();
        let conn = source::conn(link).await.map_err(Ended::Acquire)?;
        let can_copy = owned && !conn.is_in_transaction();
        if forced && !can_copy {
            let reason = "COPY needs a connection of its own: pass a pool, or leave out path";
            return Err(Ended::Error(self.invalid(reason.to_owned())));
        }
        let conn = source::conn(link).await.map_err(Ended::Acquire)?;
        let exact = if self.sizes.admit(unit.len()) {
            unit.len()
        } else {
            0
        };
        let wanted = Wanted {
            table: &self.table,
            verb: &self.verb,
            path: self.path,
            exact,
            few: false,
            returning: returned.column(),
        };
        let order = if skip && unit.len() > 1 {
            let asked = self.order::<DB>(conn, &wanted, tally).await;
            asked.map_err(Ended::Database)?
        } else {
            Order::Any
        };
        let singly = order == Order::Singly;
        let ticketing = self.ticketing();
        let (decided, commits) = (tally.decided(), tally.commits);
        let progress = |done: u64| self.tell(decided, done, commits > 0, given);

        let mut hint = None;
        if can_copy && !singly && !returns {
            let copying = DB::copying(conn, &wanted, sample, unit.len()).await;
            if let Some(copying) = copying.map_err(|error| self.no_plan(error))? {
                tally.path = Path::Copy;
                let mut attempt = CopyAttempt::<DB> {
                    copying,
                    ticketing: &ticketing,
                    progress: &progress,
                    statements: &mut tally.statements,
                    phase,
                };
                match attempt.write(link, unit).await {
                    Err(Ended::Refused(at, _)) => hint = Some(at),
                    // Row-level security, a view, columns that changed: an INSERT may do.
                    Err(Ended::Database(error)) if !forced && is_refused_as_such(&error) => {
                        tracing::debug!(%error, "not by COPY");
                    }
                    ended => return ended,
                }
            }
        }

        let conn = source::conn(link).await.map_err(Ended::Acquire)?;
        let whole = exact > 0 || unit.len().is_power_of_two();
        let few = unit.len() <= FEW && whole && !singly && !returns && hint.is_none();
        let plan = DB::plan(conn, &Wanted { few, ..wanted }, sample).await;
        let plan = plan.map_err(|error| self.no_plan(error))?;
        tally.path = plan.path();
        let room = match self.on_row_error {
            OnRowError::Skip => self.skip_limit.unwrap_or(usize::MAX),
            OnRowError::Abort => 0,
        };
        tally.statements += plan.requests();
        let mut attempt = Attempt::<DB> {
            singly: singly || (returns && !plan.returns_many()),
            plan,
            mode: Mode::Stop,
            hint: None,
            room: room.saturating_sub(tally.failed.len() + tally.refused_ahead),
            ticketing: &ticketing,
            progress: &progress,
            statements: &mut tally.statements,
            phase,
            returned,
        };
        if !singly && hint.is_none() {
            let mut batch = unit.to_vec();
            let sorts = DB::LOCKS_ROWS && self.verb.meets_rows() && order == Order::Any;
            let sorted = sorts && sort_by_key::<DB, R>(&mut batch);
            let mut written = attempt.write(conn, &batch).await;
            if let Err(Ended::Unmatched) = written {
                tracing::debug!("row by row, for the values that they return");
                attempt.singly = true;
                written = attempt.write(conn, &batch).await;
            }
            let Err(Ended::Refused(at, refusal)) = written else {
                return written;
            };
            if !skip && at.len() == 1 && !sorted {
                return Err(Ended::Refused(at, refusal));
            }
            hint = (!sorted || at.len() == unit.len()).then_some(at);
        }
        if few {
            // By the way that can leave the search to the server.
            let many = Wanted {
                table: &self.table,
                verb: &self.verb,
                path: self.path,
                exact,
                few: false,
                returning: None,
            };
            let plan = DB::plan(conn, &many, sample).await;
            attempt.plan = plan.map_err(|error| self.no_plan(error))?;
        }
        tracing::debug!(rows = unit.len(), "looking for the rows that are refused");
        // Which rows are refused is a matter of the input's order, not of the key's.
        attempt.singly |= returns && attempt.plan.may_mix_up();
        attempt.hint = hint;
        attempt.mode = if skip { Mode::Skip } else { Mode::Find };
        attempt.write(conn, unit).await
    }

    /// How rows must go in, by what the database knows of the table.
    pub(super) async fn order<DB: BulkDatabase>(
        &self,
        conn: &mut DB::Connection,
        wanted: &Wanted<'_>,
        tally: &mut Tally,
    ) -> sqlx::Result<Order> {
        if let Some(known) = self.known_order.as_ref().and_then(KnownOrder::get) {
            return Ok(known);
        }
        tally.statements += 1;
        let order = DB::order(conn, wanted).await?;
        if let Some(known) = &self.known_order {
            known.set(order);
        }
        Ok(order)
    }

    pub(super) fn no_plan(&self, error: PlanError) -> Ended {
        match error {
            PlanError::Invalid(reason) => Ended::Error(self.invalid(reason)),
            PlanError::Database(error) => Ended::Database(error),
        }
    }
}

/// The first row that gives a value for each column: one that does not is refused by itself, and
/// says nothing about the others.
fn sample<'r, DB: BulkDatabase, R: BulkValues<DB>>(
    table: &Table,
    unit: &[Indexed<'r, R>],
) -> Option<&'r R> {
    let columns = table.columns().len();
    let whole = |(_, row): &&Indexed<'_, R>| count::<DB, R>(*row) == Some(columns);
    unit.iter()
        .find(whole)
        .or(unit.first())
        .map(|(_, row)| *row)
}
