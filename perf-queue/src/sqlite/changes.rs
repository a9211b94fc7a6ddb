use std::collections::HashMap;

use sqlx::SqliteConnection;
use tokio::time::{Duration, Instant};

use super::names::json;
use super::rows::{End, Place, RowId, millis};
use super::script::Script;

/// A job that has run for so long is marked as started, so that it has one attempt less if the
/// process ends before the job does. Most jobs are over before, and cost no mark.
pub(super) const MARK_AFTER: Duration = Duration::from_millis(10);

/// What the file does not know yet of jobs that it has. One entry a job at most, so this is no
/// larger than the queue even if the file cannot be written for long.
#[derive(Debug, Default)]
pub(super) struct Changes {
    done: Vec<i64>,
    updates: HashMap<i64, Update>,
    /// In the order in which they died.
    dead: Vec<Death>,
    running: HashMap<i64, Run>,
    /// Until when a penalty stops the queue, and when that was said; zero where the file knows.
    hold: [i64; 2],
    /// Running jobs without a mark, in the order in which they started.
    unmarked: std::collections::VecDeque<(i64, Instant)>,
}

#[derive(Debug, Default)]
struct Update {
    attempt: Option<u32>,
    due: Option<i64>,
    place: Option<i64>,
    started: bool,
    errors: Vec<String>,
}

#[derive(Debug)]
struct Death {
    row: i64,
    attempts: Option<u32>,
    at: i64,
    errors: Vec<String>,
}

#[derive(Debug)]
struct Run {
    since: Instant,
    /// The file has it marked as started, or may have.
    marked: bool,
}

/// What became of dead letters.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Buried {
    pub(super) added: u64,
    /// For lack of room.
    pub(super) dropped: u64,
}

impl Changes {
    pub(super) fn started(&mut self, row: RowId, since: Instant) {
        let run = Run {
            since,
            marked: false,
        };
        self.running.insert(row.0, run);
        self.unmarked.push_back((row.0, since));
    }

    /// `now` is the wall clock's when the job ended.
    pub(super) fn ended(&mut self, row: RowId, end: End, now: i64) {
        let RowId(row) = row;
        let marked = self.running.remove(&row).is_some_and(|run| run.marked);
        match end {
            End::Done => {
                if !self.updates.is_empty() {
                    self.updates.remove(&row);
                }
                self.done.push(row);
            }
            End::Retry {
                attempt,
                after,
                place,
                error,
            } => {
                let update = self.put_back(row, now, after, place);
                update.attempt = Some(attempt);
                push_error(&mut update.errors, error);
            }
            End::Snooze { after, place } => {
                self.put_back(row, now, after, place);
            }
            End::Dead { error } => {
                let update = self.updates.remove(&row).unwrap_or_default();
                let mut errors = update.errors;
                push_error(&mut errors, error);
                self.dead.push(Death {
                    row,
                    attempts: update.attempt,
                    at: now,
                    errors,
                });
            }
            End::Released => {
                if marked {
                    self.updates.entry(row).or_default().started = false;
                }
            }
        }
    }

    fn put_back(&mut self, row: i64, now: i64, after: Duration, place: Place) -> &mut Update {
        let due = now.saturating_add(millis(after));
        if place == Place::HoldsAll {
            self.hold = self.hold.max([due, now]);
        }
        let update = self.updates.entry(row).or_default();
        update.due = Some(due);
        update.started = false;
        if place == Place::Rejoins {
            update.place = Some(due);
        }
        update
    }

    /// Marks a job that starts.
    pub(super) fn mark_at_once(&mut self, row: RowId, since: Instant) {
        let run = Run {
            since,
            marked: true,
        };
        self.running.insert(row.0, run);
        self.updates.entry(row.0).or_default().started = true;
    }

    /// Marks jobs that have run for a while.
    pub(super) fn mark(&mut self, now: Instant) {
        while let Some((row, since)) = self.unmarked.front().copied() {
            let run = self.running.get_mut(&row);
            let run = run.filter(|run| run.since == since && !run.marked);
            if run.is_some() && now < since + MARK_AFTER {
                return;
            }
            self.unmarked.pop_front();
            if let Some(run) = run {
                run.marked = true;
                self.updates.entry(row).or_default().started = true;
            }
        }
    }

    /// When the next job needs a mark, if it still runs then.
    pub(super) fn next_mark(&self) -> Option<Instant> {
        self.unmarked.front().map(|(_, since)| *since + MARK_AFTER)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.done.is_empty()
            && self.updates.is_empty()
            && self.dead.is_empty()
            && self.hold == [0; 2]
    }

    /// How many jobs there is something to write about.
    pub(super) fn len(&self) -> usize {
        self.done.len() + self.updates.len() + self.dead.len()
    }

    /// Writes all, some of it when the script is run. It can be written a second time if it is unknown
    /// whether the first did.
    pub(super) async fn write(
        &self,
        conn: &mut SqliteConnection,
        script: &mut Script,
        queue: i64,
        dead_letters: usize,
    ) -> sqlx::Result<Buried> {
        if self.hold > [0; 2] {
            let [until, said] = self.hold;
            script.statement(include_str!("sql/set_hold.sql"));
            script.bind(queue)?;
            script.bind(until)?;
            script.bind(said)?;
        }
        if !self.updates.is_empty() {
            let updates: Vec<_> = self.updates.iter().map(as_json).collect();
            script.statement(include_str!("sql/update.sql"));
            script.bind(json(&updates)?)?;
        }
        if !self.done.is_empty() {
            script.statement(include_str!("sql/delete.sql"));
            script.bind(json(&self.done)?)?;
        }
        if self.dead.is_empty() {
            return Ok(Buried::default());
        }
        script.run(conn).await?;
        self.bury(conn, queue, dead_letters).await
    }

    async fn bury(
        &self,
        conn: &mut SqliteConnection,
        queue: i64,
        dead_letters: usize,
    ) -> sqlx::Result<Buried> {
        let dead: Vec<_> = self.dead.iter().map(Death::as_json).collect();
        let dead = json(&dead)?;
        let buried = sqlx::query(include_str!("sql/bury.sql"))
            .bind(&dead)
            .execute(&mut *conn)
            .await?;
        sqlx::query(include_str!("sql/delete_buried.sql"))
            .bind(&dead)
            .execute(&mut *conn)
            .await?;
        let trimmed = sqlx::query(include_str!("sql/trim_dead.sql"))
            .bind(queue)
            .bind(i64::try_from(dead_letters).unwrap_or(i64::MAX))
            .execute(&mut *conn)
            .await?;
        Ok(Buried {
            added: buried.rows_affected(),
            dropped: trimmed.rows_affected(),
        })
    }

    /// All is in the file.
    pub(super) fn written(&mut self) {
        self.done.clear();
        self.updates.clear();
        self.dead.clear();
        self.hold = [0; 2];
    }
}

/// Of a job that fails again and again while the file cannot be written, the last ten are kept.
fn push_error(errors: &mut Vec<String>, error: String) {
    if errors.len() >= 10 {
        errors.remove(0);
    }
    errors.push(error);
}

fn as_json((row, update): (&i64, &Update)) -> serde_json::Value {
    serde_json::json!([
        row,
        update.attempt,
        update.due,
        update.place,
        update.started,
        update.errors,
    ])
}

impl Death {
    fn as_json(&self) -> serde_json::Value {
        serde_json::json!([self.row, self.attempts, self.at, self.errors])
    }
}
